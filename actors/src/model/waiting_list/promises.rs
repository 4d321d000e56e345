//! What was promised to those who found no place: when to come back, one after another, and a place to find then.
//!
//! ```text
//! refused ─▶ promise after all that were made before ─▶ told as Retry-After
//! back after that ─▶ the promise is claimed: any free place will do
//! never refused, or too early ─▶ may not take the places that are kept for promises
//! ```
//!
//! Without the promises' order all would come back for the same place; without the kept places those who were never
//! refused would take it first, and whoever obeys would be refused again and again. Turns end irregularly, so promises are
//! a little further apart than ends are, and some places are kept in advance.
//!
//! # Bounds
//!
//! Kept places are at most half of the list, so a list with work to do never runs dry waiting for somebody who does not come.
//! Promises are paced so that no more fall due within [`KEPT`] than places are kept. A promise beyond the bounds
//! (too far ahead, too many, too many of one user) is only told, not remembered.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use domain::{id::UserId, limits::Priority, wait::whole_seconds};
use tokio::time::Instant;

/// How long a place is kept for somebody whose moment has come: the way takes time.
pub(super) const KEPT: Duration = Duration::from_secs(2);

/// Callers are told whole seconds, so those refused together come back together, in groups so far apart.
const TOLD: Duration = Duration::from_secs(1);

/// Places that are kept before their moment has come: those of the next group, and of so many in any case.
const IN_ADVANCE: usize = 8;

/// Between two promises, in ends of turns: 5/4.
const APART: (u32, u32) = (5, 4);

/// The furthest moment that is promised. What takes longer by itself is told as it is, and nothing is promised.
pub(super) const AHEAD_MAX: Duration = Duration::from_secs(120);

/// The most promises that are remembered, in all and of one user, who also holds no more than a quarter of those that there
/// is time for.
pub(super) const PROMISES_MAX: usize = 4_096;
pub(super) const PROMISES_PER_USER: usize = 16;
const PARTS_OF_TIME: u32 = 4;

pub(super) struct Promises {
    /// By moment.
    line: VecDeque<Promise>,
    held: HashMap<UserId, usize>,
    /// Places kept at most.
    kept_max: usize,
}

struct Promise {
    moment: Instant,
    user: UserId,
    priority: Priority,
}

impl Promises {
    /// For a list of so many places.
    pub fn new(places: usize) -> Self {
        Self { line: VecDeque::new(), held: HashMap::new(), kept_max: places / 2 }
    }

    /// From now on for a list of so many places.
    pub fn resize(&mut self, places: usize) {
        self.kept_max = places / 2;
    }

    /// Places that a turn of this class may not take, unless it is promised one: a batch turn's promise binds batch turns only.
    pub fn kept(&mut self, priority: Priority, now: Instant) -> usize {
        self.forget_the_past(now);
        let due = self.count(priority, Some(now)) + IN_ADVANCE;
        due.max(self.count(priority, Some(now + TOLD))).min(self.count(priority, None)).min(self.kept_max)
    }

    /// Whether `user` comes back as promised; that promise is then fulfilled.
    pub fn claim(&mut self, user: UserId, priority: Priority, now: Instant) -> bool {
        self.forget_the_past(now);
        if !self.held.contains_key(&user) {
            return false;
        }
        let mut due = self.line.iter().take_while(|promise| promise.moment <= now);
        let Some(index) = due.position(|promise| (promise.user, promise.priority) == (user, priority)) else {
            return false;
        };
        self.line.remove(index);
        self.let_go(user);
        true
    }

    /// Promises `user` a place after all that were promised before, `completion` being the time between two turns' ends; returns
    /// how long that is, in whole seconds.
    pub fn promise(
        &mut self,
        user: UserId,
        priority: Priority,
        now: Instant,
        completion: Duration,
    ) -> Duration {
        self.forget_the_past(now);
        let most = u32::try_from(self.kept_max.max(1)).unwrap_or(u32::MAX);
        let apart = (completion.saturating_mul(APART.0) / APART.1).max(KEPT / most);
        let before = u32::try_from(self.count(priority, None)).unwrap_or(u32::MAX);
        let wait = as_told(completion.saturating_add(apart.saturating_mul(before)));
        if wait > AHEAD_MAX {
            return AHEAD_MAX.max(as_told(completion));
        }
        let moment = now + wait;
        let held = self.held.get(&user).copied().unwrap_or_default();
        let part = AHEAD_MAX.as_nanos() / apart.as_nanos().max(1) / u128::from(PARTS_OF_TIME);
        let own = usize::try_from(part).unwrap_or(usize::MAX).clamp(1, PROMISES_PER_USER);
        if self.line.len() < PROMISES_MAX && held < own {
            self.held.insert(user, held + 1);
            let index = self.line.partition_point(|other| other.moment <= moment);
            self.line.insert(index, Promise { moment, user, priority });
        }
        wait
    }

    /// Forgets all: where there is room for everybody, nothing needs to be kept.
    pub fn clear(&mut self) {
        self.line.clear();
        self.held.clear();
    }

    /// Promises of this class and those before it, up to this moment or all.
    fn count(&self, priority: Priority, until: Option<Instant>) -> usize {
        let due = self.line.iter().take_while(|promise| until.is_none_or(|until| promise.moment <= until));
        due.filter(|promise| promise.priority <= priority).count()
    }

    fn forget_the_past(&mut self, now: Instant) {
        while let Some(past) = self.line.pop_front_if(|promise| promise.moment + KEPT < now) {
            self.let_go(past.user);
        }
    }

    fn let_go(&mut self, user: UserId) {
        if let Some(held) = self.held.get_mut(&user) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&user);
            }
        }
    }
}

/// Rounded up, as it will be told: so that the promise is due when its holder is back, and not to a sibling that asks sooner.
pub(super) fn as_told(wait: Duration) -> Duration {
    Duration::from_secs(whole_seconds(wait)).max(TOLD)
}

#[cfg(test)]
mod tests {
    use Priority::{Batch, Interactive};

    use super::*;
    use crate::clock::fresh_id;

    const SECOND: Duration = Duration::from_secs(1);

    fn promise(promises: &mut Promises, user: UserId, now: Instant) -> Duration {
        promises.promise(user, Interactive, now, SECOND)
    }

    #[test]
    fn those_refused_one_after_another_are_promised_later_and_later_moments() {
        let (mut promises, now) = (Promises::new(8), Instant::now());
        let waits: Vec<u64> = (0..5).map(|_| promise(&mut promises, fresh_id(), now).as_secs()).collect();
        assert_eq!(waits, [1, 3, 4, 5, 6]);
    }

    #[test]
    fn a_promise_is_claimed_once_from_its_moment_on_by_whom_it_was_made_to() {
        let (mut promises, now, user) = (Promises::new(8), Instant::now(), fresh_id());
        let wait = promise(&mut promises, user, now);
        assert!(!promises.claim(user, Interactive, now), "too early");
        assert!(!promises.claim(fresh_id(), Interactive, now + wait), "somebody else");
        assert_eq!(promises.kept(Interactive, now + wait), 1);
        assert!(promises.claim(user, Interactive, now + wait));
        assert!(!promises.claim(user, Interactive, now + wait), "twice");
        assert_eq!(promises.kept(Interactive, now + wait), 0);
    }

    #[test]
    fn what_is_promised_to_batch_turns_keeps_no_interactive_one_out() {
        let (mut promises, now, user) = (Promises::new(8), Instant::now(), fresh_id());
        for wait in 1..=3 {
            assert!(promises.promise(user, Batch, now, SECOND).as_secs() >= wait);
        }
        assert_eq!((promises.kept(Batch, now), promises.kept(Interactive, now)), (3, 0));
        assert_eq!(promise(&mut promises, user, now), SECOND, "nobody of its class is ahead");
        assert_eq!((promises.kept(Batch, now), promises.kept(Interactive, now)), (4, 1));
        assert!(promises.claim(user, Interactive, now + SECOND));
        assert!(!promises.claim(user, Interactive, now + 2 * SECOND), "the others are for batch turns");
    }

    #[test]
    fn who_does_not_come_back_is_waited_for_for_a_moment_only() {
        let (mut promises, now, user) = (Promises::new(8), Instant::now(), fresh_id());
        let due = now + promise(&mut promises, user, now);
        assert_eq!(promises.kept(Interactive, due + KEPT), 1);
        assert_eq!(promises.kept(Interactive, due + KEPT + Duration::from_nanos(1)), 0);
        assert_eq!(promise(&mut promises, user, due + KEPT + SECOND), SECOND, "and is not counted any more");
    }

    #[test]
    fn of_short_turns_no_more_promises_fall_due_together_than_places_are_kept() {
        let (mut promises, now) = (Promises::new(10), Instant::now());
        for _ in 0..20 {
            promises.promise(fresh_id(), Interactive, now, Duration::from_millis(1));
        }
        let due: Vec<Instant> = promises.line.iter().map(|promise| promise.moment).collect();
        for (first, opens) in due.iter().enumerate() {
            let together = due[first..].iter().take_while(|moment| **moment < *opens + KEPT).count();
            assert!(
                together <= 5 + 2,
                "{together} within {KEPT:?}, with those whose seconds were rounded up"
            );
        }
    }

    #[test]
    fn nothing_is_remembered_beyond_its_bounds() {
        let (mut promises, now, greedy) = (Promises::new(100_000), Instant::now(), fresh_id());
        for _ in 0..100 {
            promises.promise(greedy, Interactive, now, Duration::from_millis(1));
        }
        assert_eq!(promises.line.len(), PROMISES_PER_USER);
        for _ in 0..PROMISES_MAX {
            promises.promise(fresh_id(), Interactive, now, Duration::from_millis(1));
        }
        assert_eq!(promises.line.len(), PROMISES_MAX);
        promises.clear();
        assert_eq!(promises.promise(greedy, Interactive, now, 2 * AHEAD_MAX), 2 * AHEAD_MAX);
        assert_eq!((promises.line.len(), promises.held.len()), (0, 0), "too far ahead to promise");
        promise(&mut promises, greedy, now);
        assert_eq!(promises.promise(greedy, Interactive, now, AHEAD_MAX), AHEAD_MAX);
        assert_eq!(promises.line.len(), 1, "as far as is told, but not promised");
    }

    #[test]
    fn at_most_half_of_the_places_is_kept() {
        let (mut promises, now) = (Promises::new(5), Instant::now());
        for _ in 0..20 {
            promises.promise(fresh_id(), Interactive, now, Duration::from_millis(1));
        }
        let kept = (0..200u32).map(|step| promises.kept(Interactive, now + step * KEPT / 20)).max();
        assert_eq!(kept, Some(2));
    }
}
