//! Accounts and sessions.

use chrono::{DateTime, Utc};
use domain::{
    account::{Account, User},
    email::EmailAddress,
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
    pub created_at: DateTime<Utc>,
}

pub(in crate::db::store) struct AccountColumns {
    pub id: Uuid,
    pub email: String,
    pub password_hash: String,
    pub role: String,
    pub disabled: bool,
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
            created_at: row.created_at,
        })
    }
}

impl TryFrom<AccountColumns> for Account {
    type Error = DbError;

    fn try_from(row: AccountColumns) -> Result<Self, DbError> {
        let AccountColumns { id, email, password_hash, role, disabled, created_at } = row;
        let user = UserColumns { id, email, role, disabled, created_at }.try_into()?;
        Ok(Self { user, password_hash: Secret::new(password_hash) })
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
            created_at: row.user_created_at,
        };
        Ok((session, user.try_into()?))
    }
}
