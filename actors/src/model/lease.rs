//! The LeaseActor: says "still here" for this process's turns, ends those that have lived too long, finds the turns of processes
//! that no longer say so, and frees the keys that turns were asked with when nobody may ask with them again.
//!
//! # When it breaks
//!
//! It remembers nothing: its successor renews at once. If the store is away, nobody's lease is renewed; once it is back,
//! everybody has a whole lease to say so before anybody is taken for dead.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use domain::id::InstanceId;
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;
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
    pub reach: Arc<Mutex<Reach>>,
    /// Looked through at each tick.
    pub turns: Arc<Turns>,
}

/// How this process has reached the store.
#[derive(Debug, Default)]
pub(super) enum Reach {
    #[default]
    NotYet,
    /// Each time, since then.
    Since(Instant),
    /// Not the last time.
    Lost,
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

impl Reach {
    /// Notes how the last renewal went, tells of what has changed, and says for how long all have been well.
    fn note(&mut self, renewed: &Result<(), DbError>) -> Option<Duration> {
        match (renewed, &self) {
            (Ok(()), Self::Since(since)) => return Some(since.elapsed()),
            (Ok(()), Self::NotYet) => {}
            (Ok(()), Self::Lost) => tracing::info!("leases of running turns are renewed again"),
            (Err(_), Self::Lost) => return None,
            (Err(error), _) => {
                tracing::warn!(error = %error, "leases of running turns are not renewed");
                *self = Self::Lost;
                return None;
            }
        }
        *self = Self::Since(Instant::now());
        Some(Duration::ZERO)
    }
}

impl Leases {
    /// Until when a turn that begins now is ours.
    pub fn until(&self) -> chrono::DateTime<chrono::Utc> {
        self.clock.now() + TimeDelta::from_std(self.lease).unwrap_or(TimeDelta::MAX)
    }

    async fn renew_and_sweep(self) {
        let renewed = self.db.renew_leases(self.instance, self.until()).await;
        let reached_for = self.reach.lock().note(&renewed);
        let Some(reached_for) = reached_for else { return };
        let now = self.clock.now();
        // Whoever the store was away for could not renew either.
        let swept = if reached_for >= self.lease {
            self.db.sweep_dead_turns(self.instance, now).await
        } else {
            self.db.sweep_own_turns(self.instance, now).await
        };
        match swept {
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

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn e2_others_have_as_long_to_say_that_they_live_as_the_store_is_back() {
        let (second, well) = (Duration::from_secs(1), Ok(()));
        let away = Err(DbError::Away("told so".to_owned()));
        let mut reach = Reach::default();
        assert_eq!(reach.note(&well), Some(Duration::ZERO), "a start cannot know how long it was away");
        advance(second * 30).await;
        assert_eq!(reach.note(&well), Some(second * 30));
        assert_eq!(reach.note(&away), None);
        advance(second * 90).await;
        assert_eq!(reach.note(&away), None);
        assert_eq!(reach.note(&well), Some(Duration::ZERO));
        advance(second * 10).await;
        assert_eq!(reach.note(&well), Some(second * 10));
    }
}
