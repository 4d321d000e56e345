//! The hashing itself: one worker, one hash at a time, on the blocking pool.

use std::{sync::Arc, time::Duration};

use domain::{account::PasswordHash, password::Password};
use parking_lot::Mutex;
use ractor::{
    ActorProcessingErr, ActorRef, RpcReplyPort,
    factory::{FactoryMessage, Job, Worker, WorkerId},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tokio_util::task::TaskTracker;

use super::{
    PasswordError, Verified,
    argon::{HashError, Oven},
    config::HashCost,
    metrics::PasswordMetrics,
};
use crate::handle::Permit;

/// How long a job may wait for its turn (A3).
pub(super) const MAX_WAIT: Duration = Duration::from_secs(2);

pub(super) type PasswordMessage = FactoryMessage<(), PasswordJob>;

/// What to work out, and for whom.
pub(super) enum Work {
    Hash {
        password: Password,
        reply: RpcReplyPort<Result<PasswordHash, PasswordError>>,
    },
    Verify {
        password: Password,
        hash: Option<PasswordHash>,
        reply: RpcReplyPort<Result<Verified, PasswordError>>,
    },
}

pub(super) struct PasswordJob {
    pub(super) work: Work,
    pub(super) permit: Permit,
    pub(super) asked: Instant,
}

impl Work {
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Hash { reply, .. } => reply.is_closed(),
            Self::Verify { reply, .. } => reply.is_closed(),
        }
    }

    fn refuse(self) {
        // A caller that left meanwhile needs no answer.
        let _ = match self {
            Self::Hash { reply, .. } => reply.send(Err(PasswordError::Overloaded)).is_ok(),
            Self::Verify { reply, .. } => reply.send(Err(PasswordError::Overloaded)).is_ok(),
        };
    }

    fn run(self, oven: &mut Oven, metrics: &PasswordMetrics) {
        match self {
            Self::Hash { password, reply } => answer(reply, metrics, || oven.hash(&password)),
            Self::Verify { password, hash, reply } => {
                answer(reply, metrics, || oven.verify(&password, hash.as_ref()));
            }
        }
    }
}

fn answer<T>(
    reply: RpcReplyPort<Result<T, PasswordError>>,
    metrics: &PasswordMetrics,
    work: impl FnOnce() -> Result<T, HashError>,
) {
    let started = Instant::now();
    let outcome = work();
    metrics.record(started.elapsed());
    // A caller that left meanwhile needs no answer.
    let _ = reply.send(outcome.map_err(broken));
}

fn broken(error: HashError) -> PasswordError {
    tracing::error!(%error, "password.hash.broken");
    PasswordError::Unavailable
}

/// The places where hashes are made. It outlives workers and factory: a killed worker's closure runs on, and its
/// memory is only free again when it ends.
pub(super) struct Kitchen {
    cost: HashCost,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Oven>>,
}

/// One place with its working memory; dropping it hands both on.
pub(super) struct Place {
    kitchen: Arc<Kitchen>,
    oven: Option<Oven>,
    _permit: OwnedSemaphorePermit,
}

impl Kitchen {
    pub(super) fn new(places: usize, cost: HashCost) -> Arc<Self> {
        Arc::new(Self {
            cost,
            places: Arc::new(Semaphore::new(places)),
            idle: Mutex::new(Vec::with_capacity(places)),
        })
    }

    /// `None` when no place became free in time.
    pub(super) async fn enter(self: &Arc<Self>, deadline: Instant) -> Option<Place> {
        let permit = timeout_at(deadline, Arc::clone(&self.places).acquire_owned()).await.ok()?.ok()?;
        let oven = self.idle.lock().pop().unwrap_or_else(|| Oven::new(self.cost));
        Some(Place { kitchen: Arc::clone(self), oven: Some(oven), _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Fields drop after this, so the oven is back before the place is free.
        if let Some(oven) = self.oven.take() {
            self.kitchen.idle.lock().push(oven);
        }
    }
}

/// Stateless: all it can lose is the job in its hand.
pub(super) struct PasswordWorker {
    pub(super) kitchen: Arc<Kitchen>,
    pub(super) tracker: TaskTracker,
    pub(super) metrics: PasswordMetrics,
}

impl Worker for PasswordWorker {
    type Key = ();
    type Message = PasswordJob;
    type Arguments = ();
    type State = ();

    async fn pre_start(
        &self,
        _: WorkerId,
        _: &ActorRef<PasswordMessage>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: WorkerId,
        _: &ActorRef<PasswordMessage>,
        job: Job<(), PasswordJob>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let PasswordJob { work, permit, asked } = job.msg;
        if work.is_abandoned() {
            return Ok(());
        }
        let deadline = asked + MAX_WAIT;
        let place = if Instant::now() < deadline { self.kitchen.enter(deadline).await } else { None };
        let Some(mut place) = place else {
            work.refuse();
            return Ok(());
        };
        self.metrics.wait.observe(asked.elapsed().as_secs_f64());
        let metrics = self.metrics.clone();
        let hashing = self.tracker.spawn_blocking(move || {
            let _entered = permit.carrier().enter();
            if let Some(oven) = place.oven.as_mut() {
                work.run(oven, &metrics);
            }
            // Not before the memory is free: a kill of the worker cannot stop this closure.
            drop((place, permit));
        });
        Ok(hashing.await?)
    }
}
