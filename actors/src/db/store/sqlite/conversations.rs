//! Conversations and their messages, as their owner reads them.

use domain::{
    conversation::{Conversation, StoredMessage},
    id::{ConversationId, MessageId, UserId},
};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::columns::time;
use crate::db::{DbError, store::stored::MessageColumns};

pub(in crate::db::store) async fn list(
    db: &mut SqliteConnection,
    owner: UserId,
    before: Option<ConversationId>,
    limit: u32,
) -> Result<Vec<Conversation>, DbError> {
    sqlx::query(
        "SELECT id, title, system_prompt, created_at, updated_at FROM conversations
         WHERE user_id = ? AND id < ? ORDER BY id DESC LIMIT ?",
    )
    .bind(owner.as_uuid())
    .bind(before.map_or(Uuid::max(), ConversationId::as_uuid))
    .bind(limit)
    .fetch_all(db)
    .await?
    .iter()
    .map(conversation)
    .collect()
}

pub(in crate::db::store) async fn one(
    db: &mut SqliteConnection,
    owner: UserId,
    id: ConversationId,
) -> Result<Option<Conversation>, DbError> {
    sqlx::query("SELECT id, title, system_prompt, created_at, updated_at FROM conversations WHERE id = ? AND user_id = ?")
        .bind(id.as_uuid())
        .bind(owner.as_uuid())
        .fetch_optional(db)
        .await?
        .map(|row| conversation(&row))
        .transpose()
}

pub(in crate::db::store) async fn messages(
    db: &mut SqliteConnection,
    owner: UserId,
    id: ConversationId,
    after: Option<MessageId>,
    limit: u32,
) -> Result<Vec<StoredMessage>, DbError> {
    sqlx::query(
        "SELECT m.id, m.conversation_id, m.turn_id, m.parent_id, m.role, m.content, m.thinking, NULL AS images, m.tool_calls,
                m.tool_name, m.tool_call_id, m.status, m.created_at
         FROM messages m JOIN conversations c ON c.id = m.conversation_id
         WHERE m.conversation_id = ? AND c.user_id = ? AND m.id > ? ORDER BY m.id LIMIT ?",
    )
    .bind(id.as_uuid())
    .bind(owner.as_uuid())
    .bind(after.map_or(Uuid::nil(), MessageId::as_uuid))
    .bind(limit)
    .fetch_all(db)
    .await?
    .iter()
    .map(message)
    .collect()
}

pub(in crate::db::store) async fn newest(
    db: &mut SqliteConnection,
    owner: UserId,
    id: ConversationId,
    limit: u32,
    bytes_max: u32,
) -> Result<Vec<StoredMessage>, DbError> {
    // Weighed by lengths, which the database knows without reading the texts.
    sqlx::query(
        "WITH newest AS (
             SELECT m.id, octet_length(m.content) + coalesce(octet_length(m.thinking), 0)
                          + coalesce(octet_length(m.images), 0) + coalesce(octet_length(m.tool_calls), 0) AS bytes
             FROM messages m JOIN conversations c ON c.id = m.conversation_id
             WHERE m.conversation_id = ? AND c.user_id = ? ORDER BY m.id DESC LIMIT ?),
         weighed AS (SELECT id, sum(bytes) OVER (ORDER BY id DESC) AS bytes_so_far FROM newest)
         SELECT m.* FROM messages m JOIN weighed ON weighed.id = m.id
         WHERE weighed.bytes_so_far <= ? ORDER BY m.id DESC",
    )
    .bind(id.as_uuid())
    .bind(owner.as_uuid())
    .bind(limit)
    .bind(bytes_max)
    .fetch_all(db)
    .await?
    .iter()
    .map(message)
    .collect()
}

fn conversation(row: &SqliteRow) -> Result<Conversation, DbError> {
    Ok(Conversation {
        id: row.try_get::<Uuid, _>("id")?.into(),
        title: row.try_get("title")?,
        system_prompt: row.try_get("system_prompt")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn message(row: &SqliteRow) -> Result<StoredMessage, DbError> {
    MessageColumns {
        id: row.try_get("id")?,
        conversation_id: row.try_get("conversation_id")?,
        turn_id: row.try_get("turn_id")?,
        parent_id: row.try_get("parent_id")?,
        role: row.try_get("role")?,
        content: row.try_get("content")?,
        thinking: row.try_get("thinking")?,
        images: row.try_get("images")?,
        tool_calls: row.try_get("tool_calls")?,
        tool_name: row.try_get("tool_name")?,
        tool_call_id: row.try_get("tool_call_id")?,
        status: row.try_get("status")?,
        created_at: time(row, "created_at")?,
    }
    .try_into()
}
