//! Admission: may this caller spend one more request, guess one more password, or have one more turn run, now?
//!
//! ```text
//! route ── take(charges) ──▶ RateLimitHandle ──▶ shard = hash(payer) ──▶ RateLimitActor ──▶ Backend ──▶ Answer
//! ```
//!
//! Each payer lives on exactly one shard, with all its buckets, so a bucket has a single writer and needs no lock, and a
//! question spends from all the buckets it concerns or from none. So does each account whose password is guessed. The
//! arithmetic is pure and lives in [`domain::quota`] and [`domain::guessing`].
//!
//! # When it breaks
//!
//! A killed or panicking shard answers nothing: callers of its keys get [`LimitError::Unavailable`] until it is back,
//! other keys notice nothing. It comes back with empty memory, so its keys regain at most one burst and its accounts
//! some free guesses; that is the price of keeping buckets in memory. A shard that stops answering costs each caller
//! [`RateLimitConfig::answer_deadline`], and its gate bounds how many can wait there.

mod actor;
mod backend;
mod config;
mod decision;
mod error;
mod guess;
mod key;
mod leases;
mod message;
mod metrics;
mod stream;
#[cfg(test)]
mod tests;
mod turn;

pub(crate) use self::backend::redis::look;
pub use self::{
    config::RateLimitConfig,
    decision::{Decision, Said, Scope},
    error::LimitError,
    guess::{AccountTag, Guess},
    key::one_address,
    stream::StreamLease,
    turn::{TokenReserve, TurnSize},
};

use std::{
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    sync::Arc,
};

use domain::principal::Principal;

use self::{
    actor::RateLimitActor,
    backend::{MakeBackend, memory::Memory},
    config::LiveLimits,
    key::{Charge, Charges},
    leases::{LeaseActor, Leases},
    message::{Answer, RateLimitMessage, Taken},
    metrics::{Metrics, Outcome, RedisMetrics},
};
use crate::{
    handle::{Gate, Handle, Slot},
    room::RoomContext,
    supervisor::{ChildSpec, Policy, Strategy, SupervisorSpec, child_name, child_path, spawn_child},
    system::StartError,
    trace::Span,
};

/// The room's place in the tree.
const PATH: &str = "limits_sup";
/// Questions that may wait at one shard: every request in flight may concern the same key.
const SHARD_QUEUE: usize = 2_048;

/// Asks the rate limit room; clones share one room.
#[derive(Clone)]
pub struct RateLimitHandle(Option<Arc<Shards>>);

struct Shards {
    live: LiveLimits,
    /// Seeded per process, so that nobody can choose keys that all meet on one shard.
    hasher: RandomState,
    handles: Vec<Handle<RateLimitMessage>>,
    /// Of this process.
    leases: Leases,
    metrics: Metrics,
    /// Of the server that is shared, if there is one.
    redis: Option<RedisMetrics>,
}

/// Where callers are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// They are not.
    Off,
    /// By this instance alone, as it is configured.
    Alone,
    /// By this instance alone, because the Redis server is away.
    AloneForNow,
    /// On the Redis server, with all instances.
    Together,
}

impl RateLimitHandle {
    /// Where callers are counted at this moment; costs nothing.
    pub fn counting(&self) -> Counting {
        match self.0.as_ref().map(|shards| &shards.redis) {
            None => Counting::Off,
            Some(None) => Counting::Alone,
            Some(Some(redis)) if redis.up.get() == 1 => Counting::Together,
            Some(Some(_)) => Counting::AloneForNow,
        }
    }

    /// Goes by other limits from now on. Of `config` count the quotas, the reserve and the number of running turns.
    ///
    /// A changed quota is a new bucket, which starts full: its callers regain a burst once. Turns that wait already have the
    /// number of running turns they came with.
    pub fn reconfigure(&self, config: &RateLimitConfig) {
        if let Some(shards) = &self.0 {
            shards.live.rcu(|live| live.followed_by(config));
        }
    }

    /// Spends `cost` from the address's bucket, before authentication; `None` when limits are off.
    ///
    /// IPv6 addresses share one bucket per /64, the least that one customer controls; an IPv4-mapped address is the IPv4
    /// address.
    ///
    /// # Errors
    ///
    /// [`LimitError::Unavailable`]: fail the request.
    pub async fn take_address(&self, address: IpAddr, cost: u32) -> Result<Option<Decision>, LimitError> {
        self.take(Scope::Address, address, cost).await
    }

    /// Spends `cost` requests from the bucket of the principal's user and, if it has a quota of its own, from that of its key: from
    /// both or from none. After authentication; `None` when limits are off.
    ///
    /// # Errors
    ///
    /// [`LimitError::Unavailable`]: fail the request.
    pub async fn take_principal(
        &self,
        principal: &Principal,
        cost: u32,
    ) -> Result<Option<Decision>, LimitError> {
        let Some(shards) = &self.0 else { return Ok(None) };
        let charges = shards.live.load().requests_of(principal, cost);
        Ok(Some(shards.take(charges, TokenReserve::none()).await?.decision))
    }

    /// Spends one log-in of the address (A6: 5 at once, 5 a minute); `None` when limits are off.
    ///
    /// # Errors
    ///
    /// [`LimitError::Unavailable`]: fail the request.
    pub async fn take_log_in(&self, address: IpAddr) -> Result<Option<Decision>, LimitError> {
        self.take(Scope::LogIn, address, 1).await
    }

    /// Spends one sign-up of the address (A5: 10 at once, 10 an hour); `None` when limits are off.
    ///
    /// # Errors
    ///
    /// [`LimitError::Unavailable`]: fail the request.
    pub async fn take_sign_up(&self, address: IpAddr) -> Result<Option<Decision>, LimitError> {
        self.take(Scope::SignUp, address, 1).await
    }

    async fn take(&self, scope: Scope, address: IpAddr, cost: u32) -> Result<Option<Decision>, LimitError> {
        let Some(shards) = &self.0 else { return Ok(None) };
        let quota = shards.live.load().quota(scope);
        let charges = Charges::one(scope, address.into(), quota, cost);
        Ok(Some(shards.take(charges, TokenReserve::none()).await?.decision))
    }
}

impl Shards {
    async fn take(&self, charges: Charges, reserve: TokenReserve) -> Result<Taken, LimitError> {
        let Charge { scope, key: payer, .. } = charges.first;
        let span = Span::named(|| format!("limits.{}.take", scope.as_str()).into());
        let asked = span
            .around(self.of(payer).ask(|permit, port| RateLimitMessage::Take {
                charges,
                reserve,
                answer: Answer::new(permit, port),
            }))
            .await;
        let (scope, outcome) = match &asked {
            Ok(Taken { decision, .. }) if decision.verdict.allowed => (decision.scope, Outcome::Allowed),
            Ok(Taken { decision, .. }) => (decision.scope, Outcome::Refused),
            Err(_) => (scope, Outcome::Unavailable),
        };
        self.metrics.decided(scope, outcome);
        // The gate's refusals and the shard's death are counted and logged where they happen.
        asked.map_err(|_| LimitError::Unavailable)
    }

    fn of(&self, payer: impl Hash) -> &Handle<RateLimitMessage> {
        let hash = self.hasher.hash_one(payer);
        // The remainder is below the number of shards, which is a usize.
        &self.handles[(hash % self.handles.len() as u64) as usize]
    }
}

/// Makes the room: its handle, and what its supervisor starts. Limits that are off need no actor.
///
/// A Redis server that does not answer delays this by a second and is no error.
pub(crate) async fn build(
    ctx: &RoomContext,
    config: RateLimitConfig,
) -> Result<(RateLimitHandle, SupervisorSpec), StartError> {
    if !config.enabled {
        return Ok((RateLimitHandle(None), room(Vec::new())));
    }
    let metrics = Metrics::register(&ctx.registry, config.shards.max(1));
    let redis = config.redis_url.as_ref().map(|_| RedisMetrics::register(&ctx.registry));
    let live = config.into_live();
    let config = live.load_full();
    let backend: MakeBackend = match config.redis_url.as_ref().zip(redis.as_ref()) {
        Some((url, numbers)) => {
            backend::redis::connect(ctx, url, live.clone(), metrics.clone(), numbers.clone()).await?
        }
        None => {
            let (live, metrics) = (live.clone(), metrics.clone());
            Arc::new(move |shard| Box::new(Memory::new(&live, metrics.shard(shard))))
        }
    };
    Ok(build_on(ctx, live, metrics, redis, backend))
}

/// Makes a room of as many shards as `metrics` knows, on a backend of the caller's choice.
fn build_on(
    ctx: &RoomContext,
    live: LiveLimits,
    metrics: Metrics,
    redis: Option<RedisMetrics>,
    backend: MakeBackend,
) -> (RateLimitHandle, SupervisorSpec) {
    let deadline = live.load().answer_deadline;
    let (handles, mut children): (_, Vec<_>) = (0..metrics.shards())
        .map(|shard| {
            let gate = Gate::new("rate_limit", SHARD_QUEUE);
            ctx.gates.watch(&gate);
            let handle = Handle::new(Slot::new(), gate, deadline);
            let child = shard_child(ctx, shard, handle.slot().clone(), Arc::clone(&backend));
            (handle, child)
        })
        .unzip();
    let leases = Leases::new(metrics.leases().clone());
    let shards = Arc::new(Shards { live, hasher: RandomState::new(), handles, leases, metrics, redis });
    children.push(lease_child(ctx, Arc::clone(&shards)));
    (RateLimitHandle(Some(shards)), room(children))
}

fn shard_child(
    ctx: &RoomContext,
    shard: usize,
    slot: Slot<RateLimitMessage>,
    backend: MakeBackend,
) -> ChildSpec {
    let id = format!("shard-{shard}");
    let name = child_name(&ctx.system, &child_path(PATH, &id));
    ChildSpec::leaf(id, move |supervisor| {
        let (name, slot, buckets) = (name.clone(), slot.clone(), backend(shard));
        async move {
            let actor = spawn_child(&supervisor, name, RateLimitActor, buckets).await?;
            slot.publish(actor.clone());
            Ok(actor.get_cell())
        }
    })
}

/// Says of this process's turns that they still run.
fn lease_child(ctx: &RoomContext, shards: Arc<Shards>) -> ChildSpec {
    let name = child_name(&ctx.system, &child_path(PATH, "leases"));
    ChildSpec::leaf("leases", move |supervisor| {
        let (name, shards) = (name.clone(), Arc::clone(&shards));
        async move { Ok(spawn_child(&supervisor, name, LeaseActor, shards).await?.get_cell()) }
    })
}

fn room(children: Vec<ChildSpec>) -> SupervisorSpec {
    SupervisorSpec {
        path: PATH.to_owned(),
        strategy: Strategy::OneForOne,
        policy: Policy::default(),
        children: Arc::new(children),
    }
}
