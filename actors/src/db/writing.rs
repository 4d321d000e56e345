//! Whether changes get written, as far as the writers know.
//!
//! A database that answers questions may still refuse every change: its disk is full, it is read-only, a standby was taken
//! for the primary, or our role lacks rights. The first change that fails says so in the log, with the cause; from then on the
//! ops room's ping also tries a change, until one is written.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use super::DbError;

/// What the writers saw last; clones share it.
#[derive(Clone)]
pub(super) struct Writing(Arc<AtomicU8>);

const UNKNOWN: u8 = 0;
const WORKS: u8 = 1;
const FAILS: u8 = 2;

impl Writing {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(UNKNOWN)))
    }

    /// Whether the last transaction was written.
    pub(super) fn works(&self) -> bool {
        self.0.load(Ordering::Relaxed) == WORKS
    }

    pub(super) fn succeeded(&self) {
        if self.0.swap(WORKS, Ordering::Relaxed) == FAILS {
            tracing::info!("changes are written again");
        }
    }

    pub(super) fn failed(&self, error: &DbError) {
        if self.0.swap(FAILS, Ordering::Relaxed) != FAILS {
            tracing::error!(%error, "changes are not written");
        }
    }
}
