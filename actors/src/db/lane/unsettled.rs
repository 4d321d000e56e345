//! How many ends of turns are on their way to the database, over all lanes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

#[derive(Default)]
pub(in crate::db) struct Unsettled {
    count: AtomicUsize,
    none: Notify,
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
