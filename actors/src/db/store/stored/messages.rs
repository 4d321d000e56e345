//! Messages.

use chrono::{DateTime, Utc};
use domain::{
    chat::{ChatMessage, Role},
    conversation::StoredMessage,
    turn::TurnStatus,
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::broken;
use crate::db::DbError;

pub(in crate::db::store) struct MessageColumns {
    pub id: Uuid,
    pub conversation_id: Uuid,
    pub turn_id: Uuid,
    pub parent_id: Option<Uuid>,
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

impl TryFrom<MessageColumns> for StoredMessage {
    type Error = DbError;

    fn try_from(row: MessageColumns) -> Result<Self, DbError> {
        Ok(Self {
            id: row.id.into(),
            conversation: row.conversation_id.into(),
            turn: row.turn_id.into(),
            parent: row.parent_id,
            message: ChatMessage {
                role: Role::parse(&row.role).ok_or_else(|| broken("messages.role"))?,
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

pub(super) fn list<T: DeserializeOwned>(json: Option<&str>, column: &str) -> Result<Vec<T>, DbError> {
    json.map_or(Ok(Vec::new()), |json| serde_json::from_str(json).map_err(|_| broken(column)))
}
