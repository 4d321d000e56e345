//! Conversations and their messages, as their owner reads them.

use domain::{
    conversation::{Conversation, StoredMessage},
    id::{ConversationId, MessageId, UserId},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::db::{DbError, store::stored::MessageColumns};

pub(in crate::db::store) async fn list(
    db: &mut PgConnection,
    owner: UserId,
    before: Option<ConversationId>,
    limit: u32,
) -> Result<Vec<Conversation>, DbError> {
    let before = before.map_or(Uuid::max(), ConversationId::as_uuid);
    Ok(sqlx::query_as!(
        Conversation,
        "SELECT id, title, system_prompt, created_at, updated_at FROM conversations
         WHERE user_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
        owner.as_uuid(),
        before,
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
        "SELECT id, title, system_prompt, created_at, updated_at FROM conversations WHERE id = $1 AND user_id = $2",
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
         WHERE m.conversation_id = $1 AND c.user_id = $2 AND m.id > $3 ORDER BY m.id LIMIT $4",
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

pub(in crate::db::store) async fn newest(
    db: &mut PgConnection,
    owner: UserId,
    id: ConversationId,
    limit: u32,
    bytes_max: u32,
) -> Result<Vec<StoredMessage>, DbError> {
    // Weighed by lengths, which the database knows without reading the texts.
    sqlx::query_as!(
        MessageColumns,
        "WITH newest AS (
             SELECT m.id, octet_length(m.content)::bigint + coalesce(octet_length(m.thinking), 0)
                          + coalesce(octet_length(m.images), 0) + coalesce(octet_length(m.tool_calls), 0) AS bytes
             FROM messages m JOIN conversations c ON c.id = m.conversation_id
             WHERE m.conversation_id = $1 AND c.user_id = $2 ORDER BY m.id DESC LIMIT $3),
         weighed AS (SELECT id, sum(bytes) OVER (ORDER BY id DESC) AS bytes_so_far FROM newest)
         SELECT m.id, m.conversation_id, m.turn_id, m.parent_id, m.role, m.content, m.thinking, m.images, m.tool_calls,
                m.tool_name, m.tool_call_id, m.status, m.created_at
         FROM messages m JOIN weighed ON weighed.id = m.id
         WHERE weighed.bytes_so_far <= $4::bigint ORDER BY m.id DESC",
        id.as_uuid(),
        owner.as_uuid(),
        i64::from(limit),
        i64::from(bytes_max)
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(StoredMessage::try_from)
    .collect()
}
