//! Conversations and their messages, as their owner reads them.

use chrono::{DateTime, Utc};
use domain::{
    conversation::{Activity, Branch, Conversation, StoredMessage, title_words},
    id::{ConversationId, MessageId, UserId},
};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::columns::time;
use crate::db::{
    DbError,
    store::{
        rows::{micros, storable},
        stored::MessageColumns,
    },
};

pub(in crate::db::store) async fn list(
    db: &mut SqliteConnection,
    owner: UserId,
    before: Activity,
    limit: u32,
) -> Result<Vec<Conversation>, DbError> {
    sqlx::query(
        "SELECT id, title, NULL AS system_prompt, created_at, updated_at FROM conversations
         WHERE user_id = ? AND (updated_at, id) < (?, ?) AND deleted_at IS NULL
         ORDER BY updated_at DESC, id DESC LIMIT ?",
    )
    .bind(owner.as_uuid())
    .bind(micros(before.at))
    .bind(before.id.as_uuid())
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
    sqlx::query(
        "SELECT id, title, system_prompt, created_at, updated_at FROM conversations
         WHERE id = ? AND user_id = ? AND deleted_at IS NULL",
    )
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
         WHERE m.conversation_id = ? AND c.user_id = ? AND c.deleted_at IS NULL AND m.id > ? ORDER BY m.id LIMIT ?",
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

pub(in crate::db::store) async fn branch(
    db: &mut SqliteConnection,
    owner: UserId,
    id: ConversationId,
    end: Option<Uuid>,
    limit: u32,
    bytes_max: u32,
) -> Result<Option<Branch>, DbError> {
    let Some(conversation) = one(db, owner, id).await? else { return Ok(None) };
    // Weighed by lengths, which the database knows without reading the texts. What a message follows is the greatest id that
    // is not above its parent's or, without one, is below its own: each step reads one entry of the index or two.
    let messages = sqlx::query(
        "WITH RECURSIVE branch AS (
             SELECT m.id, m.parent_id, 1 AS length,
                    octet_length(m.content) + coalesce(octet_length(m.thinking), 0)
                    + coalesce(octet_length(m.images), 0) + coalesce(octet_length(m.tool_calls), 0) AS bytes
             FROM messages m
             WHERE m.conversation_id = ?1 AND m.id = coalesce(?2, (SELECT e.id FROM messages e WHERE e.conversation_id = ?1
                                                                   ORDER BY e.id DESC LIMIT 1))
             UNION ALL
             SELECT m.id, m.parent_id, b.length + 1,
                    b.bytes + octet_length(m.content) + coalesce(octet_length(m.thinking), 0)
                    + coalesce(octet_length(m.images), 0) + coalesce(octet_length(m.tool_calls), 0)
             FROM branch b JOIN messages m ON m.id =
                 (SELECT p.id FROM messages p WHERE p.conversation_id = ?1 AND p.id <= coalesce(b.parent_id, b.id)
                    AND (b.parent_id IS NOT NULL OR p.id <> b.id) ORDER BY p.id DESC LIMIT 1)
             WHERE b.length < ?3 AND b.parent_id IS NOT ?1 AND (b.parent_id IS NULL OR m.id = b.parent_id)
               AND b.bytes + octet_length(m.content) + coalesce(octet_length(m.thinking), 0)
                   + coalesce(octet_length(m.images), 0) + coalesce(octet_length(m.tool_calls), 0) <= ?4)
         SELECT m.* FROM branch b JOIN messages m ON m.id = b.id ORDER BY b.length",
    )
    .bind(id.as_uuid())
    .bind(end)
    .bind(limit)
    .bind(bytes_max)
    .fetch_all(db)
    .await?
    .iter()
    .map(message)
    .collect::<Result<_, DbError>>()?;
    Ok(Some(Branch { conversation, messages }))
}

/// How many conversations the account has, as far as `most`.
pub(super) async fn count(db: &mut SqliteConnection, owner: UserId, most: u32) -> Result<u32, DbError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT 1 FROM conversations WHERE user_id = ? AND deleted_at IS NULL LIMIT ?)",
    )
    .bind(owner.as_uuid())
    .bind(most)
    .fetch_one(db)
    .await?;
    Ok(u32::try_from(count).unwrap_or(most))
}

pub(super) async fn insert(
    db: &mut SqliteConnection,
    owner: UserId,
    conversation: &Conversation,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO conversations (id, user_id, title, title_words, system_prompt, created_at, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(conversation.id.as_uuid())
    .bind(owner.as_uuid())
    .bind(storable(&conversation.title))
    .bind(title_words(&conversation.title))
    .bind(conversation.system_prompt.as_deref().map(storable))
    .bind(micros(conversation.created_at))
    .bind(micros(conversation.updated_at))
    .execute(db)
    .await?;
    Ok(())
}

/// The conversation, which nobody else changes until the transaction ends.
pub(super) async fn hold(
    db: &mut SqliteConnection,
    owner: UserId,
    id: ConversationId,
) -> Result<Option<Conversation>, DbError> {
    // There is one writer.
    one(db, owner, id).await
}

/// There is one writer: whatever it touches is held.
#[expect(clippy::unused_async, reason = "called like the statement of Postgres")]
pub(super) async fn hold_all(_: &mut SqliteConnection, _: &[ConversationId]) -> Result<(), DbError> {
    Ok(())
}

/// Writes all of it that can change.
pub(super) async fn set(db: &mut SqliteConnection, conversation: &Conversation) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE conversations SET title = ?, title_words = ?, system_prompt = ?, updated_at = ? WHERE id = ?",
    )
    .bind(storable(&conversation.title))
    .bind(title_words(&conversation.title))
    .bind(conversation.system_prompt.as_deref().map(storable))
    .bind(micros(conversation.updated_at))
    .bind(conversation.id.as_uuid())
    .execute(db)
    .await?;
    Ok(())
}

/// Whether there was one to throw away.
pub(super) async fn throw_away(
    db: &mut SqliteConnection,
    owner: UserId,
    id: ConversationId,
    now: DateTime<Utc>,
) -> Result<bool, DbError> {
    let thrown_away = sqlx::query(
        "UPDATE conversations SET deleted_at = ? WHERE id = ? AND user_id = ? AND deleted_at IS NULL",
    )
    .bind(micros(now))
    .bind(id.as_uuid())
    .bind(owner.as_uuid())
    .execute(db)
    .await?;
    Ok(thrown_away.rows_affected() == 1)
}

pub(super) fn conversation(row: &SqliteRow) -> Result<Conversation, DbError> {
    Ok(Conversation {
        id: row.try_get::<Uuid, _>("id")?.into(),
        title: row.try_get("title")?,
        system_prompt: row.try_get("system_prompt")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

pub(super) fn message(row: &SqliteRow) -> Result<StoredMessage, DbError> {
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
