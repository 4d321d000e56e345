//! Held users: as many of their turns run as may (C7), so that others pass theirs.
//!
//! ```text
//! next ─▶ asked for a stream ── refused ─▶ put_back: passed over ── retry ─▶ due: the next worker asks again ── begin ─▶ free
//!                                               ▲────────────────────── refused ─────────────────╯
//! ```
//!
//! A held turn keeps its place in every other way: it can be withdrawn, evicted and closed. It saves up nothing: when its
//! user is due, that user's virtual time is at least the present. Held users stand last in line also while they are due,
//! so that those who wait are not told of a try that fails.

use std::collections::HashMap;

use domain::{id::UserId, reply::FailureCode};
use tokio::time::Instant;

use super::{
    Inner, Running, WaitingList,
    backlog::{Backlogs, Dispatch},
    closed_with, ring,
};
use crate::model::turn::Job;

/// Bounded by the users with a turn waiting, or taken and not begun.
#[derive(Default)]
pub(super) struct Holds(HashMap<UserId, Hold>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// Workers take none of the user's turns.
    PassedOver,
    /// The next worker may see whether things have changed.
    Due,
}

impl Holds {
    pub fn passes_over(&self, user: UserId) -> bool {
        self.0.get(&user) == Some(&Hold::PassedOver)
    }

    pub fn contains(&self, user: UserId) -> bool {
        self.0.contains_key(&user)
    }

    /// Returns whether the user was free before.
    fn hold(&mut self, user: UserId) -> bool {
        self.0.insert(user, Hold::PassedOver).is_none()
    }

    /// Returns whether the user was passed over before.
    fn make_due(&mut self, user: UserId) -> bool {
        match self.0.get_mut(&user) {
            Some(hold @ Hold::PassedOver) => {
                *hold = Hold::Due;
                true
            }
            _ => false,
        }
    }

    /// Frees a user who is due; who was refused meanwhile stays held.
    fn lift(&mut self, user: UserId) {
        if self.0.get(&user) == Some(&Hold::Due) {
            self.0.remove(&user);
        }
    }

    /// Waiting turns that no worker should come for now: those of users who are passed over, and all but one of those who
    /// are due.
    pub fn held_back(&self, backlogs: &Backlogs) -> usize {
        let of = |(user, hold): (&UserId, &Hold)| {
            let waiting = backlogs.waiting_of(*user);
            if *hold == Hold::Due { waiting.saturating_sub(1) } else { waiting }
        };
        self.0.iter().map(of).sum()
    }

    pub fn passed_over(&self) -> impl Iterator<Item = UserId> {
        self.0.iter().filter(|(_, hold)| **hold == Hold::PassedOver).map(|(user, _)| *user)
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl WaitingList {
    /// Has a worker see whether one more turn of a held user may run.
    pub fn retry(&self, user: UserId) {
        let bells = {
            let mut inner = self.inner.lock();
            inner.forget_if_gone(user);
            if !inner.holds.make_due(user) {
                return;
            }
            inner.backlogs.catch_up(user);
            inner.wake(1)
        };
        ring(bells);
    }
}

impl Running {
    /// The turn may run. Wakes one worker that may take the next one; of a held user more would mostly come in vain.
    pub fn begin(&mut self) {
        self.is_begun = true;
        let bells = {
            let mut inner = self.list.inner.lock();
            if inner.holds.contains(self.user) {
                inner.holds.lift(self.user);
                inner.tell_positions(Instant::now());
            }
            inner.wake(1)
        };
        ring(bells);
    }

    /// Puts the turn back to the head of its user's backlog, charged nothing, and holds the user until
    /// [`WaitingList::retry`]. The place that it takes there was its own, also when others have filled the list since: at
    /// most one per slot comes back so. A list that closed meanwhile, or lets nobody wait, ends the turn.
    pub fn put_back(self, job: Job) {
        let (list, user) = (self.list.clone(), self.user);
        list.arm(&job);
        {
            let mut inner = list.inner.lock();
            let refused = inner.closed.or(inner.waits_no_more.then_some(FailureCode::ServerShuttingDown));
            if let Some(code) = refused {
                drop(inner);
                return job.writer.end(closed_with(code));
            }
            inner.backlogs.put_back(Dispatch { job, charged: self.charged });
            if inner.holds.hold(user) {
                inner.tell_positions(Instant::now());
            }
        }
        // The reader may have left while nobody listened.
        list.sweep_cancelled(user);
    }
}

impl Inner {
    /// Frees a user whom there is nothing to hold back of.
    pub(super) fn forget_if_gone(&mut self, user: UserId) {
        if self.backlogs.waiting_of(user) == 0 {
            self.holds.0.remove(&user);
        }
    }
}
