//! API keys: long-lived credentials for programs, each with no more rights than it needs.

use chrono::{DateTime, Utc};

use crate::{
    audit::AuditEntry,
    id::{ApiKeyId, UserId},
    limits::{Limits, LimitsChange},
    model_access::ModelPatterns,
    principal::Scopes,
};

/// Keys of one account that live at once: neither revoked nor expired.
pub const KEYS_PER_USER: usize = 100;

/// Longest name, in characters.
pub const NAME_CHARS: usize = 100;

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
    /// Its own, beside its account's: they only narrow those.
    pub limits: Limits,
    /// The models it opens of those that its account may ask; `None`: all of them.
    pub models: Option<ModelPatterns>,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    /// To within some minutes.
    pub last_used_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
}

/// What an administrator changes about a key; what is `None` stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    pub limits: LimitsChange,
    /// `Some(None)` opens all that its account may ask.
    pub models: Option<Option<ModelPatterns>>,
}

impl KeyChange {
    /// Leaves all as it is.
    pub const NONE: Self = Self { limits: LimitsChange::NONE, models: None };
}

/// What became of a key that an administrator changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChanged {
    pub key: ApiKey,
    /// What the audit trail tells of it: nothing when nothing changed.
    pub told: Option<AuditEntry>,
}
