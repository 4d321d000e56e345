//! API keys, invites and signing keys.

use chrono::{DateTime, Utc};
use domain::{
    account::User,
    api_key::ApiKey,
    invite::Invite,
    principal::{Role, Scopes},
    signing_key::{SigningAlgorithm, SigningKey},
};
use uuid::Uuid;

use super::{
    UserColumns,
    accounts::{limits, models},
    broken,
};
use crate::db::DbError;

/// A key next to the user it belongs to.
pub(in crate::db::store) struct ApiKeyColumns {
    pub id: Uuid,
    pub user_id: Uuid,
    pub name: String,
    pub prefix: String,
    pub scopes: String,
    pub requests_per_minute: Option<i64>,
    pub tokens_per_minute: Option<i64>,
    pub streams: Option<i64>,
    pub priority: Option<String>,
    pub models: Option<String>,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub used_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
    pub email: String,
    pub role: String,
    pub disabled: bool,
    pub user_requests_per_minute: Option<i64>,
    pub user_tokens_per_minute: Option<i64>,
    pub user_streams: Option<i64>,
    pub user_priority: Option<String>,
    pub user_models: Option<String>,
    pub user_created_at: DateTime<Utc>,
}

pub(in crate::db::store) struct InviteColumns {
    pub id: Uuid,
    pub role: String,
    pub is_first_admin: bool,
    pub note: Option<String>,
    pub created_by: Option<Uuid>,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub used_at: Option<DateTime<Utc>>,
    pub used_by: Option<Uuid>,
    pub revoked_at: Option<DateTime<Utc>>,
}

pub(in crate::db::store) struct SigningKeyColumns {
    pub generation: i64,
    pub algorithm: String,
    pub kid: String,
    pub created_at: DateTime<Utc>,
    pub signs_from: DateTime<Utc>,
}

impl TryFrom<ApiKeyColumns> for (ApiKey, User) {
    type Error = DbError;

    fn try_from(row: ApiKeyColumns) -> Result<Self, DbError> {
        let key = ApiKey {
            id: row.id.into(),
            user: row.user_id.into(),
            name: row.name,
            prefix: row.prefix,
            scopes: Scopes::parse(&row.scopes).ok_or_else(|| broken("api_keys.scopes"))?,
            limits: limits(
                "api_keys",
                row.requests_per_minute,
                row.tokens_per_minute,
                row.streams,
                row.priority.as_deref(),
            )?,
            models: models("api_keys", row.models.as_deref())?,
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.used_at,
            revoked_at: row.revoked_at,
        };
        let user = UserColumns {
            id: row.user_id,
            email: row.email,
            role: row.role,
            disabled: row.disabled,
            requests_per_minute: row.user_requests_per_minute,
            tokens_per_minute: row.user_tokens_per_minute,
            streams: row.user_streams,
            priority: row.user_priority,
            models: row.user_models,
            created_at: row.user_created_at,
        };
        Ok((key, user.try_into()?))
    }
}

impl TryFrom<InviteColumns> for Invite {
    type Error = DbError;

    fn try_from(row: InviteColumns) -> Result<Self, DbError> {
        Ok(Self {
            id: row.id.into(),
            role: Role::parse(&row.role).ok_or_else(|| broken("invites.role"))?,
            is_first_admin: row.is_first_admin,
            note: row.note,
            created_by: row.created_by.map(Into::into),
            created_at: row.created_at,
            expires_at: row.expires_at,
            used_at: row.used_at,
            used_by: row.used_by.map(Into::into),
            revoked_at: row.revoked_at,
        })
    }
}

impl TryFrom<SigningKeyColumns> for SigningKey {
    type Error = DbError;

    fn try_from(row: SigningKeyColumns) -> Result<Self, DbError> {
        Ok(Self {
            generation: row.generation.try_into().map_err(|_| broken("signing_keys.generation"))?,
            algorithm: SigningAlgorithm::parse(&row.algorithm)
                .ok_or_else(|| broken("signing_keys.algorithm"))?,
            kid: row.kid,
            created_at: row.created_at,
            signs_from: row.signs_from,
        })
    }
}

/// A stored SHA-256.
pub(in crate::db::store) fn hash(bytes: &[u8], column: &str) -> Result<[u8; 32], DbError> {
    bytes.try_into().map_err(|_| broken(column))
}
