//! Rows on their way out: from columns to what they mean.
//!
//! A value no version of this service writes is [`DbError::Broken`], naming the column and never the value.

use chrono::{DateTime, Utc};
use domain::{
    account::{Account, Session, User},
    chat::{ChatMessage, Role as MessageRole},
    conversation::StoredMessage,
    email::EmailAddress,
    principal::Role,
    secret::Secret,
    turn::TurnStatus,
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::db::DbError;

pub(super) struct UserColumns {
    pub id: Uuid,
    pub email: String,
    pub role: String,
    pub disabled: bool,
    pub created_at: DateTime<Utc>,
}

pub(super) struct AccountColumns {
    pub id: Uuid,
    pub email: String,
    pub password_hash: String,
    pub role: String,
    pub disabled: bool,
    pub created_at: DateTime<Utc>,
}

/// A session next to the user it belongs to.
pub(super) struct SessionColumns {
    pub id: Uuid,
    pub user_id: Uuid,
    pub counter: i64,
    pub created_at: DateTime<Utc>,
    pub rotated_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub revoked_at: Option<DateTime<Utc>>,
    pub email: String,
    pub role: String,
    pub disabled: bool,
    pub user_created_at: DateTime<Utc>,
}

pub(super) struct MessageColumns {
    pub id: Uuid,
    pub conversation_id: Uuid,
    pub turn_id: Uuid,
    pub role: String,
    pub content: String,
    pub thinking: Option<String>,
    pub images: Option<String>,
    pub tool_calls: Option<String>,
    pub tool_name: Option<String>,
    pub tool_call_id: Option<String>,
    pub status: String,
    pub created_at: DateTime<Utc>,
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
            created_at: row.created_at,
            rotated_at: row.rotated_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
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

impl TryFrom<MessageColumns> for StoredMessage {
    type Error = DbError;

    fn try_from(row: MessageColumns) -> Result<Self, DbError> {
        Ok(Self {
            id: row.id.into(),
            conversation: row.conversation_id.into(),
            turn: row.turn_id.into(),
            message: ChatMessage {
                role: MessageRole::parse(&row.role).ok_or_else(|| broken("messages.role"))?,
                content: row.content,
                thinking: row.thinking,
                images: list(row.images.as_deref(), "messages.images")?,
                tool_calls: list(row.tool_calls.as_deref(), "messages.tool_calls")?,
                tool_name: row.tool_name,
                tool_call_id: row.tool_call_id,
            },
            status: TurnStatus::parse(&row.status).ok_or_else(|| broken("messages.status"))?,
            created_at: row.created_at,
        })
    }
}

fn list<T: DeserializeOwned>(json: Option<&str>, column: &str) -> Result<Vec<T>, DbError> {
    json.map_or(Ok(Vec::new()), |json| serde_json::from_str(json).map_err(|_| broken(column)))
}

pub(super) fn broken(column: &str) -> DbError {
    DbError::Broken(format!("unreadable value in {column}"))
}
