//! How many turns may be tried once more: a tenth of all, so that a server in trouble is not asked twice as much for it.

use std::sync::atomic::{AtomicU32, Ordering};

/// A try earns a tenth of a retry.
const TRIES_PER_RETRY: u32 = 10;

/// The most retries that can be saved up, and what a start gives: an outage after a quiet time must not find none.
const RETRIES_MAX: u32 = 10;

/// Retries in the units that one try earns.
pub(super) struct RetryBudget(AtomicU32);

impl RetryBudget {
    pub const fn new() -> Self {
        Self(AtomicU32::new(RETRIES_MAX * TRIES_PER_RETRY))
    }

    /// A turn is tried.
    pub fn earn(&self) {
        let most = RETRIES_MAX * TRIES_PER_RETRY;
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| (saved < most).then_some(saved + 1));
    }

    /// Takes one retry, if there is one.
    pub fn take(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| saved.checked_sub(TRIES_PER_RETRY))
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d04_retries_are_a_tenth_of_the_tries_after_a_small_start() {
        let budget = RetryBudget::new();
        let taken = |budget: &RetryBudget| (0..1_000).filter(|_| budget.take()).count();
        assert_eq!(taken(&budget), 10);
        let mut retries = 0;
        for _ in 0..1_000 {
            budget.earn();
            retries += usize::from(budget.take());
        }
        assert_eq!(retries, 100);
        (0..100_000).for_each(|_| budget.earn());
        assert_eq!(taken(&budget), 10, "a quiet year saves no more than that");
    }
}
