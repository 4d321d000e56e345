//! All that is kept about an account, oldest first, for its owner to take along.

use domain::{
    account::User,
    api_key::ApiKey,
    conversation::{Conversation, StoredMessage},
    id::{ApiKeyId, ConversationId, MessageId, SessionId, UserId},
    session::Session,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::db::{
    DbError,
    store::stored::{ApiKeyColumns, MessageColumns, SessionColumns},
};

pub(in crate::db::store) async fn sessions(
    db: &mut PgConnection,
    user: UserId,
    after: Option<SessionId>,
    limit: u32,
) -> Result<Vec<Session>, DbError> {
    sqlx::query_as!(
        SessionColumns,
        "SELECT s.id, s.user_id, s.counter, s.min_epoch, s.created_at, s.rotated_at, s.used_at, s.expires_at,
                s.revoked_at, s.device, s.address, u.email, u.role, u.disabled,
                u.requests_per_minute AS user_requests_per_minute, u.tokens_per_minute AS user_tokens_per_minute,
                u.streams AS user_streams, u.priority AS user_priority, u.models AS user_models,
                u.created_at AS user_created_at
         FROM sessions s JOIN users u ON u.id = s.user_id
         WHERE s.user_id = $1 AND s.id > $2 ORDER BY s.id LIMIT $3",
        user.as_uuid(),
        after.map_or(Uuid::nil(), SessionId::as_uuid),
        i64::from(limit)
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(|row| Ok(<(Session, User)>::try_from(row)?.0))
    .collect()
}

pub(in crate::db::store) async fn keys(
    db: &mut PgConnection,
    user: UserId,
    after: Option<ApiKeyId>,
    limit: u32,
) -> Result<Vec<ApiKey>, DbError> {
    sqlx::query_as!(
        ApiKeyColumns,
        "SELECT k.id, k.user_id, k.name, k.prefix, k.scopes, k.requests_per_minute, k.tokens_per_minute, k.streams,
                k.priority, k.models, k.created_at, k.expires_at, k.used_at, k.revoked_at, u.email, u.role, u.disabled,
                u.requests_per_minute AS user_requests_per_minute, u.tokens_per_minute AS user_tokens_per_minute,
                u.streams AS user_streams, u.priority AS user_priority, u.models AS user_models,
                u.created_at AS user_created_at
         FROM api_keys k JOIN users u ON u.id = k.user_id
         WHERE k.user_id = $1 AND k.id > $2 ORDER BY k.id LIMIT $3",
        user.as_uuid(),
        after.map_or(Uuid::nil(), ApiKeyId::as_uuid),
        i64::from(limit)
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(|row| Ok(<(ApiKey, User)>::try_from(row)?.0))
    .collect()
}

pub(in crate::db::store) async fn conversations(
    db: &mut PgConnection,
    user: UserId,
    after: Option<ConversationId>,
    limit: u32,
) -> Result<Vec<Conversation>, DbError> {
    Ok(sqlx::query_as!(
        Conversation,
        "SELECT id, title, system_prompt, created_at, updated_at FROM conversations
         WHERE user_id = $1 AND id > $2 AND deleted_at IS NULL ORDER BY id LIMIT $3",
        user.as_uuid(),
        after.map_or(Uuid::nil(), ConversationId::as_uuid),
        i64::from(limit)
    )
    .fetch_all(db)
    .await?)
}

pub(in crate::db::store) async fn messages(
    db: &mut PgConnection,
    owner: UserId,
    conversation: ConversationId,
    after: Option<MessageId>,
    limit: u32,
    bytes: u32,
) -> Result<Vec<StoredMessage>, DbError> {
    sqlx::query_as!(
        MessageColumns,
        "WITH few AS (
             SELECT m.id, octet_length(m.content)::bigint + coalesce(octet_length(m.thinking), 0)
                          + coalesce(octet_length(m.images), 0) + coalesce(octet_length(m.tool_calls), 0) AS bytes
             FROM messages m JOIN conversations c ON c.id = m.conversation_id
             WHERE m.conversation_id = $1 AND c.user_id = $2 AND c.deleted_at IS NULL AND m.id > $3 ORDER BY m.id LIMIT $4),
         weighed AS (SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS bytes_before FROM few)
         SELECT m.id, m.conversation_id, m.turn_id, m.parent_id, m.role, m.content, m.thinking, m.images, m.tool_calls,
                m.tool_name, m.tool_call_id, m.status, m.created_at
         FROM messages m JOIN weighed ON weighed.id = m.id
         WHERE weighed.bytes_before < $5::bigint ORDER BY m.id",
        conversation.as_uuid(),
        owner.as_uuid(),
        after.map_or(Uuid::nil(), MessageId::as_uuid),
        i64::from(limit),
        i64::from(bytes)
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(StoredMessage::try_from)
    .collect()
}
