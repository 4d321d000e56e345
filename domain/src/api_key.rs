//! API keys: long-lived credentials for programs, each with no more rights than it needs.

use chrono::{DateTime, Utc};

use crate::{
    id::{ApiKeyId, UserId},
    limits::Limits,
    principal::Scopes,
};

/// Keys of one account that live at once: neither revoked nor expired.
pub const KEYS_PER_USER: usize = 100;

/// Longest name, in characters.
pub const NAME_CHARS: usize = 100;

/// Most that a key's own limit can be, in requests per minute.
pub const REQUESTS_PER_MINUTE_MAX: u32 = 1_000_000;

/// SHA-256 of a whole key: all that is stored of it.
pub type KeyHash = [u8; 32];

/// A key as its owner sees it later; the key itself was shown once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub id: ApiKeyId,
    pub user: UserId,
    pub name: String,
    /// Its first characters, to recognise it by.
    pub prefix: String,
    pub scopes: Scopes,
    /// A limit of its own, beside its user's.
    pub requests_per_minute: Option<u32>,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    /// To within some minutes.
    pub last_used_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
}

impl ApiKey {
    /// Its own, beside its account's.
    pub fn limits(&self) -> Limits {
        Limits { requests_per_minute: self.requests_per_minute, ..Limits::default() }
    }
}
