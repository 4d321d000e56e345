//! argon2id over memory that is used again and again.
//!
//! One hash works in some 19 MiB. Taking that afresh each time costs thousands of page faults and leaves it to the
//! allocator when, if ever, the memory goes back; an [`Oven`] keeps it, so the room's footprint is its workers'.

use std::hint::black_box;

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Output, ParamsString, PasswordHash as Phc, Salt},
};
use aws_lc_rs::rand;
use domain::{account::PasswordHash, password::Password, secret::Secret};

use super::{
    Verified,
    config::{HASH_BYTES, HashCost},
};

const SALT_BYTES: usize = 16;

/// What is hashed with when there is no account.
const NOBODYS_SALT: [u8; SALT_BYTES] = *b"nobody has this.";

/// The hash could not be made or read; the text is for the log and holds nothing of either.
#[derive(Debug, thiserror::Error)]
pub(super) enum HashError {
    #[error("argon2 refused: {0}")]
    Argon(#[from] argon2::Error),
    #[error("a stored hash is damaged or out of bounds: {0}")]
    Stored(String),
    #[error("no randomness")]
    Randomness,
}

impl From<argon2::password_hash::phc::Error> for HashError {
    fn from(error: argon2::password_hash::phc::Error) -> Self {
        Self::Stored(error.to_string())
    }
}

/// The working memory of one hash at a time.
pub(super) struct Oven {
    /// Of new hashes, and of nobody's.
    cost: HashCost,
    blocks: Vec<Block>,
}

impl Oven {
    pub(super) const fn new(cost: HashCost) -> Self {
        Self { cost, blocks: Vec::new() }
    }

    /// Hashes with a fresh salt and the oven's cost.
    pub(super) fn hash(&mut self, password: &Password) -> Result<PasswordHash, HashError> {
        let params = self.cost.params()?;
        let mut salt = [0; SALT_BYTES];
        rand::fill(&mut salt).map_err(|_| HashError::Randomness)?;
        let salt = Salt::new(&salt)?;
        let hash = self.digest(Algorithm::Argon2id, Version::V0x13, params.clone(), password, &salt)?;
        let phc = Phc {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&params).map_err(|e| HashError::Stored(e.to_string()))?,
            salt: Some(salt),
            hash: Some(hash),
        };
        Ok(Secret::new(phc.to_string()))
    }

    /// Compares in constant time; without a hash it does the same work and says no.
    pub(super) fn verify(
        &mut self,
        password: &Password,
        stored: Option<&PasswordHash>,
    ) -> Result<Verified, HashError> {
        let Some(stored) = stored else {
            let (params, salt) = (self.cost.params()?, Salt::new(&NOBODYS_SALT)?);
            // Looked at by nobody, but never left out (A5).
            black_box(self.digest(Algorithm::Argon2id, Version::V0x13, params, password, &salt)?);
            return Ok(Verified { matches: false, is_stale: false });
        };
        let phc = Phc::new(stored.reveal().as_str())?;
        let algorithm = Algorithm::try_from(phc.algorithm.as_str())
            .map_err(|error| HashError::Stored(error.to_string()))?;
        let version = phc.version.map_or(Ok(Version::V0x10), Version::try_from)?;
        let params = Params::try_from(&phc).map_err(|error| HashError::Stored(error.to_string()))?;
        let cost = HashCost::from(&params);
        if cost.is_absurd() {
            return Err(HashError::Stored("its cost is out of bounds".to_owned()));
        }
        let (Some(salt), Some(expected)) = (phc.salt, phc.hash) else {
            return Err(HashError::Stored("no salt or no hash".to_owned()));
        };
        let is_stale = algorithm != Algorithm::Argon2id
            || version != Version::V0x13
            || cost.is_weaker_than(self.cost)
            || salt.as_ref().len() < SALT_BYTES
            || expected.len() < HASH_BYTES;
        // `Output` compares in constant time.
        let matches = self.digest(algorithm, version, params, password, &salt)? == expected;
        Ok(Verified { matches, is_stale })
    }

    fn digest(
        &mut self,
        algorithm: Algorithm,
        version: Version,
        params: Params,
        password: &Password,
        salt: &Salt,
    ) -> Result<Output, HashError> {
        let mut hash = [0; Output::MAX_LENGTH];
        let length = params.output_len().unwrap_or(HASH_BYTES);
        let hash = hash.get_mut(..length).ok_or(argon2::Error::OutputTooLong)?;
        // A foreign hash may have needed more: keep the usual size, not the largest ever seen.
        self.blocks.resize(params.block_count(), Block::new());
        self.blocks.shrink_to(self.cost.params()?.block_count());
        Argon2::new(algorithm, version, params).hash_password_into_with_memory(
            password.reveal().as_bytes(),
            salt,
            hash,
            &mut self.blocks,
        )?;
        Ok(Output::new(hash)?)
    }
}

#[cfg(test)]
mod tests {
    use argon2::{PasswordHasher, PasswordVerifier};

    use super::*;

    const STRONGER: HashCost = HashCost { memory_kib: 24_576, passes: 3, lanes: 2 };

    fn oven() -> Oven {
        Oven::new(HashCost::default())
    }

    fn password(text: &str) -> Password {
        Secret::new(text.to_owned())
    }

    /// What the library alone makes of it, with memory of its own.
    fn independent(memory: u32, passes: u32, lanes: u32, text: &str) -> PasswordHash {
        let params = Params::new(memory, passes, lanes, None).unwrap();
        Secret::new(Argon2::from(params).hash_password(text.as_bytes()).unwrap().to_string())
    }

    #[test]
    fn a3_hashes_are_argon2id_of_owasps_cost_and_a_fresh_salt() {
        let mut oven = oven();
        let one = oven.hash(&password("correct horse")).unwrap();
        let two = oven.hash(&password("correct horse")).unwrap();
        assert!(one.reveal().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", one.reveal());
        assert_ne!(one, two);
        assert_eq!(Phc::new(one.reveal()).unwrap().salt.unwrap().as_ref().len(), SALT_BYTES);
    }

    #[test]
    fn used_memory_changes_no_hash() {
        let mut oven = oven();
        for round in 0..3 {
            let text = format!("round {round} of many");
            let hash = oven.hash(&password(&text)).unwrap();
            Argon2::default().verify_password(text.as_bytes(), hash.reveal().as_str()).unwrap();
            let foreign = independent(19_456, 2, 1, &text);
            assert_eq!(
                oven.verify(&password(&text), Some(&foreign)).unwrap(),
                Verified { matches: true, is_stale: false }
            );
            assert!(!oven.verify(&password("another"), Some(&foreign)).unwrap().matches);
        }
    }

    #[test]
    fn a1_passwords_equal_in_their_first_72_bytes_are_not_interchangeable() {
        let mut oven = oven();
        let stem = "s".repeat(72);
        let hash = oven.hash(&password(&format!("{stem}a"))).unwrap();
        assert!(oven.verify(&password(&format!("{stem}a")), Some(&hash)).unwrap().matches);
        assert!(!oven.verify(&password(&format!("{stem}b")), Some(&hash)).unwrap().matches);
    }

    #[test]
    fn a3_weaker_parameters_still_verify_and_are_stale() {
        let mut oven = oven();
        for (memory, passes) in [(8_192, 2), (19_456, 1)] {
            let weak = independent(memory, passes, 1, "correct horse");
            let verified = oven.verify(&password("correct horse"), Some(&weak)).unwrap();
            assert_eq!(verified, Verified { matches: true, is_stale: true });
        }
        let strong = independent(32_768, 3, 2, "correct horse");
        let verified = oven.verify(&password("correct horse"), Some(&strong)).unwrap();
        assert_eq!(verified, Verified { matches: true, is_stale: false });
    }

    #[test]
    fn a3_the_configured_cost_is_that_of_new_hashes_and_makes_weaker_ones_stale() {
        let usual = oven().hash(&password("correct horse")).unwrap();
        let mut oven = Oven::new(STRONGER);
        let verified = oven.verify(&password("correct horse"), Some(&usual)).unwrap();
        assert_eq!(verified, Verified { matches: true, is_stale: true });
        let hash = oven.hash(&password("correct horse")).unwrap();
        assert!(hash.reveal().starts_with("$argon2id$v=19$m=24576,t=3,p=2$"), "{}", hash.reveal());
        let verified = oven.verify(&password("correct horse"), Some(&hash)).unwrap();
        assert_eq!(verified, Verified { matches: true, is_stale: false });
    }

    #[test]
    fn a5_nobodys_hash_works_in_the_memory_of_a_fresh_hash_and_never_matches() {
        for cost in [HashCost::default(), STRONGER] {
            let mut oven = Oven::new(cost);
            assert!(!oven.verify(&password("x"), None).unwrap().matches);
            let (worked, fresh) = (oven.blocks.len(), cost.params().unwrap().block_count());
            assert_eq!(worked, fresh);
        }
    }

    #[test]
    fn a_damaged_or_absurd_stored_hash_is_an_error_and_costs_nothing() {
        let mut oven = oven();
        for stored in [
            "",
            "plain",
            "$2b$12$abcdefghijklmnopqrstuv",
            "$argon2id$v=19$m=4194304,t=2,p=1$bm9ib2R5IGhhcyB0aGlzLg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=19456,t=4000,p=1$bm9ib2R5IGhhcyB0aGlzLg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=19456,t=2,p=1",
        ] {
            let stored = Secret::new(stored.to_owned());
            assert!(oven.verify(&password("x"), Some(&stored)).is_err(), "{}", stored.reveal());
            assert!(oven.blocks.is_empty());
        }
    }
}
