//! AuthActor: asks the store about sessions and keys, about each one only once at a time.
//!
//! It waits for nothing: each look-up runs on the tracker and comes back as a message. What is used is looked up every
//! few seconds, so it is here that its use is noted; once a minute the store is told.
//!
//! # When it breaks
//!
//! Its state is the callers that wait and the uses of the last minute. Its death fails those callers, what their look-ups
//! find is dropped, and those uses are not told.

use std::{collections::HashMap, mem, sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use super::{
    message::{AuthMessage, Unknown, Waiter},
    metrics::AuthMetrics,
    sessions::Sessions,
    touch::Uses,
    truth::{Subject, Truth},
};
use crate::{
    clock::Clock,
    db::{DbError, DbHandle},
    trace::Carrier,
};

/// The store's own deadline is shorter; this one holds even if it forgets it.
const LOOK_UP_DEADLINE: Duration = Duration::from_secs(6);

/// A use is written at most once in this time (A15).
const NOTE_EVERY: Duration = Duration::from_secs(60);

/// How long stopping waits for the last uses to be written; nobody misses them much.
const LAST_NOTE_DEADLINE: Duration = Duration::from_secs(1);

pub(super) struct AuthActor {
    pub(super) db: DbHandle,
    pub(super) sessions: Arc<Sessions>,
    pub(super) clock: Clock,
    pub(super) tracker: TaskTracker,
    pub(super) metrics: AuthMetrics,
}

#[derive(Default)]
pub(super) struct Desk {
    /// Who waits for what. Bounded by the gates, since every waiter holds a permit.
    waiting: HashMap<Subject, Vec<Waiter>>,
    uses: Uses,
}

impl Actor for AuthActor {
    type Msg = AuthMessage;
    type State = Desk;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<AuthMessage>, (): ()) -> Result<Desk, ActorProcessingErr> {
        // The timer ends with this incarnation.
        me.send_interval(NOTE_EVERY, || AuthMessage::Note);
        Ok(Desk::default())
    }

    async fn handle(
        &self,
        me: ActorRef<AuthMessage>,
        message: AuthMessage,
        desk: &mut Desk,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AuthMessage::Check { subject, waiter } => {
                let waiters = desk.waiting.entry(subject).or_default();
                if waiters.is_empty() {
                    // In the trace of whoever asked first; the others show that they waited.
                    self.look_up(me, subject, waiter.permit.carrier());
                }
                waiters.push(waiter);
            }
            AuthMessage::Checked { subject, found } => {
                let found = self.note(subject, found);
                if let Ok(truth) = &found {
                    desk.uses.note(subject, truth, self.clock.now());
                }
                for Waiter { reply, permit } in desk.waiting.remove(&subject).unwrap_or_default() {
                    // One that left meanwhile needs no answer.
                    let _ = reply.send(found.clone());
                    drop(permit);
                }
            }
            AuthMessage::Note => {
                let (db, uses) = (self.db.clone(), mem::take(&mut desk.uses));
                self.tracker.spawn(uses.tell(db));
            }
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<AuthMessage>, desk: &mut Desk) -> Result<(), ActorProcessingErr> {
        // Not on the tracker: the store stops next, and would leave before a task had its turn.
        let _ = timeout(LAST_NOTE_DEADLINE, mem::take(&mut desk.uses).tell(self.db.clone())).await;
        Ok(())
    }
}

impl AuthActor {
    fn look_up(&self, me: ActorRef<AuthMessage>, subject: Subject, carrier: &Carrier) {
        let db = self.db.clone();
        let report = Report { actor: me, subject, found: Err(Unknown::StoreAway) };
        self.tracker.spawn(carrier.around(async move {
            // As a whole: the block alone would take a copy of the field and leave the report to be sent now.
            let mut report = report;
            report.found = match timeout(LOOK_UP_DEADLINE, ask(&db, subject)).await {
                Ok(Ok(truth)) => Ok(truth),
                Ok(Err(DbError::Broken(what))) => {
                    tracing::error!(what, "auth.look_up.broken");
                    Err(Unknown::Broken)
                }
                Ok(Err(_)) | Err(_) => Err(Unknown::StoreAway),
            };
        }));
    }

    /// Remembers what was found; something newer may have become known meanwhile, and then counts.
    fn note(&self, subject: Subject, found: Result<Truth, Unknown>) -> Result<Truth, Unknown> {
        self.metrics.looked_up(subject, &found);
        match found {
            Ok(truth) => Ok(self.sessions.learn(subject, truth)),
            Err(unknown) => {
                self.sessions.store_failed(Instant::now());
                Err(unknown)
            }
        }
    }
}

async fn ask(db: &DbHandle, subject: Subject) -> Result<Truth, DbError> {
    let as_of = Instant::now();
    let found = match subject {
        Subject::Session(session) => {
            db.session(session).await?.map(|(session, user)| Truth::of(&session, &user, as_of))
        }
        Subject::Key(hash) => db.api_key(hash).await?.map(|(key, user)| Truth::of_key(&key, &user, as_of)),
    };
    Ok(found.unwrap_or(Truth::unknown(as_of)))
}

/// Comes back to the actor whatever becomes of the look-up, or its callers and all later ones would wait in vain.
struct Report {
    actor: ActorRef<AuthMessage>,
    subject: Subject,
    found: Result<Truth, Unknown>,
}

impl Drop for Report {
    fn drop(&mut self) {
        let found = mem::replace(&mut self.found, Err(Unknown::StoreAway));
        // A dead actor has no callers left.
        let _ = self.actor.cast(AuthMessage::Checked { subject: self.subject, found });
    }
}
