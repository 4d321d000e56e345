//! The bell: wakes a worker actor whose queue lives outside its mailbox.
//!
//! ```text
//! producer: place the job, then ring()          worker: about_to_check(), then look at the queue
//! ```
//!
//! The flag keeps at most one wake message in a living worker's mailbox, however many jobs are placed. Clearing
//! it *before* looking is what loses no wake-up: a job placed after the look finds the flag clear and rings.
//!
//! # When it breaks
//!
//! A worker that dies takes its unread wake message with it. Its successor is installed by [`Bell::publish`],
//! which rings again *after* the new address can be found, so a job that rang at the dead address is seen too.
//! Looking in `post_start` alone would not do: it may run before the new address is published.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use ractor::{ActorRef, Message};

use crate::handle::Slot;

/// Wakes one worker; clones ring the same one.
pub struct Bell<M: Message> {
    slot: Slot<M>,
    rung: Arc<AtomicBool>,
    make_wake: Arc<dyn Fn() -> M + Send + Sync>,
}

impl<M: Message> Clone for Bell<M> {
    fn clone(&self) -> Self {
        Self { slot: self.slot.clone(), rung: Arc::clone(&self.rung), make_wake: Arc::clone(&self.make_wake) }
    }
}

impl<M: Message> Bell<M> {
    /// Makes a bell that sends what `make_wake` makes to whoever is published in `slot`.
    pub fn new(slot: Slot<M>, make_wake: impl Fn() -> M + Send + Sync + 'static) -> Self {
        Self { slot, rung: Arc::new(AtomicBool::new(false)), make_wake: Arc::new(make_wake) }
    }

    /// Wakes the worker unless it is already called; call it after the job is in the queue.
    pub fn ring(&self) {
        // Both sides read-modify-write the flag: whoever finds it set is ordered before the look that follows.
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        let called = self.slot.load().is_some_and(|worker| worker.cast((self.make_wake)()).is_ok());
        if !called {
            self.rung.store(false, Ordering::Release);
        }
    }

    /// Lets the next [`ring`](Self::ring) through; call it before every look at the queue.
    pub fn about_to_check(&self) {
        self.rung.swap(false, Ordering::AcqRel);
    }

    /// Publishes a new incarnation of the worker and wakes it for what is already waiting.
    pub fn publish(&self, worker: ActorRef<M>) {
        self.slot.publish(worker);
        self.about_to_check();
        self.ring();
    }

    /// Where the worker's current address is published.
    pub fn slot(&self) -> &Slot<M> {
        &self.slot
    }
}

#[cfg(test)]
mod tests;
