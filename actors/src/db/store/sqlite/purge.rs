//! What nobody needs any more, taken away a bounded number of rows at a time.

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;
use uuid::Uuid;

use crate::db::{
    DbError,
    store::rows::{json, micros},
};

/// Removes sessions that ended before.
pub(super) async fn sessions(
    db: &mut SqliteConnection,
    before: DateTime<Utc>,
    limit: u32,
) -> Result<u64, DbError> {
    let purged = sqlx::query(
        "DELETE FROM sessions WHERE id IN
             (SELECT id FROM sessions WHERE coalesce(revoked_at, expires_at) < ? LIMIT ?)",
    )
    .bind(micros(before))
    .bind(limit)
    .execute(db)
    .await?;
    Ok(purged.rows_affected())
}

/// Marks conversations without activity since then as thrown away, the oldest first.
pub(super) async fn retire(
    db: &mut SqliteConnection,
    before: DateTime<Utc>,
    now: DateTime<Utc>,
    limit: u32,
) -> Result<u64, DbError> {
    let retired = sqlx::query(
        "UPDATE conversations SET deleted_at = ? WHERE id IN
             (SELECT id FROM conversations WHERE updated_at < ? AND deleted_at IS NULL ORDER BY updated_at LIMIT ?)",
    )
    .bind(micros(now))
    .bind(micros(before))
    .bind(limit)
    .execute(db)
    .await?;
    Ok(retired.rows_affected())
}

/// Some conversations that were thrown away.
pub(super) async fn thrown_away(db: &mut SqliteConnection, limit: u32) -> Result<Vec<Uuid>, DbError> {
    Ok(sqlx::query_scalar("SELECT id FROM conversations WHERE deleted_at IS NOT NULL ORDER BY id LIMIT ?")
        .bind(limit)
        .fetch_all(db)
        .await?)
}

/// Some conversations of deleted accounts.
pub(super) async fn left_behind(db: &mut SqliteConnection, limit: u32) -> Result<Vec<Uuid>, DbError> {
    Ok(sqlx::query_scalar(
        "SELECT c.id FROM users u JOIN conversations c ON c.user_id = u.id WHERE u.deleted_at IS NOT NULL LIMIT ?",
    )
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// Removes messages until there are `limit` of them or they have `bytes` together.
pub(super) async fn messages(
    db: &mut SqliteConnection,
    conversations: &[Uuid],
    limit: u32,
    bytes: u32,
) -> Result<u64, DbError> {
    let purged = sqlx::query(
        "WITH few AS (
             SELECT id, octet_length(content) + coalesce(octet_length(thinking), 0) + coalesce(octet_length(images), 0)
                        + coalesce(octet_length(tool_calls), 0) AS bytes
             FROM messages WHERE conversation_id IN (SELECT unhex(value, '-') FROM jsonb_each(?)) LIMIT ?),
         weighed AS (SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS bytes_before FROM few)
         DELETE FROM messages WHERE id IN (SELECT id FROM weighed WHERE bytes_before < ?)",
    )
    .bind(json(conversations)?)
    .bind(limit)
    .bind(bytes)
    .execute(db)
    .await?;
    Ok(purged.rows_affected())
}

/// Takes turns out of their conversations; the usage stays.
pub(super) async fn turns(
    db: &mut SqliteConnection,
    conversations: &[Uuid],
    limit: u32,
) -> Result<u64, DbError> {
    let freed = sqlx::query(
        "UPDATE turns SET conversation_id = NULL WHERE id IN
             (SELECT id FROM turns WHERE conversation_id IN (SELECT unhex(value, '-') FROM jsonb_each(?)) LIMIT ?)",
    )
    .bind(json(conversations)?)
    .bind(limit)
    .execute(db)
    .await?;
    Ok(freed.rows_affected())
}

pub(super) async fn conversations(db: &mut SqliteConnection, conversations: &[Uuid]) -> Result<u64, DbError> {
    let purged =
        sqlx::query("DELETE FROM conversations WHERE id IN (SELECT unhex(value, '-') FROM jsonb_each(?))")
            .bind(json(conversations)?)
            .execute(db)
            .await?;
    Ok(purged.rows_affected())
}
