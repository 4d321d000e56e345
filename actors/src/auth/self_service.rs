//! What people do with their own account: sessions and password.

use std::sync::Arc;

use domain::{
    audit::{AuditEntry, AuditEvent},
    id::{SessionId, UserId},
    principal::{Credential, Principal},
    session::{Ending, Session},
};
use tokio::time::Instant;

use super::{AuthError, AuthHandle, Origin, Room, audit::Line, error::store_failed, truth::Truth};
use crate::db::DbError;

/// Which sessions a caller ends, seen from the session it calls with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogOut {
    /// This one.
    Local,
    /// All but this one.
    Others,
    Global,
}

impl AuthHandle {
    /// Ends sessions of the caller's account; over here at once, elsewhere within the session cache's life.
    ///
    /// # Errors
    ///
    /// [`AuthError::NeedsSession`] when the caller came with a key.
    pub async fn log_out(&self, caller: &Principal, which: LogOut, origin: Origin) -> Result<(), AuthError> {
        let own = session_of(caller)?;
        let ending = match which {
            LogOut::Local => Ending::One(own),
            LogOut::Others => Ending::AllBut(own),
            LogOut::Global => Ending::All,
        };
        match self.0.end_sessions(caller.user, ending, Some(caller.user), &origin).await {
            // Over already: that is what was asked for.
            Err(AuthError::NotFound(_)) => Ok(()),
            outcome => outcome,
        }
    }

    /// The caller's live sessions, most lately used first.
    ///
    /// # Errors
    ///
    /// [`AuthError::Unavailable`] when the store is away.
    pub async fn sessions(&self, caller: &Principal) -> Result<Vec<Session>, AuthError> {
        self.0.sessions_of(caller.user).await
    }

    /// Ends one session of the caller's account.
    ///
    /// # Errors
    ///
    /// [`AuthError::NotFound`] when it is not a live one of theirs.
    pub async fn end_session(
        &self,
        caller: &Principal,
        session: SessionId,
        origin: Origin,
    ) -> Result<(), AuthError> {
        self.0.end_sessions(caller.user, Ending::One(session), Some(caller.user), &origin).await
    }
}

impl Room {
    pub(super) async fn sessions_of(&self, user: UserId) -> Result<Vec<Session>, AuthError> {
        let idle = self.lifetimes.refresh_idle.to_std().unwrap_or_default();
        self.db.sessions(user, self.clock.now(), idle).await.map_err(store_failed)
    }

    /// Ends sessions of an account, here at once.
    pub(super) async fn end_sessions(
        self: &Arc<Self>,
        user: UserId,
        ending: Ending,
        actor: Option<UserId>,
        origin: &Origin,
    ) -> Result<(), AuthError> {
        let detail = match ending {
            Ending::One(session) => session.to_string(),
            Ending::AllBut(_) => "all others".to_owned(),
            Ending::All => "all".to_owned(),
        };
        let entry = self.entry(AuditEvent::SessionEnded, origin);
        let entry = AuditEntry { actor, user: Some(user), detail: Some(detail), ..entry };
        let (room, now) = (Arc::clone(self), self.clock.now());
        let ended = self.to_the_end(async move {
            let ended = room.db.end_sessions(user, ending, now, entry.clone()).await?;
            room.forget(&ended);
            if !ended.is_empty() {
                Line::of(&entry).write();
            }
            Ok(())
        });
        ended.await?.map_err(|error| match error {
            DbError::NotFound => AuthError::NotFound("session"),
            error => store_failed(error),
        })
    }

    /// Lets nobody in with these sessions any more.
    pub(super) fn forget(&self, ended: &[SessionId]) {
        for session in ended {
            self.sessions.learn(*session, Truth::ended(Instant::now()));
        }
    }
}

/// The session that the caller is signed in by; a key will not do.
pub(super) fn session_of(caller: &Principal) -> Result<SessionId, AuthError> {
    match caller.credential {
        Credential::Session(session) => Ok(session),
        Credential::Key { .. } => Err(AuthError::NeedsSession),
    }
}
