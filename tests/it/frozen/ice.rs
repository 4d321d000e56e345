//! How an actor is made to stand still without anything in the service being made for it.
//!
//! Whoever asks an actor something leaves a waker behind, which the actor calls in the moment in which it answers. The
//! waker of this asker does not return before the ice melts: until then the actor is in the middle of its message.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
};

use parking_lot::{Condvar, Mutex};
use tokio::{sync::Notify, task::block_in_place, time::timeout};

use crate::harness::PATIENCE;

/// An actor that stands still until this melts or is dropped.
pub(super) struct Frost {
    ice: Arc<Ice>,
    /// Whoever asked is still there.
    question: Pin<Box<dyn Future<Output = ()> + Send>>,
}

struct Ice {
    /// Answers of others that come first, and freeze nobody.
    ahead: AtomicUsize,
    has_bitten: AtomicBool,
    called: Notify,
    has_melted: Mutex<bool>,
    melting: Condvar,
}

impl Wake for Ice {
    fn wake(self: Arc<Self>) {
        let passes =
            self.ahead.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok();
        // Whoever calls later (the deadline's timer) is none of the frozen.
        let bites = !passes && !self.has_bitten.swap(true, Ordering::AcqRel);
        self.called.notify_one();
        if bites {
            // The thread's other tasks go on elsewhere.
            block_in_place(|| self.melting.wait_while(&mut self.has_melted.lock(), |melted| !*melted));
        }
    }
}

impl Frost {
    /// Freezes whoever answers `question`, which must wait for one actor only.
    pub(super) async fn bite<F: Future + Send + 'static>(mut question: impl FnMut() -> F) -> Self {
        loop {
            // The answer may be there before anybody could wait for it.
            if let Some(frost) = Self::try_bite(0, question()).await {
                return frost;
            }
        }
    }

    /// Freezes whoever gives the answer that comes after `ahead` others, unless `question` is over before.
    pub(super) async fn try_bite(ahead: usize, question: impl Future + Send + 'static) -> Option<Self> {
        let ice = Arc::new(Ice {
            ahead: AtomicUsize::new(ahead),
            has_bitten: AtomicBool::new(false),
            called: Notify::new(),
            has_melted: Mutex::new(false),
            melting: Condvar::new(),
        });
        let waker = Waker::from(Arc::clone(&ice));
        let mut frost = Self { ice, question: Box::pin(async { drop(question.await) }) };
        let bitten = async {
            while frost.question.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                frost.ice.called.notified().await;
                if frost.ice.has_bitten.load(Ordering::Acquire) {
                    return true;
                }
            }
            false
        };
        let has_bitten = timeout(PATIENCE, bitten).await.expect("somebody answers");
        has_bitten.then_some(frost)
    }
}

impl Drop for Frost {
    fn drop(&mut self) {
        *self.ice.has_melted.lock() = true;
        self.ice.melting.notify_all();
    }
}
