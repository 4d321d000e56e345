//! Running streams per user (C7), as the model room deals with them: whom to ask, and whom to tell when one ends.
//!
//! A worker asks for a stream between taking a turn and running it. Refused, the turn goes back to its list and its user is
//! held there, until any turn of that user ends on this instance, or for [`HOLD_AT_MOST`], since a turn may have ended on
//! another. While nobody is held there is nothing to do.
//!
//! Its lock and those of the lists are never held together.
//!
//! # When it breaks
//!
//! A limiter that cannot be asked lets turns run: a turn too many is bounded by the slots, a turn lost is lost.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::id::UserId;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::task::AbortHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{turn::Job, waiting_list::WaitingList};
use crate::rate_limit::{LimitError, RateLimitHandle, StreamLease};

/// The longest that a user is held without anybody looking again.
const HOLD_AT_MOST: Duration = Duration::from_secs(1);

/// Counts of ended turns; users who share one look again in vain now and then.
const STRIPES: usize = 64;

/// One per room.
pub(super) struct Streams {
    limits: RateLimitHandle,
    /// How many turns have ended.
    ended: [AtomicU64; STRIPES],
    /// Bounded by the users with a turn waiting; each has one timer.
    held: Mutex<HashMap<UserId, Held>>,
    holds: Counter,
    tracker: TaskTracker,
    halt: CancellationToken,
}

struct Held {
    /// Where the user is held.
    lists: Vec<Weak<WaitingList>>,
    timer: AbortHandle,
}

/// Whether a turn may run now.
pub(super) enum Admission {
    Run(Stream),
    Wait(Refused),
}

/// A turn that runs; dropping it lets another of its user run.
pub(super) struct Stream {
    streams: Arc<Streams>,
    user: UserId,
    lease: Option<StreamLease>,
}

/// As many turns ran as may when so many had ended.
pub(super) struct Refused {
    ended: u64,
}

impl Streams {
    pub fn new(
        limits: RateLimitHandle,
        holds: Counter,
        tracker: TaskTracker,
        halt: CancellationToken,
    ) -> Arc<Self> {
        let ended = std::array::from_fn(|_| AtomicU64::new(0));
        Arc::new(Self { limits, ended, held: Mutex::default(), holds, tracker, halt })
    }

    /// Asks whether this turn may run. One that must end does, as far as this is concerned.
    pub async fn ask(self: &Arc<Self>, job: &Job) -> Admission {
        let ended = self.ended_of(job.user).load(Ordering::Acquire);
        let lease = tokio::select! {
            biased;
            () = job.writer.cancelled() => None,
            () = self.halt.cancelled() => None,
            leased = self.limits.lease_stream(job.user, job.turn, job.streams) => match leased {
                Ok(Some(lease)) => Some(lease),
                Ok(None) => return Admission::Wait(Refused { ended }),
                Err(LimitError::Unavailable) => None,
            },
        };
        Admission::Run(Stream { streams: self.clone(), user: job.user, lease })
    }

    /// Remembers that `list` holds `user`, and sees to it that it does not do so for long. Call it after the turn was put
    /// back.
    pub fn hold(self: &Arc<Self>, user: UserId, list: &Arc<WaitingList>, refused: Refused) {
        self.holds.inc();
        let list = Arc::downgrade(list);
        {
            let mut held = self.held.lock();
            // Whoever ends a turn counts it before they look here: what is not counted by now will be seen.
            if self.ended_of(user).load(Ordering::Acquire) == refused.ended {
                let held = held
                    .entry(user)
                    .or_insert_with(|| Held { lists: Vec::new(), timer: self.start_timer(user) });
                if !held.lists.iter().any(|known| known.ptr_eq(&list)) {
                    held.lists.push(list);
                }
                return;
            }
        }
        if let Some(list) = list.upgrade() {
            list.retry(user);
        }
    }

    fn start_timer(self: &Arc<Self>, user: UserId) -> AbortHandle {
        let streams = self.clone();
        let timer = async move {
            let waited = tokio::time::sleep(HOLD_AT_MOST);
            if streams.halt.run_until_cancelled(waited).await.is_some() {
                streams.retry(user);
            }
        };
        self.tracker.spawn(timer).abort_handle()
    }

    fn ended(&self, user: UserId) {
        self.ended_of(user).fetch_add(1, Ordering::AcqRel);
        self.retry(user);
    }

    /// Has every list look again that holds `user`.
    fn retry(&self, user: UserId) {
        let Some(held) = self.held.lock().remove(&user) else { return };
        held.timer.abort();
        for list in held.lists.iter().filter_map(Weak::upgrade) {
            list.retry(user);
        }
    }

    fn ended_of(&self, user: UserId) -> &AtomicU64 {
        // The low bits of an identity are random.
        &self.ended[user.as_uuid().as_u128() as usize % STRIPES]
    }

    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.held.lock().len()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // First, so that whoever looks again asks after it.
        drop(self.lease.take());
        self.streams.ended(self.user);
    }
}
