//! The password room: argon2id, bounded in time and memory.
//!
//! ```text
//! auth ── PasswordHandle ──▶ PasswordActor: factory of N workers ──▶ Kitchen: N places ──▶ blocking pool
//! ```
//!
//! A hash takes 19 MiB and some 18 ms of a core, so a flood of sign-ins is an attack on both. The gate bounds how many
//! wait, `MAX_WAIT` how long, the kitchen how many are hashed at once; beyond that callers are told to come
//! back. The worker answers the caller directly.
//!
//! # When it breaks
//!
//! A dead worker is replaced by its factory and loses at most the job in its hand: if its hash had begun, the caller is
//! still answered, otherwise it gets [`PasswordError::Unavailable`]. The place stays taken until the hash has ended. A
//! dead factory loses its queue: those callers get [`PasswordError::Unavailable`] at once.

mod argon;
mod config;
mod metrics;
#[cfg(test)]
mod tests;
mod worker;

use std::{sync::Arc, thread::available_parallelism, time::Duration};

use domain::{account::PasswordHash, password::Password};
use ractor::{
    RpcReplyPort,
    factory::{
        Factory, FactoryArguments, Job, JobOptions, queues::DefaultQueue, routing::QueuerRouting,
        worker_builder,
    },
};
use tokio::time::Instant;

pub use self::config::{HashCost, PasswordConfig};
use self::{
    metrics::PasswordMetrics,
    worker::{Kitchen, MAX_WAIT, PasswordJob, PasswordMessage, PasswordWorker, Work},
};
use crate::{
    handle::{AskError, Gate, Handle, Permit, Slot},
    room::RoomContext,
    supervisor::{ChildSpec, Policy, Strategy, SupervisorSpec, Watched, child_name, child_path, spawn_child},
    system::StartError,
    trace::Span,
    tree::Tree,
};

const PATH: &str = "password";
const ACTOR: &str = "password_actor";

/// Places for passwords, waiting or being hashed, per worker: about what it serves within `MAX_WAIT`.
const PLACES_PER_WORKER: usize = 64;

/// A hash that takes longer than this after its longest wait will not come.
const HASH_DEADLINE: Duration = Duration::from_secs(3);

/// Asks the password room; clones share one room.
#[derive(Clone)]
pub struct PasswordHandle {
    room: Handle<PasswordMessage>,
    metrics: PasswordMetrics,
    tree: Tree,
    workers: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// More hashes wait than can be served within two seconds; say so with 503.
    #[error("too many passwords are waiting to be hashed")]
    Overloaded,
    #[error("the password room is down")]
    Unavailable,
}

/// What a comparison found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    pub matches: bool,
    /// The hash has weaker parameters than today's: hash again and replace it.
    pub is_stale: bool,
}

impl PasswordHandle {
    /// Hashes with a fresh salt and the configured cost.
    ///
    /// # Errors
    ///
    /// Both: nothing happened, try again later; [`PasswordHandle::retry_after`] says when.
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, PasswordError> {
        Span::start("password.hash.make").around(self.ask(|reply| Work::Hash { password, reply })).await
    }

    /// Compares with `hash`, or with a fixed dummy hash of the same cost when there is no account.
    ///
    /// # Errors
    ///
    /// As for [`PasswordHandle::hash`].
    pub async fn verify(
        &self,
        password: Password,
        hash: Option<PasswordHash>,
    ) -> Result<Verified, PasswordError> {
        Span::start("password.hash.verify")
            .around(self.ask(|reply| Work::Verify { password, hash, reply }))
            .await
    }

    /// How long the passwords that wait now will take, in whole seconds and at least one.
    pub fn retry_after(&self) -> Duration {
        let waiting = u32::try_from(self.room.gate().in_use()).unwrap_or(u32::MAX);
        let busy = self.metrics.recent().saturating_mul(waiting) / self.workers;
        Duration::from_secs(busy.as_secs() + 1)
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(RpcReplyPort<Result<T, PasswordError>>) -> Work,
    ) -> Result<T, PasswordError> {
        if self.tree.is_degraded(PATH) {
            return Err(PasswordError::Unavailable);
        }
        let dispatch = |permit: Permit, reply| {
            let msg = PasswordJob { work: work(reply), permit, asked: Instant::now() };
            PasswordMessage::Dispatch(Job { key: (), msg, options: JobOptions::default(), accepted: None })
        };
        match self.room.ask(dispatch).await {
            Ok(answer) => answer,
            Err(AskError::Overloaded | AskError::Timeout) => Err(PasswordError::Overloaded),
            Err(AskError::Down | AskError::Died) => Err(PasswordError::Unavailable),
        }
    }
}

/// Makes the room.
///
/// # Errors
///
/// [`StartError::Config`] tells what is wrong with the cost.
pub(crate) fn build(
    ctx: &RoomContext,
    config: PasswordConfig,
) -> Result<(PasswordHandle, SupervisorSpec), StartError> {
    if let Some((what, fix)) = config.cost.problem() {
        return Err(StartError::Config(format!("password.cost {what}; {fix}")));
    }
    let cores = available_parallelism().map_or(1, usize::from);
    let workers = config.workers.unwrap_or_else(|| cores.saturating_sub(1)).max(1);
    let gate = Gate::new("password", workers.saturating_mul(PLACES_PER_WORKER));
    ctx.gates.watch(&gate);
    let slot = Slot::new();
    let metrics = PasswordMetrics::register(&mut ctx.registry.lock());
    let handle = PasswordHandle {
        room: Handle::new(slot.clone(), gate, MAX_WAIT + HASH_DEADLINE),
        metrics: metrics.clone(),
        tree: ctx.tree.clone(),
        workers: u32::try_from(workers).unwrap_or(u32::MAX),
    };

    let kitchen = Kitchen::new(workers, config.cost);
    let path = child_path(PATH, ACTOR);
    let name = child_name(&ctx.system, &path);
    let (tree, tracker) = (ctx.tree.clone(), ctx.tracker.clone());
    let actor = ChildSpec::leaf(ACTOR, move |supervisor| {
        let (name, slot) = (name.clone(), slot.clone());
        let (kitchen, tracker, metrics) = (Arc::clone(&kitchen), tracker.clone(), metrics.clone());
        let (path, tree) = (path.clone(), tree.clone());
        let workers = FactoryArguments::builder()
            .worker_builder(Box::new(worker_builder(move |_| {
                let kitchen = Arc::clone(&kitchen);
                let worker = PasswordWorker { kitchen, tracker: tracker.clone(), metrics: metrics.clone() };
                (Watched::new(worker, path.clone(), &tree), ())
            })))
            .num_initial_workers(workers)
            .router(QueuerRouting::default())
            .queue(DefaultQueue::default())
            .build();
        async move {
            let actor = spawn_child(&supervisor, name, Factory::default(), workers).await?;
            slot.publish(actor.clone());
            Ok(actor.get_cell())
        }
    });
    let children = Arc::new(vec![actor]);
    let spec = SupervisorSpec {
        path: PATH.to_owned(),
        strategy: Strategy::OneForOne,
        policy: Policy::default(),
        children,
    };
    Ok((handle, spec))
}
