//! The leases that this process holds, and the LeaseActor that says of each that its turn still runs.
//!
//! # When it breaks
//!
//! The leases are kept outside the actor, so its successor renews them at its first tick. Two renewals in a row may fail
//! before a lease runs out.

use std::{collections::BTreeMap, ops::Bound, sync::Arc, time::Duration};

use domain::id::{TurnId, UserId};
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{Shards, key::Key, message::RateLimitMessage};

/// Renewals per lease: two may fail before it runs out.
const RENEWALS_PER_LEASE: u32 = 3;

/// Users whose leases are renewed under one lock, and leases of one user that one message renews.
const AT_ONCE: usize = 128;

/// Bounded by the slots of this process: each lease is a turn in one.
pub(super) struct Leases {
    users: Mutex<BTreeMap<UserId, Vec<TurnId>>>,
    live: Gauge,
}

impl Leases {
    pub(super) fn new(live: Gauge) -> Self {
        Self { users: Mutex::default(), live }
    }

    pub(super) fn add(&self, user: UserId, turn: TurnId) {
        self.users.lock().entry(user).or_default().push(turn);
        self.live.inc();
    }

    /// Forgets a lease, if it was there, and has `tell` say so under the same lock as renewals are said: none of this
    /// lease can come after its release.
    pub(super) fn remove(&self, user: UserId, turn: TurnId, tell: impl FnOnce()) {
        let mut users = self.users.lock();
        if let Some(turns) = users.get_mut(&user)
            && let Some(at) = turns.iter().position(|held| *held == turn)
        {
            turns.swap_remove(at);
            self.live.dec();
            if turns.is_empty() {
                users.remove(&user);
            }
        }
        tell();
    }

    /// Has `tell` renew the leases of the next users after `last`; returns the last of these, `None` behind the end.
    fn renew_some(&self, last: Option<UserId>, tell: impl Fn(UserId, &[TurnId])) -> Option<UserId> {
        let users = self.users.lock();
        let after = last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut reached = None;
        for (user, turns) in users.range((after, Bound::Unbounded)).take(AT_ONCE) {
            turns.chunks(AT_ONCE).for_each(|some| tell(*user, some));
            reached = Some(*user);
        }
        reached
    }
}

pub(super) enum LeaseMessage {
    Tick,
}

pub(super) struct LeaseActor;

impl Actor for LeaseActor {
    type Msg = LeaseMessage;
    type State = Arc<Shards>;
    type Arguments = Arc<Shards>;

    async fn pre_start(
        &self,
        me: ActorRef<LeaseMessage>,
        shards: Arc<Shards>,
    ) -> Result<Arc<Shards>, ActorProcessingErr> {
        me.send_interval(renewed_every(shards.live.load().stream_lease), || LeaseMessage::Tick);
        Ok(shards)
    }

    async fn handle(
        &self,
        _: ActorRef<LeaseMessage>,
        LeaseMessage::Tick: LeaseMessage,
        shards: &mut Arc<Shards>,
    ) -> Result<(), ActorProcessingErr> {
        let mut last = None;
        loop {
            last = shards.leases.renew_some(last, |user, turns| {
                let user = Key::from(user);
                // What does not get through is said again at the next tick.
                let _ = shards.of(user).tell(|permit| RateLimitMessage::Renew {
                    user,
                    turns: turns.to_vec(),
                    permit,
                });
            });
            if last.is_none() {
                return Ok(());
            }
            // Turns that begin and end want the lock too.
            tokio::task::yield_now().await;
        }
    }
}

fn renewed_every(lease: Duration) -> Duration {
    (lease / RENEWALS_PER_LEASE).max(Duration::from_millis(1))
}
