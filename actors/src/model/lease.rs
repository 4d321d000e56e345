//! The LeaseActor: says "still here" for this process's turns, ends those that have lived too long, finds the turns of processes
//! that no longer say so, and frees the keys that turns were asked with when nobody may ask with them again.
//!
//! # When it breaks
//!
//! It remembers nothing: its successor renews at once. If the store is away, leases run out at worst, and a turn that
//! is still running is marked interrupted until its settlement overrules that (a settlement may follow `interrupted`).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::TimeDelta;
use domain::id::InstanceId;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio_util::task::TaskTracker;

use super::turns::Turns;
use crate::{
    clock::Clock,
    db::{DbError, DbHandle},
};

/// Renewals per lease: two may fail before it runs out.
const RENEWALS_PER_LEASE: u32 = 3;

/// How long an `Idempotency-Key` stands for the turn it was first sent with, at least.
const CLAIMS_KEPT: TimeDelta = TimeDelta::hours(24);
/// Keys freed in one transaction: other changes wait for it.
const CLAIMS_PER_STEP: u32 = 1_000;

pub(super) enum LeaseMessage {
    Tick,
}

#[derive(Clone)]
pub(super) struct Leases {
    pub instance: InstanceId,
    pub lease: Duration,
    pub db: DbHandle,
    pub clock: Clock,
    pub tracker: TaskTracker,
    /// Whether the last renewal failed: an outage is told of once.
    pub fails: Arc<AtomicBool>,
    /// Looked through at each tick.
    pub turns: Arc<Turns>,
}

pub(super) struct LeaseActor;

impl Actor for LeaseActor {
    type Msg = LeaseMessage;
    type State = Leases;
    type Arguments = Leases;

    async fn pre_start(
        &self,
        me: ActorRef<LeaseMessage>,
        leases: Leases,
    ) -> Result<Leases, ActorProcessingErr> {
        me.send_interval(leases.lease / RENEWALS_PER_LEASE, || LeaseMessage::Tick);
        Ok(leases)
    }

    async fn post_start(&self, me: ActorRef<LeaseMessage>, _: &mut Leases) -> Result<(), ActorProcessingErr> {
        me.cast(LeaseMessage::Tick)?;
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<LeaseMessage>,
        LeaseMessage::Tick: LeaseMessage,
        leases: &mut Leases,
    ) -> Result<(), ActorProcessingErr> {
        leases.turns.sweep();
        // The store may be slow; the actor must not be.
        leases.tracker.spawn(leases.clone().renew_and_sweep());
        Ok(())
    }
}

impl Leases {
    /// Until when a turn that begins now is ours.
    pub fn until(&self) -> chrono::DateTime<chrono::Utc> {
        self.clock.now() + TimeDelta::from_std(self.lease).unwrap_or(TimeDelta::MAX)
    }

    async fn renew_and_sweep(self) {
        if let Err(error) = self.db.renew_leases(self.instance, self.until()).await {
            if !self.fails.swap(true, Relaxed) {
                tracing::warn!(error = %error, "leases of running turns are not renewed");
            }
            return;
        }
        if self.fails.swap(false, Relaxed) {
            tracing::info!("leases of running turns are renewed again");
        }
        match self.db.sweep_dead_turns(self.instance, self.clock.now()).await {
            Ok(0) => {}
            Ok(turns) => tracing::warn!(turns, "turns of a dead process were marked interrupted"),
            Err(error) => tracing::warn!(error = %error, "expired turns were not swept"),
        }
        if let Err(error) = self.release_claims().await {
            tracing::warn!(error = %error, "old idempotency keys were not freed");
        }
    }

    async fn release_claims(&self) -> Result<(), DbError> {
        let before = self.clock.now() - CLAIMS_KEPT;
        while self.db.release_claims_before(before, CLAIMS_PER_STEP).await? >= u64::from(CLAIMS_PER_STEP) {}
        Ok(())
    }
}
