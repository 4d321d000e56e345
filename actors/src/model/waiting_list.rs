//! The fair queue of one model: who waits, whose turn it is, and which idle worker to wake.
//!
//! Users take turns weighted by the tokens they used recently: each has a virtual time that rises by what its turns
//! cost, and the lowest goes next (start-time fair queueing, Goyal et al. 1996). A newcomer starts at the present, so it
//! neither waits behind another's backlog nor saves up credit while away.
//!
//! A plain structure behind a mutex that is never held across an await; workers and callers share it.

mod backlog;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::{
    id::{TurnId, UserId},
    reply::FailureCode,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::backlog::{Backlogs, Dispatch};
use super::{turn::Job, worker::WorkerMessage};
use crate::{
    bell::Bell,
    reply::{End, Notice},
};

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// This user has as many turns waiting as one may.
    UserFull,
    /// All places are taken, and nobody's backlog is longer than the newcomer's.
    Full,
    Closed(FailureCode),
}

pub(super) struct Limits {
    pub places: usize,
    pub per_user: usize,
}

pub(super) struct WaitingList {
    limits: Limits,
    inner: Mutex<Inner>,
    /// Turns in slots. Only raised under the lock; read without it between reads of a stream.
    running: AtomicUsize,
    slot_freed: Notify,
}

struct Inner {
    backlogs: Backlogs,
    /// One per slot; an index is a worker's identity here.
    bells: Vec<Bell<WorkerMessage>>,
    idle: Vec<usize>,
    service: ServiceTime,
    closed: Option<FailureCode>,
}

/// A place taken but not yet filled; dropping it frees the place.
pub(super) struct Place {
    list: Arc<WaitingList>,
    user: UserId,
    filled: bool,
}

/// A turn in a slot; dropping it frees the slot in the list's eyes.
pub(super) struct Running {
    list: Arc<WaitingList>,
    user: UserId,
    charged: u64,
}

impl WaitingList {
    pub fn new(limits: Limits, bells: Vec<Bell<WorkerMessage>>) -> Arc<Self> {
        Arc::new(Self {
            limits,
            inner: Mutex::new(Inner {
                backlogs: Backlogs::default(),
                bells,
                idle: Vec::new(),
                service: ServiceTime::default(),
                closed: None,
            }),
            running: AtomicUsize::new(0),
            slot_freed: Notify::new(),
        })
    }

    /// Takes a place for a turn of `user`. When the list is full, the newest turn of a clearly longer backlog gives way.
    pub fn reserve(self: &Arc<Self>, user: UserId) -> Result<Place, Refusal> {
        let evicted = {
            let mut inner = self.inner.lock();
            if let Some(code) = inner.closed {
                return Err(Refusal::Closed(code));
            }
            if inner.backlogs.places_of(user) >= self.limits.per_user {
                return Err(Refusal::UserFull);
            }
            let evicted = if inner.backlogs.places() < self.limits.places {
                None
            } else {
                Some(inner.backlogs.evict_for(user).ok_or(Refusal::Full)?)
            };
            inner.backlogs.reserve(user);
            evicted
        };
        if let Some(job) = evicted {
            job.writer.end(End::Failed {
                code: FailureCode::Overloaded,
                message: "the queue is full and this was the newest turn of its longest backlog".to_owned(),
            });
        }
        Ok(Place { list: self.clone(), user, filled: false })
    }

    /// Gives the next turn to worker `index`, or notes that it is idle.
    pub fn next(self: &Arc<Self>, index: usize) -> Option<(Job, Running)> {
        let mut inner = self.inner.lock();
        let Some(Dispatch { job, charged }) = inner.backlogs.next() else {
            if !inner.idle.contains(&index) {
                inner.idle.push(index);
            }
            return None;
        };
        inner.idle.retain(|idle| *idle != index);
        self.running.fetch_add(1, Ordering::Relaxed);
        job.writer.taken_by_worker();
        inner.tell_positions();
        let running = Running { list: self.clone(), user: job.user, charged };
        Some((job, running))
    }

    /// Takes a waiting turn out, wherever it stands.
    fn withdraw(&self, user: UserId, turn: TurnId) {
        let job = {
            let mut inner = self.inner.lock();
            let job = inner.backlogs.withdraw(user, turn);
            if job.is_some() {
                inner.tell_positions();
            }
            job
        };
        if let Some(job) = job {
            job.writer.end(End::Cancelled);
        }
    }

    /// Refuses newcomers and ends all who wait with `code`.
    pub fn close(&self, code: FailureCode) {
        let jobs = {
            let mut inner = self.inner.lock();
            inner.closed = Some(code);
            inner.backlogs.take_all()
        };
        for job in jobs {
            job.writer.end(closed_with(code));
        }
    }

    pub fn waiting(&self) -> usize {
        self.inner.lock().backlogs.waiting()
    }

    /// Places taken, filled or not.
    pub fn places(&self) -> usize {
        self.inner.lock().backlogs.places()
    }

    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Resolves when no turn has a slot.
    pub async fn all_slots_free(&self) {
        loop {
            let freed = self.slot_freed.notified();
            if self.running() == 0 {
                return;
            }
            freed.await;
        }
    }

    /// How long until a place should be free: everything ahead at the measured rate, from one second up.
    pub fn retry_after(&self) -> Duration {
        let inner = self.inner.lock();
        inner
            .eta(inner.backlogs.places().max(1))
            .unwrap_or(Duration::from_secs(1))
            .max(Duration::from_secs(1))
    }
}

impl Inner {
    /// When a turn at `position` should start, by the measured service time; `None` before the first measurement.
    fn eta(&self, position: usize) -> Option<Duration> {
        let slots = u32::try_from(self.bells.len().max(1)).unwrap_or(u32::MAX);
        Some(self.service.mean()? * u32::try_from(position).unwrap_or(u32::MAX) / slots)
    }

    /// Tells everyone who waits where they stand now; a turn whose position did not change is not woken.
    fn tell_positions(&self) {
        for (job, position) in self.backlogs.positions() {
            job.writer.notice(Notice {
                loading: false,
                position: u32::try_from(position).unwrap_or(u32::MAX),
                eta: self.eta(position),
            });
        }
    }
}

impl Place {
    /// Puts the turn in line and wakes a worker for it. A list that closed meanwhile ends it.
    pub fn fill(mut self, job: Job) {
        let (user, turn) = (job.user, job.turn);
        let list = Arc::downgrade(&self.list);
        job.writer.on_abandon(move || {
            if let Some(list) = Weak::upgrade(&list) {
                list.withdraw(user, turn);
            }
        });
        if job.writer.is_cancelled() {
            return job.writer.end(End::Cancelled);
        }
        let bell = {
            let mut inner = self.list.inner.lock();
            if let Some(code) = inner.closed {
                drop(inner);
                return job.writer.end(closed_with(code));
            }
            self.filled = true;
            inner.backlogs.fill(job);
            let bell = inner.idle.pop().map(|index| inner.bells[index].clone());
            if bell.is_none() {
                inner.tell_positions();
            }
            bell
        };
        if let Some(bell) = bell {
            bell.ring();
        }
        // The reader may have left between the check and the queue; the hook found nothing to take out then.
        self.list.sweep_cancelled(user);
    }
}

impl WaitingList {
    fn sweep_cancelled(&self, user: UserId) {
        let gone = self.inner.lock().backlogs.withdraw_cancelled(user);
        for job in gone {
            job.writer.end(End::Cancelled);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.filled {
            self.list.inner.lock().backlogs.release(self.user);
        }
    }
}

impl Running {
    /// Charges what the turn really cost, so that the next choice is fair.
    pub fn finished(self, tokens: u64, service_time: Duration) {
        let mut inner = self.list.inner.lock();
        inner.backlogs.settle(self.user, self.charged, tokens);
        inner.service.measured(service_time);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.list.running.fetch_sub(1, Ordering::Relaxed);
        self.list.slot_freed.notify_waiters();
    }
}

/// How a turn ends that waits in a list which is closed.
fn closed_with(code: FailureCode) -> End {
    match code {
        FailureCode::ServerShuttingDown => End::Interrupted(code),
        _ => End::Failed { code, message: "the model is no longer offered".to_owned() },
    }
}

/// A moving mean of how long a turn keeps its slot.
#[derive(Default)]
struct ServiceTime(Option<Duration>);

impl ServiceTime {
    /// The weight of one new measurement is 1/8: about the last dozen turns decide.
    const WEIGHT: u32 = 8;

    fn measured(&mut self, time: Duration) {
        self.0 = Some(self.0.map_or(time, |mean| mean - mean / Self::WEIGHT + time / Self::WEIGHT));
    }

    fn mean(&self) -> Option<Duration> {
        self.0
    }
}
