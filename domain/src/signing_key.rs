//! Which key signs access tokens, and since when.
//!
//! No key is ever stored. A key is a function of the master secret, its algorithm and its generation, so all that
//! instances have to agree on is that secret and a list of generations.

use chrono::{DateTime, Utc};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SigningAlgorithm {
    /// HMAC with SHA-256: only we can verify.
    Hs256,
    /// Ed25519: anybody can verify, by the public key at `/.well-known/jwks.json`.
    EdDsa,
}

impl SigningAlgorithm {
    /// The name in a token's header (RFC 7518, RFC 8037).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::EdDsa => "EdDSA",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Hs256, Self::EdDsa].into_iter().find(|algorithm| algorithm.as_str() == text)
    }
}

/// One generation: it signs from `signs_from` until the next one does, and verifies for as long as its tokens live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// Rises by one; never used twice.
    pub generation: u32,
    pub algorithm: SigningAlgorithm,
    /// Names it in a token's header (RFC 7515). It follows from the master secret, so another secret's is another.
    pub kid: String,
    pub created_at: DateTime<Utc>,
    /// Later than `created_at`, so that every verifier knows the key before it meets a token of it.
    pub signs_from: DateTime<Utc>,
}
