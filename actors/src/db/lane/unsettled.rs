//! How many ends of turns are on their way to the database, over all lanes, and which never get there.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use domain::id::TurnId;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Turns remembered whose end was given up; the next sweep lets them go, so there are more only if it fails.
const GIVEN_UP_MAX: usize = 4_096;

#[derive(Default)]
pub(in crate::db) struct Unsettled {
    count: AtomicUsize,
    none: Notify,
    /// Their rows may stand as running, and nobody will say otherwise.
    given_up: Mutex<VecDeque<TurnId>>,
}

/// One of them, until its job is written or given up.
pub(super) struct Counted(Arc<Unsettled>);

impl Unsettled {
    pub(super) fn one_more(self: &Arc<Self>) -> Counted {
        self.count.fetch_add(1, Ordering::AcqRel);
        Counted(Arc::clone(self))
    }

    pub(in crate::db) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// The end of this turn will not be written.
    pub(super) fn give_up(&self, turn: TurnId) {
        let mut given_up = self.given_up.lock();
        if given_up.len() == GIVEN_UP_MAX {
            given_up.pop_front();
        }
        given_up.push_back(turn);
    }

    pub(in crate::db) fn given_up(&self) -> Vec<TurnId> {
        self.given_up.lock().iter().copied().collect()
    }

    /// The store knows that these have ended.
    pub(in crate::db) fn let_go(&self, turns: &[TurnId]) {
        self.given_up.lock().retain(|turn| !turns.contains(turn));
    }

    /// Resolves when there is none.
    pub(in crate::db) async fn none_left(&self) {
        loop {
            let none = self.none.notified();
            if self.count() == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}
