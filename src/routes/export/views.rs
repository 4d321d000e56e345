//! What exports say of things, in full.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use domain::{
    account::User,
    api_key::ApiKey,
    audit::AuditEntry,
    conversation::StoredMessage,
    id::{ApiKeyId, AuditId, SessionId, UserId},
    principal::Scope,
    session::Session,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::routes::{conversations::MessageView, limits::LimitsView, model_access};

#[derive(Serialize, ToSchema)]
pub(crate) struct AccountExported {
    #[schema(value_type = Uuid)]
    id: UserId,
    email: String,
    /// `user` or `admin`.
    role: &'static str,
    created_at: DateTime<Utc>,
    /// What an administrator set for the account, in place of the service's own.
    limits: LimitsView,
    /// The models that an administrator let it ask; `null`: those of its role.
    models: Option<Vec<String>>,
}

/// A message, and what readers of the conversation are not shown of it.
#[derive(Serialize, ToSchema)]
pub(crate) struct MessageExported {
    #[serde(flatten)]
    message: MessageView,
    /// Base64, as they were sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct SessionExported {
    #[schema(value_type = Uuid)]
    id: SessionId,
    /// What signed in, by its own account.
    device: Option<String>,
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
    created_at: DateTime<Utc>,
    last_used_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
}

/// Of the key itself only a hash is kept, and that is nobody's.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeyExported {
    #[schema(value_type = Uuid)]
    id: ApiKeyId,
    name: String,
    prefix: String,
    scopes: Vec<&'static str>,
    #[serde(flatten)]
    limits: LimitsView,
    models: Option<Vec<String>>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
}

/// An entry of the audit trail about the account.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventExported {
    #[schema(value_type = Uuid)]
    id: AuditId,
    event: &'static str,
    outcome: &'static str,
    /// Whether the account's owner did it. Where somebody else did, and from where, is that person's.
    by_owner: bool,
    detail: Option<String>,
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
    request_id: Option<String>,
    at: DateTime<Utc>,
}

impl From<User> for AccountExported {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            email: user.email.as_str().to_owned(),
            role: user.role.as_str(),
            created_at: user.created_at,
            limits: user.limits.into(),
            models: model_access::shown(user.models.as_ref()),
        }
    }
}

impl From<StoredMessage> for MessageExported {
    fn from(mut stored: StoredMessage) -> Self {
        let images = std::mem::take(&mut stored.message.images);
        Self { message: stored.into(), images }
    }
}

impl From<Session> for SessionExported {
    fn from(session: Session) -> Self {
        Self {
            id: session.id,
            device: session.device,
            address: session.address,
            created_at: session.created_at,
            last_used_at: session.last_used_at,
            expires_at: session.expires_at,
            ended_at: session.revoked_at,
        }
    }
}

impl From<ApiKey> for KeyExported {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            prefix: key.prefix,
            scopes: key.scopes.iter().map(Scope::as_str).collect(),
            limits: key.limits.into(),
            models: model_access::shown(key.models.as_ref()),
            created_at: key.created_at,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
            revoked_at: key.revoked_at,
        }
    }
}

impl From<AuditEntry> for EventExported {
    fn from(entry: AuditEntry) -> Self {
        let by_owner = entry.actor.is_some() && entry.actor == entry.user;
        // Somebody unknown who tried to be the owner is told of in full; somebody else who is known is a person, too.
        let is_told = by_owner || entry.actor.is_none();
        Self {
            id: entry.id,
            event: entry.event.as_str(),
            outcome: entry.event.outcome(),
            by_owner,
            detail: entry.detail,
            address: entry.address.filter(|_| is_told),
            request_id: entry.request_id.filter(|_| is_told),
            at: entry.at,
        }
    }
}
