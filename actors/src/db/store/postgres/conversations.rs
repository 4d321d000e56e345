//! Conversations and their messages, as their owner reads them.

use chrono::{DateTime, Utc};
use domain::{
    conversation::{Activity, Branch, Conversation, StoredMessage, title_words},
    id::{ConversationId, MessageId, UserId},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::db::{
    DbError,
    store::{rows::storable, stored::MessageColumns},
};

pub(in crate::db::store) async fn list(
    db: &mut PgConnection,
    owner: UserId,
    before: Activity,
    limit: u32,
) -> Result<Vec<Conversation>, DbError> {
    Ok(sqlx::query_as!(
        Conversation,
        "SELECT id, title, NULL::text AS system_prompt, created_at, updated_at FROM conversations
         WHERE user_id = $1 AND (updated_at, id) < ($2, $3) AND deleted_at IS NULL
         ORDER BY updated_at DESC, id DESC LIMIT $4",
        owner.as_uuid(),
        before.at,
        before.id.as_uuid(),
        i64::from(limit)
    )
    .fetch_all(db)
    .await?)
}

pub(in crate::db::store) async fn one(
    db: &mut PgConnection,
    owner: UserId,
    id: ConversationId,
) -> Result<Option<Conversation>, DbError> {
    Ok(sqlx::query_as!(
        Conversation,
        "SELECT id, title, system_prompt, created_at, updated_at FROM conversations
         WHERE id = $1 AND user_id = $2 AND deleted_at IS NULL",
        id.as_uuid(),
        owner.as_uuid()
    )
    .fetch_optional(db)
    .await?)
}

pub(in crate::db::store) async fn messages(
    db: &mut PgConnection,
    owner: UserId,
    id: ConversationId,
    after: Option<MessageId>,
    limit: u32,
) -> Result<Vec<StoredMessage>, DbError> {
    sqlx::query_as!(
        MessageColumns,
        "SELECT m.id, m.conversation_id, m.turn_id, m.parent_id, m.role, m.content, m.thinking, NULL::text AS images,
                m.tool_calls, m.tool_name, m.tool_call_id, m.status, m.created_at
         FROM messages m JOIN conversations c ON c.id = m.conversation_id
         WHERE m.conversation_id = $1 AND c.user_id = $2 AND c.deleted_at IS NULL AND m.id > $3 ORDER BY m.id LIMIT $4",
        id.as_uuid(),
        owner.as_uuid(),
        after.map_or(Uuid::nil(), MessageId::as_uuid),
        i64::from(limit)
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(StoredMessage::try_from)
    .collect()
}

pub(in crate::db::store) async fn branch(
    db: &mut PgConnection,
    owner: UserId,
    id: ConversationId,
    end: Option<Uuid>,
    limit: u32,
    bytes_max: u32,
) -> Result<Option<Branch>, DbError> {
    let Some(conversation) = one(db, owner, id).await? else { return Ok(None) };
    // Weighed by lengths, which the database knows without reading the texts. What a message follows is the greatest id that
    // is not above its parent's or, without one, is below its own: each step reads one entry of the index or two.
    let messages = sqlx::query_as!(
        MessageColumns,
        r#"WITH RECURSIVE branch AS (
             SELECT m.id, m.parent_id, 1 AS length,
                    octet_length(m.content)::bigint + coalesce(octet_length(m.thinking), 0)
                    + coalesce(octet_length(m.images), 0) + coalesce(octet_length(m.tool_calls), 0) AS bytes
             FROM messages m
             WHERE m.conversation_id = $1 AND m.id = coalesce($2, (SELECT e.id FROM messages e WHERE e.conversation_id = $1
                                                                   ORDER BY e.id DESC LIMIT 1))
             UNION ALL
             SELECT m.id, m.parent_id, b.length + 1, b.bytes + m.bytes
             FROM branch b CROSS JOIN LATERAL (
                 SELECT p.id, p.parent_id,
                        octet_length(p.content)::bigint + coalesce(octet_length(p.thinking), 0)
                        + coalesce(octet_length(p.images), 0) + coalesce(octet_length(p.tool_calls), 0) AS bytes
                 FROM messages p WHERE p.conversation_id = $1 AND p.id <= coalesce(b.parent_id, b.id)
                   AND (b.parent_id IS NOT NULL OR p.id <> b.id) ORDER BY p.id DESC LIMIT 1) m
             WHERE b.length < $3 AND b.parent_id IS DISTINCT FROM $1 AND (b.parent_id IS NULL OR m.id = b.parent_id)
               AND b.bytes + m.bytes <= $4::bigint)
         SELECT m.id, m.conversation_id, m.turn_id, m.parent_id, m.role, m.content, m.thinking, m.images, m.tool_calls,
                m.tool_name, m.tool_call_id, m.status, m.created_at
         FROM branch b JOIN messages m ON m.id = b.id ORDER BY b.length"#,
        id.as_uuid(),
        end,
        limit as i32,
        i64::from(bytes_max)
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(StoredMessage::try_from)
    .collect::<Result<_, DbError>>()?;
    Ok(Some(Branch { conversation, messages }))
}

/// How many conversations the account has, as far as `most`.
pub(super) async fn count(db: &mut PgConnection, owner: UserId, most: u32) -> Result<u32, DbError> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM
             (SELECT FROM conversations WHERE user_id = $1 AND deleted_at IS NULL LIMIT $2) AS few"#,
        owner.as_uuid(),
        i64::from(most)
    )
    .fetch_one(db)
    .await?;
    Ok(u32::try_from(count).unwrap_or(most))
}

pub(super) async fn insert(
    db: &mut PgConnection,
    owner: UserId,
    conversation: &Conversation,
) -> Result<(), DbError> {
    let title = storable(&conversation.title);
    let system_prompt = conversation.system_prompt.as_deref().map(storable);
    sqlx::query!(
        "INSERT INTO conversations (id, user_id, title, title_words, system_prompt, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        conversation.id.as_uuid(),
        owner.as_uuid(),
        title.as_ref(),
        title_words(&conversation.title),
        system_prompt.as_deref(),
        conversation.created_at,
        conversation.updated_at
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The conversation, which nobody else changes until the transaction ends.
pub(super) async fn hold(
    db: &mut PgConnection,
    owner: UserId,
    id: ConversationId,
) -> Result<Option<Conversation>, DbError> {
    Ok(sqlx::query_as!(
        Conversation,
        "SELECT id, title, system_prompt, created_at, updated_at FROM conversations
         WHERE id = $1 AND user_id = $2 AND deleted_at IS NULL FOR NO KEY UPDATE",
        id.as_uuid(),
        owner.as_uuid()
    )
    .fetch_optional(db)
    .await?)
}

/// Holds those of them that there are, in the order of their ids, to the end of the transaction.
pub(super) async fn hold_all(db: &mut PgConnection, ids: &[ConversationId]) -> Result<(), DbError> {
    let ids: Vec<_> = ids.iter().map(|id| id.as_uuid()).collect();
    sqlx::query!("SELECT id FROM conversations WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE", &ids)
        .fetch_all(db)
        .await?;
    Ok(())
}

/// Writes all of it that can change.
pub(super) async fn set(db: &mut PgConnection, conversation: &Conversation) -> Result<(), DbError> {
    let title = storable(&conversation.title);
    let system_prompt = conversation.system_prompt.as_deref().map(storable);
    sqlx::query!(
        "UPDATE conversations SET title = $1, title_words = $2, system_prompt = $3, updated_at = $4 WHERE id = $5",
        title.as_ref(),
        title_words(&conversation.title),
        system_prompt.as_deref(),
        conversation.updated_at,
        conversation.id.as_uuid()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whether there was one to throw away.
pub(super) async fn throw_away(
    db: &mut PgConnection,
    owner: UserId,
    id: ConversationId,
    now: DateTime<Utc>,
) -> Result<bool, DbError> {
    let thrown_away = sqlx::query!(
        "UPDATE conversations SET deleted_at = $1 WHERE id = $2 AND user_id = $3 AND deleted_at IS NULL",
        now,
        id.as_uuid(),
        owner.as_uuid()
    )
    .execute(db)
    .await?;
    Ok(thrown_away.rows_affected() == 1)
}
