//! Rounds of one kind of work: one is under way at most, and one more is wanted at most.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::Relaxed, Ordering::SeqCst},
};

/// The round that is under way, and another one.
const WANTED_MAX: u8 = 2;

/// How many rounds are wanted, with the one under way: a single number, so that no wish falls between two.
#[derive(Debug, Default)]
pub(super) struct Rounds(AtomicU8);

impl Rounds {
    /// Wants a round that begins from now on. Whoever gets it goes it; nobody does while one is under way, which this one then
    /// follows.
    pub(super) fn want(self: &Arc<Self>) -> Option<Round> {
        let before = self.change(|wanted| (wanted + 1).min(WANTED_MAX));
        (before == 0).then(|| Round { rounds: Arc::clone(self), is_last: false })
    }

    /// What was wanted before.
    fn change(&self, change: impl Fn(u8) -> u8) -> u8 {
        let (Ok(before) | Err(before)) = self.0.fetch_update(SeqCst, Relaxed, |wanted| Some(change(wanted)));
        before
    }
}

/// The round that is under way. Dropped before its end, as by a panic, it takes what else was wanted with it.
#[derive(Debug)]
pub(super) struct Round {
    rounds: Arc<Rounds>,
    is_last: bool,
}

impl Round {
    /// Ends it; gives the next, if one was wanted meanwhile.
    pub(super) fn next(mut self) -> Option<Self> {
        self.is_last = self.rounds.change(|wanted| wanted.saturating_sub(1)) < WANTED_MAX;
        (!self.is_last).then_some(self)
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        // After the last, somebody else's may be under way.
        if !self.is_last {
            self.rounds.0.store(0, SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicU64, thread};

    use super::*;

    #[test]
    fn wishes_during_a_round_come_to_one_more() {
        let rounds = Arc::<Rounds>::default();
        let first = rounds.want().unwrap();
        for _ in 0..300 {
            assert!(rounds.want().is_none());
        }
        let second = first.next().unwrap();
        assert!(second.next().is_none());
        assert!(rounds.want().is_some());
    }

    #[test]
    fn the_end_of_the_last_round_leaves_the_next_ones_alone() {
        let rounds = Arc::<Rounds>::default();
        assert!(rounds.want().unwrap().next().is_none());
        let next = rounds.want().unwrap();
        assert!(rounds.want().is_none(), "one is under way");
        assert!(next.next().is_some());
    }

    #[test]
    fn a_round_that_fails_does_not_keep_others_from_going() {
        let rounds = Arc::<Rounds>::default();
        let failing = rounds.want().unwrap();
        assert!(rounds.want().is_none());
        drop(failing);
        assert!(rounds.want().unwrap().next().is_none());
    }

    #[test]
    fn no_wish_is_lost_however_it_meets_the_end_of_a_round() {
        const WISHES: u64 = 20_000;
        let (rounds, wished, seen) = (Arc::<Rounds>::default(), AtomicU64::new(0), AtomicU64::new(0));
        let wish = || {
            for _ in 0..WISHES {
                wished.fetch_add(1, SeqCst);
                let mut round = rounds.want();
                while let Some(going) = round {
                    seen.store(wished.load(SeqCst), SeqCst);
                    round = going.next();
                }
            }
        };
        thread::scope(|scope| {
            scope.spawn(wish);
            scope.spawn(wish);
        });
        assert_eq!(seen.into_inner(), 2 * WISHES);
    }
}
