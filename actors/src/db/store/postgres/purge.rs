//! What nobody needs any more, taken away a bounded number of rows at a time.
//!
//! Another instance may do the same work at the same moment: what it holds is left to it.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::db::DbError;

/// Removes sessions that ended before.
pub(super) async fn sessions(
    db: &mut PgConnection,
    before: DateTime<Utc>,
    limit: u32,
) -> Result<u64, DbError> {
    let purged = sqlx::query!(
        "DELETE FROM sessions WHERE id IN
             (SELECT id FROM sessions WHERE coalesce(revoked_at, expires_at) < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
        before,
        i64::from(limit)
    )
    .execute(db)
    .await?;
    Ok(purged.rows_affected())
}

/// Marks conversations without activity since then as thrown away, the oldest first.
pub(super) async fn retire(
    db: &mut PgConnection,
    before: DateTime<Utc>,
    now: DateTime<Utc>,
    limit: u32,
) -> Result<u64, DbError> {
    let retired = sqlx::query!(
        "UPDATE conversations SET deleted_at = $1 WHERE id IN
             (SELECT id FROM conversations WHERE updated_at < $2 AND deleted_at IS NULL ORDER BY updated_at LIMIT $3
              FOR NO KEY UPDATE SKIP LOCKED)",
        now,
        before,
        i64::from(limit)
    )
    .execute(db)
    .await?;
    Ok(retired.rows_affected())
}

/// Some conversations that were thrown away, held; see [`left_behind`].
pub(super) async fn thrown_away(db: &mut PgConnection, limit: u32) -> Result<Vec<Uuid>, DbError> {
    Ok(sqlx::query_scalar!(
        "SELECT id FROM conversations WHERE deleted_at IS NOT NULL ORDER BY id LIMIT $1
         FOR NO KEY UPDATE SKIP LOCKED",
        i64::from(limit)
    )
    .fetch_all(db)
    .await?)
}

/// Some conversations of deleted accounts, held.
pub(super) async fn left_behind(db: &mut PgConnection, limit: u32) -> Result<Vec<Uuid>, DbError> {
    // Weakly, so that a turn that is settled right now may still refer to its conversation.
    Ok(sqlx::query_scalar!(
        "SELECT c.id FROM conversations c JOIN users u ON u.id = c.user_id
         WHERE u.deleted_at IS NOT NULL LIMIT $1 FOR NO KEY UPDATE OF c SKIP LOCKED",
        i64::from(limit)
    )
    .fetch_all(db)
    .await?)
}

/// Removes messages until there are `limit` of them or they have `bytes` together.
pub(super) async fn messages(
    db: &mut PgConnection,
    conversations: &[Uuid],
    limit: u32,
    bytes: u32,
) -> Result<u64, DbError> {
    // Held in the order in which checkpoints hold them.
    let purged = sqlx::query!(
        "WITH few AS (
             SELECT id, octet_length(content)::bigint + coalesce(octet_length(thinking), 0) + coalesce(octet_length(images), 0)
                        + coalesce(octet_length(tool_calls), 0) AS bytes
             FROM messages WHERE conversation_id = ANY($1) LIMIT $2),
         weighed AS (SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS bytes_before FROM few)
         DELETE FROM messages WHERE id IN
             (SELECT id FROM messages WHERE id IN (SELECT id FROM weighed WHERE bytes_before < $3::bigint)
              ORDER BY id FOR UPDATE)",
        conversations,
        i64::from(limit),
        i64::from(bytes)
    )
    .execute(db)
    .await?;
    Ok(purged.rows_affected())
}

/// Takes turns out of their conversations; the usage stays.
pub(super) async fn turns(db: &mut PgConnection, conversations: &[Uuid], limit: u32) -> Result<u64, DbError> {
    let freed = sqlx::query!(
        "UPDATE turns SET conversation_id = NULL WHERE id IN
             (SELECT id FROM turns WHERE id IN (SELECT id FROM turns WHERE conversation_id = ANY($1) LIMIT $2)
              ORDER BY id FOR NO KEY UPDATE)",
        conversations,
        i64::from(limit)
    )
    .execute(db)
    .await?;
    Ok(freed.rows_affected())
}

pub(super) async fn conversations(db: &mut PgConnection, conversations: &[Uuid]) -> Result<u64, DbError> {
    let purged =
        sqlx::query!("DELETE FROM conversations WHERE id = ANY($1)", conversations).execute(db).await?;
    Ok(purged.rows_affected())
}
