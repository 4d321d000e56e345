//! Sign-ins and the rotation of their refresh tokens.
//!
//! Several sessions are locked in the order of their ids, so that lanes do not deadlock.

use chrono::{DateTime, Utc};
use domain::{
    account::User,
    email::EmailAddress,
    id::{SessionId, UserId},
    session::{Ending, Network, SESSIONS_PER_USER, Session},
};
use sqlx::PgConnection;

use crate::db::{
    DbError, RotateSession,
    store::{
        rows::{only_but, storable},
        stored::SessionColumns,
    },
};

pub(in crate::db::store) async fn with_user(
    db: &mut PgConnection,
    session: SessionId,
) -> Result<Option<(Session, User)>, DbError> {
    sqlx::query_as!(
        SessionColumns,
        "SELECT s.id, s.user_id, s.counter, s.min_epoch, s.created_at, s.rotated_at, s.used_at, s.expires_at,
                s.revoked_at, s.device, s.address, u.email, u.role, u.disabled,
                u.requests_per_minute AS user_requests_per_minute, u.tokens_per_minute AS user_tokens_per_minute,
                u.streams AS user_streams, u.priority AS user_priority, u.models AS user_models,
                u.created_at AS user_created_at
         FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = $1",
        session.as_uuid()
    )
    .fetch_optional(db)
    .await?
    .map(SessionColumns::try_into)
    .transpose()
}

pub(in crate::db::store) async fn list(
    db: &mut PgConnection,
    user: UserId,
    now: DateTime<Utc>,
    rested_since: DateTime<Utc>,
) -> Result<Vec<Session>, DbError> {
    sqlx::query_as!(
        SessionColumns,
        "SELECT s.id, s.user_id, s.counter, s.min_epoch, s.created_at, s.rotated_at, s.used_at, s.expires_at,
                s.revoked_at, s.device, s.address, u.email, u.role, u.disabled,
                u.requests_per_minute AS user_requests_per_minute, u.tokens_per_minute AS user_tokens_per_minute,
                u.streams AS user_streams, u.priority AS user_priority, u.models AS user_models,
                u.created_at AS user_created_at
         FROM sessions s JOIN users u ON u.id = s.user_id
         WHERE s.user_id = $1 AND s.revoked_at IS NULL AND s.expires_at > $2 AND s.rotated_at > $3
         ORDER BY greatest(s.rotated_at, s.used_at) DESC, s.id DESC LIMIT $4",
        user.as_uuid(),
        now,
        rested_since,
        SESSIONS_PER_USER as i64
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(|row| Ok(<(Session, User)>::try_from(row)?.0))
    .collect()
}

pub(in crate::db::store) async fn knows_network(
    db: &mut PgConnection,
    email: EmailAddress,
    network: Network,
    since: DateTime<Utc>,
) -> Result<bool, DbError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM sessions s JOIN users u ON u.id = s.user_id
                          WHERE u.email = $1 AND s.network = $2 AND s.created_at >= $3) AS "known!""#,
        email.as_str(),
        network.to_string(),
        since
    )
    .fetch_one(db)
    .await?)
}

pub(super) async fn insert(db: &mut PgConnection, session: &Session) -> Result<(), DbError> {
    let device = session.device.as_deref().map(storable);
    sqlx::query!(
        "INSERT INTO sessions (id, user_id, counter, min_epoch, created_at, rotated_at, expires_at, revoked_at, device,
                               address, network)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        session.id.as_uuid(),
        session.user.as_uuid(),
        i64::from(session.counter),
        i64::from(session.min_epoch),
        session.created_at,
        session.rotated_at,
        session.expires_at,
        session.revoked_at,
        device.as_deref(),
        session.address.map(|address| address.to_string()),
        session.address.map(|address| Network::of(address).to_string())
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Ends all live sessions of an account but the `kept` most lately used.
pub(super) async fn end_beyond(
    db: &mut PgConnection,
    user: UserId,
    kept: usize,
    now: DateTime<Utc>,
) -> Result<Vec<SessionId>, DbError> {
    let ended = sqlx::query_scalar!(
        "UPDATE sessions SET revoked_at = $2 WHERE id IN
             (SELECT id FROM sessions WHERE id IN
                  (SELECT id FROM sessions WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2
                   ORDER BY greatest(rotated_at, used_at) DESC, id DESC OFFSET $3)
              ORDER BY id FOR NO KEY UPDATE)
         AND revoked_at IS NULL RETURNING id",
        user.as_uuid(),
        now,
        kept as i64
    )
    .fetch_all(db)
    .await?;
    Ok(ended.into_iter().map(Into::into).collect())
}

/// Ends live sessions of an account and names them.
pub(super) async fn end(
    db: &mut PgConnection,
    user: UserId,
    which: Ending,
    now: DateTime<Utc>,
) -> Result<Vec<SessionId>, DbError> {
    let (only, but) = only_but(which);
    let ended = sqlx::query_scalar!(
        "UPDATE sessions SET revoked_at = $2 WHERE id IN
             (SELECT id FROM sessions
              WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2
                AND ($3::uuid IS NULL OR id = $3) AND ($4::uuid IS NULL OR id <> $4)
              ORDER BY id FOR NO KEY UPDATE)
         RETURNING id",
        user.as_uuid(),
        now,
        only,
        but
    )
    .fetch_all(db)
    .await?;
    Ok(ended.into_iter().map(Into::into).collect())
}

/// Whether the presented counter was the live one; then it is one higher now.
pub(super) async fn raise(db: &mut PgConnection, rotate: &RotateSession) -> Result<bool, DbError> {
    let risen = sqlx::query!(
        "UPDATE sessions SET counter = counter + 1, rotated_at = $1
         WHERE id = $2 AND counter = $3 AND counter >= min_epoch AND revoked_at IS NULL AND expires_at > $1
           AND rotated_at > $4 AND EXISTS (SELECT 1 FROM users WHERE users.id = sessions.user_id AND NOT disabled)",
        rotate.now,
        rotate.session.as_uuid(),
        i64::from(rotate.counter),
        rotate.now - rotate.idle
    )
    .execute(db)
    .await?;
    Ok(risen.rows_affected() > 0)
}

/// Whether the session is a live one of this user; then its counter is one higher, and no older token serves.
pub(super) async fn raise_epoch(
    db: &mut PgConnection,
    user: UserId,
    session: SessionId,
    now: DateTime<Utc>,
) -> Result<bool, DbError> {
    let risen = sqlx::query!(
        "UPDATE sessions SET counter = counter + 1, min_epoch = counter + 1, rotated_at = $1
         WHERE id = $2 AND user_id = $3 AND revoked_at IS NULL AND expires_at > $1",
        now,
        session.as_uuid(),
        user.as_uuid()
    )
    .execute(db)
    .await?;
    Ok(risen.rows_affected() > 0)
}
