//! Access tokens whose signature was checked before: a hash and a look-up instead of a verification.

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, Utc};

use super::{
    access_token::{AccessTokens, Grant, MAX_TOKEN_BYTES},
    cache::Cache,
};

/// Tokens remembered at a time, some 150 bytes each.
const REMEMBERED: usize = 65_536;

/// SHA-256 of the whole token: nothing shorter stands for it (A15 tells of a cache that let users become each other).
type Fingerprint = [u8; 32];

pub(super) struct VerifiedTokens {
    known: Cache<Fingerprint, Grant>,
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
        let mut fingerprint = Fingerprint::default();
        fingerprint.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if let Some(grant) = self.known.get(&fingerprint) {
            return grant.is_current(now).then_some(Checked::Known(grant));
        }
        let grant = tokens.verify(token, now)?;
        Some(Checked::Verified(self.known.insert_unless(fingerprint, grant, |_| false)))
    }

    pub(super) fn age(&self) {
        self.known.age();
    }

    pub(super) fn clear(&self) {
        self.known.clear();
    }
}
