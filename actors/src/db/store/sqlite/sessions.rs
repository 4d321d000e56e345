//! Sign-ins and the rotation of their refresh tokens.

use chrono::{DateTime, Utc};
use domain::{
    account::User,
    email::EmailAddress,
    id::{SessionId, UserId},
    session::{Ending, Network, SESSIONS_PER_USER, Session},
};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::columns::{optional_time, time};
use crate::db::{
    DbError, RotateSession,
    store::{
        rows::{micros, only_but, storable},
        stored::SessionColumns,
    },
};

pub(in crate::db::store) async fn with_user(
    db: &mut SqliteConnection,
    session: SessionId,
) -> Result<Option<(Session, User)>, DbError> {
    sqlx::query(
        "SELECT s.*, u.email, u.role, u.disabled, u.requests_per_minute AS user_requests_per_minute,
                u.tokens_per_minute AS user_tokens_per_minute, u.streams AS user_streams, u.priority AS user_priority,
                u.models AS user_models, u.created_at AS user_created_at
         FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = ?",
    )
    .bind(session.as_uuid())
    .fetch_optional(db)
    .await?
    .map(|row| columns(&row)?.try_into())
    .transpose()
}

pub(in crate::db::store) async fn list(
    db: &mut SqliteConnection,
    user: UserId,
    now: DateTime<Utc>,
    rested_since: DateTime<Utc>,
) -> Result<Vec<Session>, DbError> {
    sqlx::query(
        "SELECT s.*, u.email, u.role, u.disabled, u.requests_per_minute AS user_requests_per_minute,
                u.tokens_per_minute AS user_tokens_per_minute, u.streams AS user_streams, u.priority AS user_priority,
                u.models AS user_models, u.created_at AS user_created_at
         FROM sessions s JOIN users u ON u.id = s.user_id
         WHERE s.user_id = ? AND s.revoked_at IS NULL AND s.expires_at > ? AND s.rotated_at > ?
         ORDER BY max(s.rotated_at, coalesce(s.used_at, 0)) DESC, s.id DESC LIMIT ?",
    )
    .bind(user.as_uuid())
    .bind(micros(now))
    .bind(micros(rested_since))
    .bind(SESSIONS_PER_USER as i64)
    .fetch_all(db)
    .await?
    .iter()
    .map(|row| Ok(<(Session, User)>::try_from(columns(row)?)?.0))
    .collect()
}

pub(in crate::db::store) async fn knows_network(
    db: &mut SqliteConnection,
    email: EmailAddress,
    network: Network,
    since: DateTime<Utc>,
) -> Result<bool, DbError> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM sessions s JOIN users u ON u.id = s.user_id
                        WHERE u.email = ? AND s.network = ? AND s.created_at >= ?)",
    )
    .bind(email.as_str())
    .bind(network.to_string())
    .bind(micros(since))
    .fetch_one(db)
    .await?)
}

pub(super) async fn insert(db: &mut SqliteConnection, session: &Session) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO sessions (id, user_id, counter, min_epoch, created_at, rotated_at, expires_at, revoked_at, device,
                               address, network)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(session.id.as_uuid())
    .bind(session.user.as_uuid())
    .bind(session.counter)
    .bind(session.min_epoch)
    .bind(micros(session.created_at))
    .bind(micros(session.rotated_at))
    .bind(micros(session.expires_at))
    .bind(session.revoked_at.map(micros))
    .bind(session.device.as_deref().map(storable))
    .bind(session.address.map(|address| address.to_string()))
    .bind(session.address.map(|address| Network::of(address).to_string()))
    .execute(db)
    .await?;
    Ok(())
}

/// Ends all live sessions of an account but the `kept` most lately used.
pub(super) async fn end_beyond(
    db: &mut SqliteConnection,
    user: UserId,
    kept: usize,
    now: DateTime<Utc>,
) -> Result<Vec<SessionId>, DbError> {
    let ended: Vec<Uuid> = sqlx::query_scalar(
        "UPDATE sessions SET revoked_at = ?2 WHERE id IN
             (SELECT id FROM sessions WHERE user_id = ?1 AND revoked_at IS NULL AND expires_at > ?2
              ORDER BY max(rotated_at, coalesce(used_at, 0)) DESC, id DESC LIMIT -1 OFFSET ?3)
         RETURNING id",
    )
    .bind(user.as_uuid())
    .bind(micros(now))
    .bind(kept as i64)
    .fetch_all(db)
    .await?;
    Ok(ended.into_iter().map(Into::into).collect())
}

/// Ends live sessions of an account and names them.
pub(super) async fn end(
    db: &mut SqliteConnection,
    user: UserId,
    which: Ending,
    now: DateTime<Utc>,
) -> Result<Vec<SessionId>, DbError> {
    let (only, but) = only_but(which);
    let ended: Vec<Uuid> = sqlx::query_scalar(
        "UPDATE sessions SET revoked_at = ?2
         WHERE user_id = ?1 AND revoked_at IS NULL AND expires_at > ?2
           AND (?3 IS NULL OR id = ?3) AND (?4 IS NULL OR id <> ?4)
         RETURNING id",
    )
    .bind(user.as_uuid())
    .bind(micros(now))
    .bind(only)
    .bind(but)
    .fetch_all(db)
    .await?;
    Ok(ended.into_iter().map(Into::into).collect())
}

/// Whether the presented counter was the live one; then it is one higher now.
pub(super) async fn raise(db: &mut SqliteConnection, rotate: &RotateSession) -> Result<bool, DbError> {
    let risen = sqlx::query(
        "UPDATE sessions SET counter = counter + 1, rotated_at = ?1
         WHERE id = ?2 AND counter = ?3 AND counter >= min_epoch AND revoked_at IS NULL AND expires_at > ?1
           AND rotated_at > ?4 AND EXISTS (SELECT 1 FROM users WHERE users.id = sessions.user_id AND NOT disabled)",
    )
    .bind(micros(rotate.now))
    .bind(rotate.session.as_uuid())
    .bind(rotate.counter)
    .bind(micros(rotate.now - rotate.idle))
    .execute(db)
    .await?;
    Ok(risen.rows_affected() > 0)
}

/// Whether the session is a live one of this user; then its counter is one higher, and no older token serves.
pub(super) async fn raise_epoch(
    db: &mut SqliteConnection,
    user: UserId,
    session: SessionId,
    now: DateTime<Utc>,
) -> Result<bool, DbError> {
    let risen = sqlx::query(
        "UPDATE sessions SET counter = counter + 1, min_epoch = counter + 1, rotated_at = ?1
         WHERE id = ?2 AND user_id = ?3 AND revoked_at IS NULL AND expires_at > ?1",
    )
    .bind(micros(now))
    .bind(session.as_uuid())
    .bind(user.as_uuid())
    .execute(db)
    .await?;
    Ok(risen.rows_affected() > 0)
}

pub(super) fn columns(row: &SqliteRow) -> Result<SessionColumns, DbError> {
    Ok(SessionColumns {
        id: row.try_get("id")?,
        user_id: row.try_get("user_id")?,
        counter: row.try_get("counter")?,
        min_epoch: row.try_get("min_epoch")?,
        created_at: time(row, "created_at")?,
        rotated_at: time(row, "rotated_at")?,
        used_at: optional_time(row, "used_at")?,
        expires_at: time(row, "expires_at")?,
        revoked_at: optional_time(row, "revoked_at")?,
        device: row.try_get("device")?,
        address: row.try_get("address")?,
        email: row.try_get("email")?,
        role: row.try_get("role")?,
        disabled: row.try_get("disabled")?,
        user_requests_per_minute: row.try_get("user_requests_per_minute")?,
        user_tokens_per_minute: row.try_get("user_tokens_per_minute")?,
        user_streams: row.try_get("user_streams")?,
        user_priority: row.try_get("user_priority")?,
        user_models: row.try_get("user_models")?,
        user_created_at: time(row, "user_created_at")?,
    })
}
