//! AuthActor: asks the store about sessions, about each one only once at a time.
//!
//! It waits for nothing: each look-up runs on the tracker and comes back as a message. Its state is the callers that
//! wait, so its death fails those callers, and what their look-ups find is dropped.

use std::{collections::HashMap, sync::Arc, time::Duration};

use domain::id::SessionId;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use super::{
    message::{AuthMessage, Unknown, Waiter},
    metrics::AuthMetrics,
    sessions::{Sessions, Truth},
};
use crate::db::{DbError, DbHandle};

/// The store's own deadline is shorter; this one holds even if it forgets it.
const LOOK_UP_DEADLINE: Duration = Duration::from_secs(6);

pub(super) struct AuthActor {
    pub(super) db: DbHandle,
    pub(super) sessions: Arc<Sessions>,
    pub(super) tracker: TaskTracker,
    pub(super) metrics: AuthMetrics,
}

/// Who waits for which session. Bounded by the gate, since every waiter holds a permit.
type Waiting = HashMap<SessionId, Vec<Waiter>>;

impl Actor for AuthActor {
    type Msg = AuthMessage;
    type State = Waiting;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<AuthMessage>, (): ()) -> Result<Waiting, ActorProcessingErr> {
        Ok(Waiting::new())
    }

    async fn handle(
        &self,
        me: ActorRef<AuthMessage>,
        message: AuthMessage,
        waiting: &mut Waiting,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AuthMessage::Check { session, waiter } => {
                let waiters = waiting.entry(session).or_default();
                if waiters.is_empty() {
                    self.look_up(me, session);
                }
                waiters.push(waiter);
            }
            AuthMessage::Checked { session, found } => {
                let found = self.note(session, found);
                for Waiter { reply, permit } in waiting.remove(&session).unwrap_or_default() {
                    // One that left meanwhile needs no answer.
                    let _ = reply.send(found);
                    drop(permit);
                }
            }
        }
        Ok(())
    }
}

impl AuthActor {
    fn look_up(&self, me: ActorRef<AuthMessage>, session: SessionId) {
        let db = self.db.clone();
        let report = Report { actor: me, session, found: Err(Unknown::StoreAway) };
        self.tracker.spawn(async move {
            // As a whole: the block alone would take a copy of the field and leave the report to be sent now.
            let mut report = report;
            let as_of = Instant::now();
            report.found = match timeout(LOOK_UP_DEADLINE, db.session(session)).await {
                Ok(Ok(Some((session, user)))) => Ok(Truth::of(&session, &user, as_of)),
                Ok(Ok(None)) => Ok(Truth::ended(as_of)),
                Ok(Err(DbError::Broken(what))) => {
                    tracing::error!(what, "auth.session.broken");
                    Err(Unknown::Broken)
                }
                Ok(Err(_)) | Err(_) => Err(Unknown::StoreAway),
            };
        });
    }

    /// Remembers what was found; something newer may have become known meanwhile, and then counts.
    fn note(&self, session: SessionId, found: Result<Truth, Unknown>) -> Result<Truth, Unknown> {
        self.metrics.looked_up(&found);
        match found {
            Ok(truth) => Ok(self.sessions.learn(session, truth)),
            Err(unknown) => {
                self.sessions.store_failed(Instant::now());
                Err(unknown)
            }
        }
    }
}

/// Comes back to the actor whatever becomes of the look-up, or its callers and all later ones would wait in vain.
struct Report {
    actor: ActorRef<AuthMessage>,
    session: SessionId,
    found: Result<Truth, Unknown>,
}

impl Drop for Report {
    fn drop(&mut self) {
        // A dead actor has no callers left.
        let _ = self.actor.cast(AuthMessage::Checked { session: self.session, found: self.found });
    }
}
