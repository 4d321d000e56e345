//! argon2id over memory that is used again and again.
//!
//! One hash works in [`MEMORY_KIB`] KiB. Taking that afresh each time costs thousands of page faults and leaves it to
//! the allocator when, if ever, the memory goes back; an [`Oven`] keeps it, so the room's footprint is its workers'.

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Output, ParamsString, PasswordHash as Phc, Salt},
};
use aws_lc_rs::rand;
use domain::{account::PasswordHash, password::Password, secret::Secret};

use super::Verified;

/// OWASP's parameters (A3): 17.6 ms on one core of the reference machine.
pub(super) const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// Above this a stored hash is taken for damaged rather than let one row command the memory or the time of a worker.
const MOST_MEMORY_KIB: u32 = 65_536;
const MOST_PASSES: u32 = 8;
const MOST_LANES: u32 = 4;

/// Compared with when there is no account: today's cost, and no known password has it.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGhhcyB0aGlzLg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

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
    blocks: Vec<Block>,
}

impl Oven {
    pub(super) fn new() -> Self {
        Self { blocks: Vec::new() }
    }

    /// Hashes with a fresh salt and today's parameters.
    pub(super) fn hash(&mut self, password: &Password) -> Result<PasswordHash, HashError> {
        let params = today()?;
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
        let phc = Phc::new(stored.map_or(NOBODY, |hash| hash.reveal().as_str()))?;
        let algorithm = Algorithm::try_from(phc.algorithm.as_str())
            .map_err(|error| HashError::Stored(error.to_string()))?;
        let version = phc.version.map_or(Ok(Version::V0x10), Version::try_from)?;
        let params = Params::try_from(&phc).map_err(|error| HashError::Stored(error.to_string()))?;
        if params.m_cost() > MOST_MEMORY_KIB || params.t_cost() > MOST_PASSES || params.p_cost() > MOST_LANES
        {
            return Err(HashError::Stored("its cost is out of bounds".to_owned()));
        }
        let (Some(salt), Some(expected)) = (phc.salt, phc.hash) else {
            return Err(HashError::Stored("no salt or no hash".to_owned()));
        };
        let is_stale = algorithm != Algorithm::Argon2id
            || version != Version::V0x13
            || params.m_cost() < MEMORY_KIB
            || params.t_cost() < PASSES
            || salt.as_ref().len() < SALT_BYTES
            || expected.len() < HASH_BYTES;
        // `Output` compares in constant time.
        let is_equal = self.digest(algorithm, version, params, password, &salt)? == expected;
        Ok(Verified { matches: is_equal && stored.is_some(), is_stale })
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
        // A foreign hash may have needed more: keep today's size, not the largest ever seen.
        self.blocks.resize(params.block_count(), Block::new());
        self.blocks.shrink_to(today()?.block_count());
        Argon2::new(algorithm, version, params).hash_password_into_with_memory(
            password.reveal().as_bytes(),
            salt,
            hash,
            &mut self.blocks,
        )?;
        Ok(Output::new(hash)?)
    }
}

fn today() -> Result<Params, argon2::Error> {
    Params::new(MEMORY_KIB, PASSES, LANES, Some(HASH_BYTES))
}

#[cfg(test)]
mod tests {
    use argon2::{PasswordHasher, PasswordVerifier};

    use super::*;

    fn password(text: &str) -> Password {
        Secret::new(text.to_owned())
    }

    /// What the library alone makes of it, with memory of its own.
    fn independent(memory: u32, passes: u32, lanes: u32, text: &str) -> PasswordHash {
        let params = Params::new(memory, passes, lanes, None).unwrap();
        Secret::new(Argon2::from(params).hash_password(text.as_bytes()).unwrap().to_string())
    }

    #[test]
    fn a3_hashes_are_argon2id_with_todays_cost_and_a_fresh_salt() {
        let mut oven = Oven::new();
        let one = oven.hash(&password("correct horse")).unwrap();
        let two = oven.hash(&password("correct horse")).unwrap();
        assert!(one.reveal().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", one.reveal());
        assert_ne!(one, two);
        assert_eq!(Phc::new(one.reveal()).unwrap().salt.unwrap().as_ref().len(), SALT_BYTES);
    }

    #[test]
    fn used_memory_changes_no_hash() {
        let mut oven = Oven::new();
        for round in 0..3 {
            let text = format!("round {round} of many");
            let hash = oven.hash(&password(&text)).unwrap();
            Argon2::default().verify_password(text.as_bytes(), hash.reveal().as_str()).unwrap();
            let foreign = independent(MEMORY_KIB, PASSES, LANES, &text);
            assert_eq!(
                oven.verify(&password(&text), Some(&foreign)).unwrap(),
                Verified { matches: true, is_stale: false }
            );
            assert!(!oven.verify(&password("another"), Some(&foreign)).unwrap().matches);
        }
    }

    #[test]
    fn a1_passwords_equal_in_their_first_72_bytes_are_not_interchangeable() {
        let mut oven = Oven::new();
        let stem = "s".repeat(72);
        let hash = oven.hash(&password(&format!("{stem}a"))).unwrap();
        assert!(oven.verify(&password(&format!("{stem}a")), Some(&hash)).unwrap().matches);
        assert!(!oven.verify(&password(&format!("{stem}b")), Some(&hash)).unwrap().matches);
    }

    #[test]
    fn a3_weaker_parameters_still_verify_and_are_stale() {
        let mut oven = Oven::new();
        for (memory, passes) in [(8_192, 2), (MEMORY_KIB, 1)] {
            let weak = independent(memory, passes, 1, "correct horse");
            let verified = oven.verify(&password("correct horse"), Some(&weak)).unwrap();
            assert_eq!(verified, Verified { matches: true, is_stale: true });
        }
        let strong = independent(32_768, 3, 2, "correct horse");
        let verified = oven.verify(&password("correct horse"), Some(&strong)).unwrap();
        assert_eq!(verified, Verified { matches: true, is_stale: false });
    }

    #[test]
    fn a5_nobodys_hash_costs_what_a_fresh_hash_costs_and_never_matches() {
        let mut oven = Oven::new();
        let fresh = Phc::new(oven.hash(&password("x")).unwrap().reveal()).unwrap();
        let nobody = Phc::new(NOBODY).unwrap();
        assert_eq!((nobody.algorithm, nobody.version), (fresh.algorithm, fresh.version));
        assert_eq!(nobody.params, fresh.params);
        assert_eq!(nobody.salt.unwrap().as_ref().len(), SALT_BYTES);
        assert_eq!(nobody.hash.unwrap().len(), HASH_BYTES);
        assert!(!oven.verify(&password("x"), None).unwrap().matches);
    }

    #[test]
    fn a_damaged_or_absurd_stored_hash_is_an_error_and_costs_nothing() {
        let mut oven = Oven::new();
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
