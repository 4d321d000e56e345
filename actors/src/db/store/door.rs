//! Whether the database lets us in.
//!
//! ```text
//! open ── no connection came in time ──▶ the keeper knocks ──▶ open again: it was only busy
//!   ▲                                          │
//!   └───────── each second it knocks ◀── closed, with the cause
//! ```
//!
//! A pool only says that no connection came in time. So the keeper tries one of its own, whose error is the cause, and while
//! it fails nobody else waits for what cannot be had. Connections that are there go on being used: a changed password keeps
//! out only who comes anew.
//!
//! # When it breaks
//!
//! A killed keeper is followed by one that knocks at once if there is a doubt.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Store;
use crate::{bell::Bell, db::DbError, handle::Slot};

/// Between two knocks.
const KNOCK_EVERY: Duration = Duration::from_secs(1);

/// Find out whether it lets us in.
pub(in crate::db) struct Knock;

/// Shared by the pools of one database.
pub(in crate::db) struct Door {
    /// Why it is closed.
    closed: Mutex<Option<DbError>>,
    /// Whether somebody waits longer than it should take.
    is_suspected: AtomicBool,
    bell: Bell<Knock>,
}

impl Door {
    pub(super) fn new() -> Arc<Self> {
        let bell = Bell::new(Slot::new(), || Knock);
        Arc::new(Self { closed: Mutex::default(), is_suspected: AtomicBool::new(false), bell })
    }

    pub(in crate::db) const fn bell(&self) -> &Bell<Knock> {
        &self.bell
    }

    /// Why nobody is let in, as far as it is known.
    pub(super) fn closed(&self) -> Option<DbError> {
        self.closed.lock().clone()
    }

    /// Somebody waits longer than it should take.
    pub(super) fn suspect(&self) {
        self.is_suspected.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// Whether there is anything to find out.
    fn is_in_doubt(&self) -> bool {
        self.is_suspected.load(Ordering::Acquire) || self.closed.lock().is_some()
    }

    /// It was knocked: tells of what has changed.
    fn knocked(&self, let_in: Result<(), DbError>) {
        self.is_suspected.store(false, Ordering::Release);
        let now = let_in.err();
        let before = std::mem::replace(&mut *self.closed.lock(), now.clone());
        match now {
            Some(cause) if before.as_ref() != Some(&cause) => {
                tracing::error!(%cause, "the database lets nobody in");
            }
            None if before.is_some() => tracing::info!("the database lets us in again"),
            _ => {}
        }
    }
}

/// Holds the store open for the others, being started before them and stopped after them, and knocks at its door.
pub(in crate::db) struct StoreKeeper;

#[derive(Clone)]
pub(in crate::db) struct Keeping {
    pub(in crate::db) store: Arc<dyn Store>,
    pub(in crate::db) closing: CancellationToken,
    /// Not before then.
    pub(in crate::db) due: Instant,
    /// Whether it has itself woken then.
    pub(in crate::db) has_alarm: bool,
}

impl Keeping {
    pub(in crate::db) fn new(store: Arc<dyn Store>, closing: CancellationToken) -> Self {
        Self { store, closing, due: Instant::now(), has_alarm: false }
    }
}

impl Actor for StoreKeeper {
    type Msg = Knock;
    type State = Keeping;
    type Arguments = Keeping;

    async fn pre_start(&self, _: ActorRef<Knock>, keeping: Keeping) -> Result<Keeping, ActorProcessingErr> {
        Ok(keeping)
    }

    async fn handle(
        &self,
        me: ActorRef<Knock>,
        Knock: Knock,
        keeping: &mut Keeping,
    ) -> Result<(), ActorProcessingErr> {
        let Some(door) = keeping.store.door().cloned() else { return Ok(()) };
        door.bell.about_to_check();
        if !door.is_in_doubt() {
            return Ok(());
        }
        let wait = keeping.due.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            keeping.has_alarm = false;
            door.knocked(keeping.store.knock().await);
            keeping.due = Instant::now() + KNOCK_EVERY;
            if door.closed().is_none() {
                return Ok(());
            }
        }
        if !std::mem::replace(&mut keeping.has_alarm, true) {
            let wait = keeping.due.saturating_duration_since(Instant::now());
            me.send_after(wait, || Knock);
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Knock>, keeping: &mut Keeping) -> Result<(), ActorProcessingErr> {
        // A room that is only restarted goes on with the same connections.
        if keeping.closing.is_cancelled() {
            keeping.store.close().await;
        }
        Ok(())
    }
}
