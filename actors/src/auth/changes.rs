//! Which accounts changed while what is known about them was older.
//!
//! A change voids everything that was asked about the account before it, also what is still on its way, without anybody
//! having to find it. Accounts share a fixed number of marks, by their hash, so there is nothing to forget and nothing
//! to overflow; the price is that one change makes a few strangers' truth be asked for once more.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::atomic::{AtomicU64, Ordering},
};

use domain::id::UserId;
use tokio::time::Instant;

/// One change costs one account in so many a question.
const MARKS: usize = 1_024;

pub(super) struct Changes {
    /// Nanoseconds from `start` to the last change of any account of the mark.
    marks: Box<[AtomicU64]>,
    start: Instant,
    /// Seeded per process, so that nobody chooses whose neighbour they are.
    spread: RandomState,
}

impl Changes {
    pub(super) fn new() -> Self {
        let marks = (0..MARKS).map(|_| AtomicU64::new(0)).collect();
        Self { marks, start: Instant::now(), spread: RandomState::new() }
    }

    /// Notes that `user` is no longer what it was before `now`.
    pub(super) fn note(&self, user: UserId, now: Instant) {
        self.mark(user).fetch_max(self.nanos(now), Ordering::Release);
    }

    /// Whether `user` may have changed since `then`.
    pub(super) fn since(&self, user: UserId, then: Instant) -> bool {
        self.nanos(then) < self.mark(user).load(Ordering::Acquire)
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    fn mark(&self, user: UserId) -> &AtomicU64 {
        &self.marks[self.spread.hash_one(user) as usize % MARKS]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::fresh_id;

    #[test]
    fn a13_a_change_voids_what_is_older_and_nothing_else() {
        let (changes, user) = (Changes::new(), fresh_id());
        let at = |nanos| changes.start + Duration::from_nanos(nanos);
        assert!(!changes.since(user, at(0)));
        changes.note(user, at(5));
        assert!(changes.since(user, at(4)));
        assert!(!changes.since(user, at(5)));
        changes.note(user, at(3));
        assert!(changes.since(user, at(4)), "a change that was reported late took an earlier one back");
    }

    #[test]
    fn a_change_concerns_hardly_anybody_else() {
        let changes = Changes::new();
        changes.note(fresh_id(), changes.start + Duration::from_secs(1));
        let concerned = (0..10_000).filter(|_| changes.since(fresh_id(), changes.start)).count();
        assert!(concerned < 100, "{concerned} of 10,000");
    }
}
