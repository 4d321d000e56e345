//! The audit trail: who did what to whom, from where, and whether it worked.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

use crate::id::{AuditId, UserId};

/// What happened, in the words of OWASP's logging vocabulary where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditEvent {
    AuthnLoginSuccess,
    AuthnLoginFail,
    /// An account or address is made to wait before it may guess again.
    AuthnLoginLock,
    AuthnPasswordChange,
    AuthnPasswordChangeFail,
    AuthnTokenCreated,
    AuthnTokenRevoked,
    AuthnTokenReuse,
    AuthnKeyRotated,
    AuthzFail,
    SessionEnded,
    UserCreated,
    UserUpdated,
    UserDeleted,
    PrivilegePermissionsChanged,
    InviteCreated,
    InviteRevoked,
    ExcessRateLimitExceeded,
    /// An actor was restarted by hand.
    SysRestart,
    SysConfigReloaded,
    /// What was read was refused as a whole.
    SysConfigRefused,
    SysLogFilterChanged,
    /// An operator lets no turn begin on a model server any more.
    SysUpstreamDrained,
    SysUpstreamResumed,
}

impl AuditEvent {
    pub const ALL: [Self; 24] = [
        Self::AuthnLoginSuccess,
        Self::AuthnLoginFail,
        Self::AuthnLoginLock,
        Self::AuthnPasswordChange,
        Self::AuthnPasswordChangeFail,
        Self::AuthnTokenCreated,
        Self::AuthnTokenRevoked,
        Self::AuthnTokenReuse,
        Self::AuthnKeyRotated,
        Self::AuthzFail,
        Self::SessionEnded,
        Self::UserCreated,
        Self::UserUpdated,
        Self::UserDeleted,
        Self::PrivilegePermissionsChanged,
        Self::InviteCreated,
        Self::InviteRevoked,
        Self::ExcessRateLimitExceeded,
        Self::SysRestart,
        Self::SysConfigReloaded,
        Self::SysConfigRefused,
        Self::SysLogFilterChanged,
        Self::SysUpstreamDrained,
        Self::SysUpstreamResumed,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthnLoginSuccess => "authn_login_success",
            Self::AuthnLoginFail => "authn_login_fail",
            Self::AuthnLoginLock => "authn_login_lock",
            Self::AuthnPasswordChange => "authn_password_change",
            Self::AuthnPasswordChangeFail => "authn_password_change_fail",
            Self::AuthnTokenCreated => "authn_token_created",
            Self::AuthnTokenRevoked => "authn_token_revoked",
            Self::AuthnTokenReuse => "authn_token_reuse",
            Self::AuthnKeyRotated => "authn_key_rotated",
            Self::AuthzFail => "authz_fail",
            Self::SessionEnded => "session_ended",
            Self::UserCreated => "user_created",
            Self::UserUpdated => "user_updated",
            Self::UserDeleted => "user_deleted",
            Self::PrivilegePermissionsChanged => "privilege_permissions_changed",
            Self::InviteCreated => "invite_created",
            Self::InviteRevoked => "invite_revoked",
            Self::ExcessRateLimitExceeded => "excess_rate_limit_exceeded",
            Self::SysRestart => "sys_restart",
            Self::SysConfigReloaded => "sys_config_reloaded",
            Self::SysConfigRefused => "sys_config_refused",
            Self::SysLogFilterChanged => "sys_log_filter_changed",
            Self::SysUpstreamDrained => "sys_upstream_drained",
            Self::SysUpstreamResumed => "sys_upstream_resumed",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == text)
    }

    /// Whether what was tried worked.
    pub const fn outcome(self) -> &'static str {
        match self {
            Self::AuthnLoginFail
            | Self::AuthnLoginLock
            | Self::AuthnPasswordChangeFail
            | Self::AuthnTokenReuse
            | Self::AuthzFail
            | Self::SysConfigRefused
            | Self::ExcessRateLimitExceeded => "failure",
            _ => "success",
        }
    }
}

/// One entry; written in the transaction of the change it records, never altered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub id: AuditId,
    pub event: AuditEvent,
    /// Who did it; `None` for somebody unknown, and for the command line.
    pub actor: Option<UserId>,
    /// The account it concerns, where there is one.
    pub user: Option<UserId>,
    /// What it was done to or how: an id, a role, a scope, the names of settings. Never a secret, an address of e-mail or a prompt.
    pub detail: Option<String>,
    pub address: Option<IpAddr>,
    pub request_id: Option<String>,
    pub at: DateTime<Utc>,
}

/// Which entries a reader asks for; what is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    pub event: Option<AuditEvent>,
    pub actor: Option<UserId>,
    pub user: Option<UserId>,
    pub address: Option<IpAddr>,
    pub since: Option<DateTime<Utc>>,
    /// This instant is no longer in it.
    pub until: Option<DateTime<Utc>>,
}
