//! When a generation of signing keys signs, verifies, and is retired (A9).
//!
//! ```text
//! created ──lead──▶ signs ── until a later one signs ──▶ verifies ── until none of its tokens lives ──▶ retired
//! ```
//!
//! The lead lets every verifier learn of a key before it meets a token of it: our own instances by their polls, others
//! by fetching `/.well-known/jwks.json` anew.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use domain::signing_key::{SigningAlgorithm, SigningKey};

use super::access_token::LEEWAY_SECONDS;

/// An instance may miss two polls and still know a key in time.
pub(super) const POLLS_OF_LEAD: u32 = 3;

/// What a key is good for at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It will sign; tokens of it are accepted already.
    Next,
    Signing,
    /// Only tokens that it has signed are accepted.
    Verifying,
    /// No token of it can be alive, and none is accepted.
    Retired,
    /// Another master secret made it: here it neither signs nor verifies.
    Foreign,
}

impl KeyState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Signing => "signing",
            Self::Verifying => "verifying",
            Self::Retired => "retired",
            Self::Foreign => "foreign",
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct KeyTimes {
    pub(super) access_ttl: Duration,
    /// Time between two looks at the list of generations.
    pub(super) poll: Duration,
    /// How long others may keep our public keys without asking again.
    pub(super) jwks_max_age: Duration,
}

impl KeyTimes {
    /// When a key that is made now begins to sign.
    pub(super) fn signs_from(&self, algorithm: SigningAlgorithm, now: DateTime<Utc>) -> DateTime<Utc> {
        let lead = self.poll * POLLS_OF_LEAD;
        now + match algorithm {
            SigningAlgorithm::Hs256 => lead,
            SigningAlgorithm::EdDsa => lead + self.jwks_max_age,
        }
    }

    /// When the key at `index` is retired; `None` as long as nothing is to succeed it. `keys` are oldest first.
    pub(super) fn retired_from(&self, keys: &[SigningKey], index: usize) -> Option<DateTime<Utc>> {
        let succeeded = keys.get(index + 1..)?.iter().map(|key| key.signs_from).min()?;
        Some(succeeded + self.access_ttl + self.jwks_max_age + TimeDelta::seconds(LEEWAY_SECONDS))
    }

    /// What the key at `index` is good for; `keys` are all of our secret, oldest first.
    pub(super) fn state(&self, keys: &[SigningKey], index: usize, now: DateTime<Utc>) -> KeyState {
        let signing = signing(keys, now, |key| key.signs_from);
        if self.retired_from(keys, index).is_some_and(|retired| retired <= now) {
            KeyState::Retired
        } else if signing.is_some_and(|signing| index < signing) {
            KeyState::Verifying
        } else if signing == Some(index) {
            KeyState::Signing
        } else {
            KeyState::Next
        }
    }
}

/// Which key signs now: the newest that may. A clock that is behind the first one's maker uses it all the same.
pub(super) fn signing<K>(
    keys: &[K],
    now: DateTime<Utc>,
    signs_from: impl Fn(&K) -> DateTime<Utc>,
) -> Option<usize> {
    keys.iter().rposition(|key| signs_from(key) <= now).or_else(|| (!keys.is_empty()).then_some(0))
}

#[cfg(test)]
mod tests {
    use SigningAlgorithm::{EdDsa, Hs256};

    use super::*;

    const TIMES: KeyTimes = KeyTimes {
        access_ttl: Duration::from_secs(900),
        poll: Duration::from_secs(5),
        jwks_max_age: Duration::from_secs(600),
    };

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn key(generation: u32, signs_from: i64) -> SigningKey {
        let kid = generation.to_string();
        SigningKey { generation, algorithm: Hs256, kid, created_at: at(0), signs_from: at(signs_from) }
    }

    fn states(keys: &[SigningKey], now: i64) -> Vec<&'static str> {
        (0..keys.len()).map(|index| TIMES.state(keys, index, at(now)).as_str()).collect()
    }

    #[test]
    fn a09_a_key_signs_only_after_every_verifier_can_know_it() {
        assert_eq!(TIMES.signs_from(Hs256, at(0)), at(15));
        assert_eq!(TIMES.signs_from(EdDsa, at(0)), at(615));
    }

    #[test]
    fn a09_a_key_is_retired_no_sooner_than_its_last_token_and_every_copy_of_its_public_half() {
        let keys = [key(1, 0), key(2, 100)];
        for (now, expected) in [
            (99, ["signing", "next"]),
            (100, ["verifying", "signing"]),
            (100 + 900 + 600 + 29, ["verifying", "signing"]),
            (100 + 900 + 600 + 30, ["retired", "signing"]),
        ] {
            assert_eq!(states(&keys, now), expected, "at {now}");
        }
    }

    #[test]
    fn a09_a_later_key_that_signs_sooner_passes_the_one_before_it() {
        let keys = [key(1, 0), key(2, 700), key(3, 100)];
        assert_eq!(states(&keys, 50), ["signing", "next", "next"]);
        assert_eq!(states(&keys, 100), ["verifying", "verifying", "signing"]);
        assert_eq!(states(&keys, 800), ["verifying", "verifying", "signing"]);
        assert_eq!(states(&keys, 1_630), ["retired", "retired", "signing"]);
    }

    #[test]
    fn a09_the_first_key_signs_even_by_a_clock_that_is_behind() {
        assert_eq!(states(&[key(1, 10)], 0), ["signing"]);
        assert_eq!(states(&[], 0), [""; 0]);
    }
}
