//! The bytes that all live answers share.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Counts the bytes of all live logs against one bound; clones share it.
#[derive(Debug, Clone)]
pub struct ReplyBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: AtomicUsize,
}

impl ReplyBudget {
    /// The share of the limit above which no new turn is admitted, so that running ones can finish.
    const ADMISSION_PERCENT: usize = 80;

    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Inner { limit, used: AtomicUsize::new(0) }))
    }

    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Whether a new turn may begin.
    pub fn admits(&self) -> bool {
        self.used() < self.0.limit / 100 * Self::ADMISSION_PERCENT
    }

    /// Takes `bytes`, or nothing when they would exceed the limit.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let limit = self.0.limit;
        self.0
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= limit)
            })
            .is_ok()
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}
