//! Accounts and sessions.

use chrono::{DateTime, Utc};
use domain::{
    account::{Account, User},
    email::EmailAddress,
    limits::{Limits, Priority},
    model_access::ModelPatterns,
    principal::Role,
    secret::Secret,
    session::Session,
};
use uuid::Uuid;

use super::{broken, parsed};
use crate::db::DbError;

pub(in crate::db::store) struct UserColumns {
    pub id: Uuid,
    pub email: String,
    pub role: String,
    pub disabled: bool,
    pub requests_per_minute: Option<i64>,
    pub tokens_per_minute: Option<i64>,
    pub streams: Option<i64>,
    pub priority: Option<String>,
    pub models: Option<String>,
    pub created_at: DateTime<Utc>,
}

pub(in crate::db::store) struct AccountColumns {
    pub id: Uuid,
    pub email: String,
    pub password_hash: String,
    pub role: String,
    pub disabled: bool,
    pub requests_per_minute: Option<i64>,
    pub tokens_per_minute: Option<i64>,
    pub streams: Option<i64>,
    pub priority: Option<String>,
    pub models: Option<String>,
    pub created_at: DateTime<Utc>,
}

/// A session next to the user it belongs to.
pub(in crate::db::store) struct SessionColumns {
    pub id: Uuid,
    pub user_id: Uuid,
    pub counter: i64,
    pub min_epoch: i64,
    pub created_at: DateTime<Utc>,
    pub rotated_at: DateTime<Utc>,
    pub used_at: Option<DateTime<Utc>>,
    pub expires_at: DateTime<Utc>,
    pub revoked_at: Option<DateTime<Utc>>,
    pub device: Option<String>,
    pub address: Option<String>,
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

impl TryFrom<UserColumns> for User {
    type Error = DbError;

    fn try_from(row: UserColumns) -> Result<Self, DbError> {
        Ok(Self {
            id: row.id.into(),
            email: EmailAddress::parse(&row.email).map_err(|_| broken("users.email"))?,
            role: Role::parse(&row.role).ok_or_else(|| broken("users.role"))?,
            disabled: row.disabled,
            limits: limits(
                "users",
                row.requests_per_minute,
                row.tokens_per_minute,
                row.streams,
                row.priority.as_deref(),
            )?,
            models: models("users", row.models.as_deref())?,
            created_at: row.created_at,
        })
    }
}

impl TryFrom<AccountColumns> for Account {
    type Error = DbError;

    fn try_from(row: AccountColumns) -> Result<Self, DbError> {
        let user = UserColumns {
            id: row.id,
            email: row.email,
            role: row.role,
            disabled: row.disabled,
            requests_per_minute: row.requests_per_minute,
            tokens_per_minute: row.tokens_per_minute,
            streams: row.streams,
            priority: row.priority,
            models: row.models,
            created_at: row.created_at,
        };
        Ok(Self { user: user.try_into()?, password_hash: Secret::new(row.password_hash) })
    }
}

impl TryFrom<SessionColumns> for (Session, User) {
    type Error = DbError;

    fn try_from(row: SessionColumns) -> Result<Self, DbError> {
        let session = Session {
            id: row.id.into(),
            user: row.user_id.into(),
            counter: row.counter.try_into().map_err(|_| broken("sessions.counter"))?,
            min_epoch: row.min_epoch.try_into().map_err(|_| broken("sessions.min_epoch"))?,
            created_at: row.created_at,
            rotated_at: row.rotated_at,
            last_used_at: row.used_at.map_or(row.rotated_at, |used| used.max(row.rotated_at)),
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
            device: row.device,
            address: parsed(row.address.as_deref(), "sessions.address")?,
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
        Ok((session, user.try_into()?))
    }
}

/// The limits in a row of `table`.
pub(super) fn limits(
    table: &str,
    requests_per_minute: Option<i64>,
    tokens_per_minute: Option<i64>,
    streams: Option<i64>,
    priority: Option<&str>,
) -> Result<Limits, DbError> {
    let unreadable = |name: &str| broken(&format!("{table}.{name}"));
    let number = |stored: Option<i64>, name: &str| {
        stored.map(|stored| u32::try_from(stored).map_err(|_| unreadable(name))).transpose()
    };
    let known = |text: &str| Priority::parse(text).ok_or_else(|| unreadable("priority"));
    Ok(Limits {
        requests_per_minute: number(requests_per_minute, "requests_per_minute")?,
        tokens_per_minute: number(tokens_per_minute, "tokens_per_minute")?,
        streams: number(streams, "streams")?,
        priority: priority.map(known).transpose()?,
    })
}

/// The patterns in a row of `table`.
pub(super) fn models(table: &str, stored: Option<&str>) -> Result<Option<ModelPatterns>, DbError> {
    let read = |text: &str| ModelPatterns::parse(text).map_err(|_| broken(&format!("{table}.models")));
    stored.map(read).transpose()
}

/// How patterns are stored.
pub(in crate::db::store) fn patterns(models: Option<&ModelPatterns>) -> Option<String> {
    models.map(ToString::to_string)
}
