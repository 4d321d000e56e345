//! Accounts: who has one, and what may become of it.

use chrono::{DateTime, Utc};

use crate::{
    audit::AuditEntry,
    email::EmailAddress,
    id::{SessionId, UserId},
    limits::{Limits, LimitsChange},
    model_access::ModelPatterns,
    principal::Role,
    secret::Secret,
    session::Session,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    pub email: EmailAddress,
    pub role: Role,
    pub disabled: bool,
    /// In place of the service's own.
    pub limits: Limits,
    /// The models that may be asked, in place of the role's; `None`: the role's.
    pub models: Option<ModelPatterns>,
    pub created_at: DateTime<Utc>,
}

/// An argon2id hash in PHC string form.
pub type PasswordHash = Secret<String>;

/// A user together with what signing in needs.
#[derive(Debug, Clone)]
pub struct Account {
    pub user: User,
    pub password_hash: PasswordHash,
}

/// What an administrator changes about an account; what is `None` stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserChange {
    pub role: Option<Role>,
    /// Disabling ends every session and silences every key; enabling gives the keys back, but no session.
    pub disabled: Option<bool>,
    pub limits: LimitsChange,
    /// `Some(None)` gives back the role's.
    pub models: Option<Option<ModelPatterns>>,
}

impl UserChange {
    /// Leaves all as it is.
    pub const NONE: Self = Self { role: None, disabled: None, limits: LimitsChange::NONE, models: None };
}

/// What became of an account, and of the sessions that ended with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserChanged {
    pub user: User,
    pub ended: Vec<SessionId>,
    /// What the audit trail tells of it: nothing when nothing changed.
    pub told: Vec<AuditEntry>,
}

/// What became of the sessions of an account whose password changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordSet {
    /// The session that goes on, one counter further: no token from before serves any more.
    pub kept: Option<(Session, User)>,
    pub ended: Vec<SessionId>,
}
