//! What operators show on their own listener.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use domain::secret::Secret;

use crate::digest::sha256;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpsToken(Secret<String>);

impl OpsToken {
    pub const fn new(text: Secret<String>) -> Self {
        Self(text)
    }

    /// Whether `shown` is this token; takes as long whatever of it is right.
    pub fn admits(&self, shown: &str) -> bool {
        // Digests, so that not even the length tells.
        verify_slices_are_equal(&sha256(self.0.reveal()), &sha256(shown)).is_ok()
    }

    /// For who shows it, and for who judges whether it is a good one.
    pub const fn secret(&self) -> &Secret<String> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_admitted() {
        let token = OpsToken::new(Secret::new("Zk7rQ2vX9mB4".to_owned()));
        assert!(token.admits("Zk7rQ2vX9mB4"));
        for shown in ["", "Zk7rQ2vX9mB", "Zk7rQ2vX9mB44", "zk7rQ2vX9mB4", " Zk7rQ2vX9mB4"] {
            assert!(!token.admits(shown), "{shown:?}");
        }
        assert_eq!(format!("{token:?}"), "OpsToken([secret])");
    }
}
