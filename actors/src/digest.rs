//! What stands for bytes: their SHA-256, and their hexadecimal digits.

use aws_lc_rs::digest::{SHA256, digest};

/// Of a secret that was drawn at random it is the whole of what is kept: nothing shorter stands for it (A15).
pub(crate) fn sha256(bytes: impl AsRef<[u8]>) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes.as_ref()).as_ref());
    hash
}

pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of FIPS 180-2, appendix B.1.
    #[test]
    fn a_hash_is_the_one_that_everybody_makes() {
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(sha256("abc")), known);
    }
}
