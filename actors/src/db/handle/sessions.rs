//! Sessions. Each change is one transaction together with its audit entry.

use std::time::Duration;

use chrono::{DateTime, Utc};
#[cfg(doc)]
use domain::session::SESSIONS_PER_USER;
use domain::{
    account::{PasswordHash, User},
    audit::AuditEntry,
    email::EmailAddress,
    id::{ApiKeyId, SessionId, UserId},
    session::{Ending, Network, Rotation, Session},
};
use uuid::Uuid;

use crate::db::{DbError, DbHandle, message::Write};

/// A presented refresh token, and the rules to judge it by.
#[derive(Debug, Clone)]
pub struct RotateSession {
    pub session: SessionId,
    /// The counter inside the presented token.
    pub counter: u32,
    pub now: DateTime<Utc>,
    /// How long the direct parent still gets its successor.
    pub grace: chrono::Duration,
    /// How long a session may rest between rotations.
    pub idle: chrono::Duration,
    /// Written if, and only if, this turns out to be reuse.
    pub reuse_audit: AuditEntry,
}

/// What has been used since the last time; each instant only ever moves forward.
#[derive(Debug, Clone, Default)]
pub struct Touched {
    pub sessions: Vec<(SessionId, DateTime<Utc>)>,
    pub keys: Vec<(ApiKeyId, DateTime<Utc>)>,
}

impl DbHandle {
    /// Stores a sign-in and its audit entry. Of more than [`SESSIONS_PER_USER`] live sessions those that rested longest
    /// end; they are returned.
    ///
    /// # Errors
    ///
    /// [`DbError::NotFound`] when the user does not exist or was disabled meanwhile; [`DbError::Conflict`] when the password
    /// is no longer the `verified` one, or who knew the old one would have a session that outlives it.
    pub async fn start_session(
        &self,
        session: Session,
        verified: PasswordHash,
        audit: AuditEntry,
    ) -> Result<Vec<SessionId>, DbError> {
        // Sign-ins of one account hold its row: in two lanes they would wait for each other.
        let lane = session.user.as_uuid();
        self.write(lane, Write::StartSession(Box::new((session, verified, audit)))).await
    }

    /// The session and its user, whatever their state. It is what the next request is let in by, so it must come from the
    /// database that is written to, never from a replica that lags.
    pub async fn session(&self, session: SessionId) -> Result<Option<(Session, User)>, DbError> {
        self.read(move |store| store.session(session)).await
    }

    /// The account's live sessions, most lately used first; `idle` tells which have rested too long.
    pub async fn sessions(
        &self,
        user: UserId,
        now: DateTime<Utc>,
        idle: Duration,
    ) -> Result<Vec<Session>, DbError> {
        let rested_since =
            chrono::Duration::from_std(idle).ok().and_then(|idle| now.checked_sub_signed(idle));
        let rested_since = rested_since.unwrap_or(DateTime::UNIX_EPOCH);
        self.read(move |store| store.sessions(user, now, rested_since)).await
    }

    /// Applies the refresh rule atomically: see [`Rotation`]. `grace` is measured from the last rotation, `idle` too.
    pub async fn rotate_session(&self, rotate: RotateSession) -> Result<Rotation, DbError> {
        self.write(rotate.session.as_uuid(), Write::RotateSession(Box::new(rotate))).await
    }

    /// Ends sessions of an account and returns those that were alive. The entry is written if any was.
    ///
    /// # Errors
    ///
    /// [`DbError::NotFound`] when the one session named is not a live one of this account.
    pub async fn end_sessions(
        &self,
        user: UserId,
        which: Ending,
        now: DateTime<Utc>,
        audit: AuditEntry,
    ) -> Result<Vec<SessionId>, DbError> {
        self.write(user.as_uuid(), Write::EndSessions { user, which, now, audit: Box::new(audit) }).await
    }

    /// Whether the account of this address was signed in to from this network since then (A6).
    pub async fn knows_network(
        &self,
        email: EmailAddress,
        network: Network,
        since: DateTime<Utc>,
    ) -> Result<bool, DbError> {
        self.read(move |store| store.knows_network(email, network, since)).await
    }

    /// Notes when sessions and keys were last used; those that ended are left as they are.
    pub async fn touch(&self, touched: Touched) -> Result<(), DbError> {
        self.write(Uuid::nil(), Write::Touch(touched)).await
    }
}
