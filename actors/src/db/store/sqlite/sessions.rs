//! Sign-ins and the rotation of their refresh tokens.

use domain::{
    account::{AuditEntry, Rotation, Session, User},
    id::SessionId,
};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    accounts::record,
    batch::{optional_time, time},
};
use crate::db::{
    DbError, RotateSession,
    message::Written,
    store::{
        rotation::{Judgement, judge},
        rows::micros,
        stored::SessionColumns,
    },
};

pub(super) async fn with_user(
    db: &mut SqliteConnection,
    session: SessionId,
) -> Result<Option<(Session, User)>, DbError> {
    sqlx::query(
        "SELECT s.id, s.user_id, s.counter, s.created_at, s.rotated_at, s.expires_at, s.revoked_at,
                u.email, u.role, u.disabled, u.created_at AS user_created_at
         FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = ?",
    )
    .bind(session.as_uuid())
    .fetch_optional(db)
    .await?
    .map(|row| columns(&row)?.try_into())
    .transpose()
}

pub(super) async fn start(
    db: &mut SqliteConnection,
    session: &Session,
    audit: &AuditEntry,
) -> Result<Written, DbError> {
    sqlx::query(
        "INSERT INTO sessions (id, user_id, counter, created_at, rotated_at, expires_at, revoked_at)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(session.id.as_uuid())
    .bind(session.user.as_uuid())
    .bind(session.counter)
    .bind(micros(session.created_at))
    .bind(micros(session.rotated_at))
    .bind(micros(session.expires_at))
    .bind(session.revoked_at.map(micros))
    .execute(&mut *db)
    .await?;
    record(db, audit).await?;
    Ok(Written::Done)
}

pub(super) async fn rotate(db: &mut SqliteConnection, rotate: &RotateSession) -> Result<Rotation, DbError> {
    let rotated = sqlx::query(
        "UPDATE sessions SET counter = counter + 1, rotated_at = ?
         WHERE id = ? AND counter = ? AND revoked_at IS NULL AND expires_at > ? AND rotated_at > ?
           AND EXISTS (SELECT 1 FROM users WHERE users.id = sessions.user_id AND NOT disabled)",
    )
    .bind(micros(rotate.now))
    .bind(rotate.session.as_uuid())
    .bind(rotate.counter)
    .bind(micros(rotate.now))
    .bind(micros(rotate.now - rotate.idle))
    .execute(&mut *db)
    .await?;
    let Some((session, user)) = with_user(&mut *db, rotate.session).await? else {
        return Ok(Rotation::Dead);
    };
    if rotated.rows_affected() > 0 {
        return Ok(Rotation::Rotated { session, user });
    }
    let owner = session.user;
    match judge(rotate, session, user) {
        Judgement::Answer(answer) => Ok(answer),
        Judgement::Revoke => {
            sqlx::query("UPDATE sessions SET revoked_at = ? WHERE id = ?")
                .bind(micros(rotate.now))
                .bind(rotate.session.as_uuid())
                .execute(&mut *db)
                .await?;
            record(db, &rotate.reuse_audit).await?;
            Ok(Rotation::Reused { user: owner })
        }
    }
}

fn columns(row: &SqliteRow) -> Result<SessionColumns, DbError> {
    Ok(SessionColumns {
        id: row.try_get("id")?,
        user_id: row.try_get("user_id")?,
        counter: row.try_get("counter")?,
        created_at: time(row, "created_at")?,
        rotated_at: time(row, "rotated_at")?,
        expires_at: time(row, "expires_at")?,
        revoked_at: optional_time(row, "revoked_at")?,
        email: row.try_get("email")?,
        role: row.try_get("role")?,
        disabled: row.try_get("disabled")?,
        user_created_at: time(row, "user_created_at")?,
    })
}
