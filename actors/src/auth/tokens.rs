//! Access tokens whose signature was checked before: a hash and a look-up instead of a verification.

use chrono::{DateTime, Utc};

use super::{
    access_token::{AccessTokens, Grant, MAX_TOKEN_BYTES, Verified},
    cache::Cache,
};
use crate::digest::sha256;

/// Tokens remembered at a time, some 150 bytes each.
const REMEMBERED: usize = 65_536;

/// SHA-256 of the whole token: nothing shorter stands for it (A15 tells of a cache that let users become each other).
type Fingerprint = [u8; 32];

pub(super) struct VerifiedTokens {
    known: Cache<Fingerprint, Verified>,
}

/// A good token, and whether it was known.
pub(super) enum Checked {
    Known(Grant),
    Verified(Grant),
}

impl VerifiedTokens {
    pub(super) fn new() -> Self {
        Self { known: Cache::new(REMEMBERED) }
    }

    /// What `token` grants, by memory or by `tokens`; only good tokens are remembered.
    pub(super) fn check(&self, tokens: &AccessTokens, token: &str, now: DateTime<Utc>) -> Option<Checked> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let fingerprint = sha256(token);
        if let Some(known) = self.known.get(&fingerprint) {
            return tokens.honours(&known, now).then_some(Checked::Known(known.grant));
        }
        let verified = tokens.verify(token, now)?;
        Some(Checked::Verified(self.known.insert_unless(fingerprint, verified, |_| false).grant))
    }

    pub(super) fn age(&self) {
        self.known.age();
    }

    pub(super) fn clear(&self) {
        self.known.clear();
    }
}
