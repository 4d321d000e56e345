//! Accounts, sessions and the audit trail, as the store keeps them.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::{
    email::EmailAddress,
    id::{AuditId, SessionId, UserId},
    principal::Role,
    secret::Secret,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    pub email: EmailAddress,
    pub role: Role,
    pub disabled: bool,
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

/// One sign-in: the family of all refresh tokens that descend from it.
///
/// No token is stored. The live refresh token is a function of `id` and `counter`; presenting an older counter is
/// reuse and ends the family (RFC 9700 §4.14.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub user: UserId,
    pub counter: u32,
    pub created_at: DateTime<Utc>,
    /// When `counter` last rose; the refresh grace is measured from here.
    pub rotated_at: DateTime<Utc>,
    /// No refresh after this instant, whatever happens (absolute lifetime).
    pub expires_at: DateTime<Utc>,
    pub revoked_at: Option<DateTime<Utc>>,
}

/// What a presented refresh token led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    /// The counter rose by one: the caller gets the token of `session.counter`.
    Rotated { session: Session, user: User },
    /// The direct parent, shown again within the grace: the caller gets the same token of `session.counter`.
    Repeated { session: Session, user: User },
    /// An older token: the family was revoked and the event audited in the same transaction.
    Reused { user: UserId },
    /// No such session, revoked, idle too long, expired, or its user is disabled.
    Dead,
}

/// What an audit entry says happened; OWASP's logging vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditEvent {
    UserCreated,
    AuthnLoginSuccess,
    AuthnLoginFail,
    AuthnTokenReuse,
}

impl AuditEvent {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserCreated => "user_created",
            Self::AuthnLoginSuccess => "authn_login_success",
            Self::AuthnLoginFail => "authn_login_fail",
            Self::AuthnTokenReuse => "authn_token_reuse",
        }
    }
}

/// One entry of the audit trail; written in the transaction of the change it records, never altered.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    pub id: AuditId,
    pub event: AuditEvent,
    /// The account it concerns, where there is one.
    pub user: Option<UserId>,
    pub address: Option<std::net::IpAddr>,
    pub request_id: Option<String>,
    pub at: DateTime<Utc>,
}
