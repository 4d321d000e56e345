//! Sign-ins: begun, refreshed, ended.

use chrono::{DateTime, Utc};
use domain::{
    account::PasswordHash,
    audit::AuditEntry,
    id::{SessionId, UserId},
    session::{Ending, Rotation, SESSIONS_PER_USER, Session},
};

use super::super::{Connection, accounts, audit::record, sessions};
use crate::db::{
    DbError, RotateSession,
    store::{rotation::judge, stop::Stop},
};

pub(super) async fn start(
    db: &mut Connection,
    session: &Session,
    verified: &PasswordHash,
    audit: &AuditEntry,
) -> Result<Vec<SessionId>, Stop> {
    // Held, or somebody who is disabled right now would find a session when enabled again.
    let account = accounts::hold(db, session.user).await?.filter(|account| !account.user.disabled);
    let account = account.ok_or(Stop::NOT_FOUND)?;
    if *verified != account.password_hash {
        return Err(Stop::conflict("password"));
    }
    let ended = sessions::end_beyond(db, session.user, SESSIONS_PER_USER - 1, session.created_at).await?;
    sessions::insert(db, session).await?;
    record(db, &[audit]).await?;
    Ok(ended)
}

pub(super) async fn rotate(db: &mut Connection, rotate: &RotateSession) -> Result<Rotation, DbError> {
    // Of two that come at once, the second waits for the first and then finds the counter risen.
    let has_risen = sessions::raise(db, rotate).await?;
    let Some((session, user)) = sessions::with_user(db, rotate.session).await? else {
        return Ok(Rotation::Dead);
    };
    if has_risen {
        return Ok(Rotation::Rotated { session, user });
    }
    let owner = session.user;
    if let Some(answer) = judge(rotate, session, user) {
        return Ok(answer);
    }
    let ended = sessions::end(db, owner, Ending::One(rotate.session), rotate.now).await?;
    // Another instance saw the same reuse first: it is recorded already, and the session is dead.
    if ended.is_empty() {
        return Ok(Rotation::Dead);
    }
    let detail = Some(rotate.session.to_string());
    record(db, &[&AuditEntry { user: Some(owner), detail, ..rotate.reuse_audit.clone() }]).await?;
    Ok(Rotation::Reused { user: owner })
}

pub(super) async fn end(
    db: &mut Connection,
    user: UserId,
    which: Ending,
    now: DateTime<Utc>,
    audit: &AuditEntry,
) -> Result<Vec<SessionId>, Stop> {
    let ended = sessions::end(db, user, which, now).await?;
    if ended.is_empty() {
        return if matches!(which, Ending::One(_)) { Err(Stop::NOT_FOUND) } else { Ok(ended) };
    }
    record(db, &[audit]).await?;
    Ok(ended)
}
