//! All that is kept about an account, oldest first, for its owner to take along.

use domain::{
    account::User,
    api_key::ApiKey,
    conversation::{Conversation, StoredMessage},
    id::{ApiKeyId, ConversationId, MessageId, SessionId, UserId},
    session::Session,
};
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{
    api_keys,
    conversations::{conversation, message},
    sessions,
};
use crate::db::DbError;

pub(in crate::db::store) async fn sessions(
    db: &mut SqliteConnection,
    user: UserId,
    after: Option<SessionId>,
    limit: u32,
) -> Result<Vec<Session>, DbError> {
    sqlx::query(
        "SELECT s.*, u.email, u.role, u.disabled, u.requests_per_minute AS user_requests_per_minute,
                u.tokens_per_minute AS user_tokens_per_minute, u.streams AS user_streams, u.priority AS user_priority,
                u.models AS user_models, u.created_at AS user_created_at
         FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.user_id = ? AND s.id > ? ORDER BY s.id LIMIT ?",
    )
    .bind(user.as_uuid())
    .bind(after.map_or(Uuid::nil(), SessionId::as_uuid))
    .bind(limit)
    .fetch_all(db)
    .await?
    .iter()
    .map(|row| Ok(<(Session, User)>::try_from(sessions::columns(row)?)?.0))
    .collect()
}

pub(in crate::db::store) async fn keys(
    db: &mut SqliteConnection,
    user: UserId,
    after: Option<ApiKeyId>,
    limit: u32,
) -> Result<Vec<ApiKey>, DbError> {
    sqlx::query(
        "SELECT k.*, u.email, u.role, u.disabled, u.requests_per_minute AS user_requests_per_minute,
                u.tokens_per_minute AS user_tokens_per_minute, u.streams AS user_streams, u.priority AS user_priority,
                u.models AS user_models, u.created_at AS user_created_at
         FROM api_keys k JOIN users u ON u.id = k.user_id WHERE k.user_id = ? AND k.id > ? ORDER BY k.id LIMIT ?",
    )
    .bind(user.as_uuid())
    .bind(after.map_or(Uuid::nil(), ApiKeyId::as_uuid))
    .bind(limit)
    .fetch_all(db)
    .await?
    .iter()
    .map(|row| Ok(<(ApiKey, User)>::try_from(api_keys::columns(row)?)?.0))
    .collect()
}

pub(in crate::db::store) async fn conversations(
    db: &mut SqliteConnection,
    user: UserId,
    after: Option<ConversationId>,
    limit: u32,
) -> Result<Vec<Conversation>, DbError> {
    sqlx::query(
        "SELECT id, title, system_prompt, created_at, updated_at FROM conversations
         WHERE user_id = ? AND id > ? AND deleted_at IS NULL ORDER BY id LIMIT ?",
    )
    .bind(user.as_uuid())
    .bind(after.map_or(Uuid::nil(), ConversationId::as_uuid))
    .bind(limit)
    .fetch_all(db)
    .await?
    .iter()
    .map(conversation)
    .collect()
}

pub(in crate::db::store) async fn messages(
    db: &mut SqliteConnection,
    owner: UserId,
    conversation: ConversationId,
    after: Option<MessageId>,
    limit: u32,
    bytes: u32,
) -> Result<Vec<StoredMessage>, DbError> {
    sqlx::query(
        "WITH few AS (
             SELECT m.id, octet_length(m.content) + coalesce(octet_length(m.thinking), 0)
                          + coalesce(octet_length(m.images), 0) + coalesce(octet_length(m.tool_calls), 0) AS bytes
             FROM messages m JOIN conversations c ON c.id = m.conversation_id
             WHERE m.conversation_id = ? AND c.user_id = ? AND c.deleted_at IS NULL AND m.id > ? ORDER BY m.id LIMIT ?),
         weighed AS (SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS bytes_before FROM few)
         SELECT m.* FROM messages m JOIN weighed ON weighed.id = m.id WHERE weighed.bytes_before < ? ORDER BY m.id",
    )
    .bind(conversation.as_uuid())
    .bind(owner.as_uuid())
    .bind(after.map_or(Uuid::nil(), MessageId::as_uuid))
    .bind(limit)
    .bind(bytes)
    .fetch_all(db)
    .await?
    .iter()
    .map(message)
    .collect()
}
