//! Sign-ins and the rotation of their refresh tokens.

use domain::{
    account::{AuditEntry, Rotation, Session, User},
    id::SessionId,
};
use sqlx::PgConnection;

use super::accounts::record;
use crate::db::{
    DbError, RotateSession,
    message::Written,
    store::{
        rotation::{Judgement, judge},
        stored::SessionColumns,
    },
};

pub(super) async fn with_user(
    db: &mut PgConnection,
    session: SessionId,
) -> Result<Option<(Session, User)>, DbError> {
    sqlx::query_as!(
        SessionColumns,
        "SELECT s.id, s.user_id, s.counter, s.created_at, s.rotated_at, s.expires_at, s.revoked_at,
                u.email, u.role, u.disabled, u.created_at AS user_created_at
         FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = $1",
        session.as_uuid()
    )
    .fetch_optional(db)
    .await?
    .map(SessionColumns::try_into)
    .transpose()
}

pub(super) async fn start(
    db: &mut PgConnection,
    session: &Session,
    audit: &AuditEntry,
) -> Result<Written, DbError> {
    sqlx::query!(
        "INSERT INTO sessions (id, user_id, counter, created_at, rotated_at, expires_at, revoked_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        session.id.as_uuid(),
        session.user.as_uuid(),
        i64::from(session.counter),
        session.created_at,
        session.rotated_at,
        session.expires_at,
        session.revoked_at
    )
    .execute(&mut *db)
    .await?;
    record(db, audit).await?;
    Ok(Written::Done)
}

pub(super) async fn rotate(db: &mut PgConnection, rotate: &RotateSession) -> Result<Rotation, DbError> {
    // Of two that come at once, the second waits for the first's row lock and then finds the counter risen.
    let rotated = sqlx::query!(
        "UPDATE sessions SET counter = counter + 1, rotated_at = $1
         WHERE id = $2 AND counter = $3 AND revoked_at IS NULL AND expires_at > $1 AND rotated_at > $4
           AND EXISTS (SELECT 1 FROM users WHERE users.id = sessions.user_id AND NOT disabled)",
        rotate.now,
        rotate.session.as_uuid(),
        i64::from(rotate.counter),
        rotate.now - rotate.idle
    )
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
            let revoked = sqlx::query!(
                "UPDATE sessions SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL",
                rotate.now,
                rotate.session.as_uuid()
            )
            .execute(&mut *db)
            .await?;
            // Another instance saw the same reuse first: it is recorded already, and the session is dead.
            if revoked.rows_affected() == 0 {
                return Ok(Rotation::Dead);
            }
            record(db, &rotate.reuse_audit).await?;
            Ok(Rotation::Reused { user: owner })
        }
    }
}
