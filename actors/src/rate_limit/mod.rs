//! Admission: may this caller spend one more request now?
//!
//! ```text
//! route ── take(key, cost) ──▶ RateLimitHandle ──▶ shard = hash(key) ──▶ RateLimitActor ──▶ Backend ──▶ Answer
//! ```
//!
//! Each key lives on exactly one shard, so a bucket has a single writer and needs no lock. An address and a principal
//! have one bucket each, and each question spends from one bucket. The arithmetic is pure and lives in [`domain::quota`].
//!
//! # When it breaks
//!
//! A killed or panicking shard answers nothing: callers of its keys get [`LimitError::Unavailable`] until it is back,
//! other keys notice nothing. It comes back with empty memory, so its keys regain at most one burst; that is the price of
//! keeping buckets in memory. A shard that stops answering costs each caller [`ANSWER_DEADLINE`], and its gate bounds how
//! many can wait there.

mod actor;
mod backend;
mod config;
mod error;
mod key;
mod message;
mod metrics;
#[cfg(test)]
mod tests;

pub use self::{config::RateLimitConfig, error::LimitError, key::one_address};

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use domain::{principal::Principal, quota::Verdict};

use self::{
    actor::RateLimitActor,
    backend::{MakeBackend, memory::Memory},
    key::Payer,
    message::{Answer, RateLimitMessage},
    metrics::{Metrics, Outcome},
};
use crate::{
    handle::{Gate, Handle, Slot},
    room::RoomContext,
    supervisor::{ChildSpec, Policy, Strategy, SupervisorSpec, child_name, child_path, spawn_child},
};

/// The room's place in the tree.
const PATH: &str = "limits_sup";
/// How long a caller waits for its shard: a shard in memory answers in microseconds, one that needs this long is stuck.
const ANSWER_DEADLINE: Duration = Duration::from_millis(500);
/// Questions that may wait at one shard: every request in flight may concern the same key.
const SHARD_QUEUE: usize = 2_048;

/// Which bucket decided; names the policy in the `RateLimit` headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Address,
    User,
}

impl Scope {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::User => "user",
        }
    }
}

/// The answer of the limiter: the bucket's verdict, and whose it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    pub scope: Scope,
    pub verdict: Verdict,
}

/// Asks the rate limit room; clones share one room.
#[derive(Clone)]
pub struct RateLimitHandle(Option<Arc<Shards>>);

struct Shards {
    /// Seeded per process, so that nobody can choose keys that all meet on one shard.
    hasher: RandomState,
    handles: Vec<Handle<RateLimitMessage>>,
    metrics: Metrics,
}

impl RateLimitHandle {
    /// Spends `cost` from the address's bucket, before authentication; `None` when limits are off.
    ///
    /// IPv6 addresses share one bucket per /64, the least that one customer controls; an IPv4-mapped address is the IPv4
    /// address.
    ///
    /// # Errors
    ///
    /// [`LimitError::Unavailable`]: fail the request.
    pub async fn take_address(&self, address: IpAddr, cost: u32) -> Result<Option<Decision>, LimitError> {
        self.take(Payer::address(address), cost).await
    }

    /// Spends `cost` from the bucket of the principal's user, after authentication; `None` when limits are off.
    ///
    /// # Errors
    ///
    /// [`LimitError::Unavailable`]: fail the request.
    pub async fn take_principal(
        &self,
        principal: &Principal,
        cost: u32,
    ) -> Result<Option<Decision>, LimitError> {
        self.take(Payer::principal(principal), cost).await
    }

    async fn take(&self, payer: Payer, cost: u32) -> Result<Option<Decision>, LimitError> {
        let Some(shards) = &self.0 else { return Ok(None) };
        let asked = shards
            .of(payer)
            .ask(|permit, port| RateLimitMessage::Take { payer, cost, answer: Answer::new(permit, port) })
            .await;
        let (outcome, result) = match asked {
            Ok(decision) if decision.verdict.allowed => (Outcome::Allowed, Ok(Some(decision))),
            Ok(decision) => (Outcome::Refused, Ok(Some(decision))),
            // The gate's refusals and the shard's death are counted and logged where they happen.
            Err(_) => (Outcome::Unavailable, Err(LimitError::Unavailable)),
        };
        shards.metrics.decided(payer.scope(), outcome);
        result
    }
}

impl Shards {
    fn of(&self, payer: Payer) -> &Handle<RateLimitMessage> {
        let hash = self.hasher.hash_one(payer);
        // The remainder is below the number of shards, which is a usize.
        &self.handles[(hash % self.handles.len() as u64) as usize]
    }
}

/// Makes the room: its handle, and what its supervisor starts. Limits that are off need no actor.
pub(crate) fn build(ctx: &RoomContext, config: RateLimitConfig) -> (RateLimitHandle, SupervisorSpec) {
    if !config.enabled {
        return (RateLimitHandle(None), room(Vec::new()));
    }
    let metrics = Metrics::register(&ctx.registry, config.shards.max(1));
    let backend: MakeBackend = {
        let metrics = metrics.clone();
        Arc::new(move |shard| Box::new(Memory::new(&config, metrics.shard(shard))))
    };
    build_on(ctx, metrics, backend)
}

/// Makes a room of as many shards as `metrics` knows, on a backend of the caller's choice.
fn build_on(ctx: &RoomContext, metrics: Metrics, backend: MakeBackend) -> (RateLimitHandle, SupervisorSpec) {
    let (handles, children) = (0..metrics.shards())
        .map(|shard| {
            let gate = Gate::new("rate_limit", SHARD_QUEUE);
            ctx.gates.watch(&gate);
            let handle = Handle::new(Slot::new(), gate, ANSWER_DEADLINE);
            let child = shard_child(ctx, shard, handle.slot().clone(), Arc::clone(&backend));
            (handle, child)
        })
        .unzip();
    let shards = Shards { hasher: RandomState::new(), handles, metrics };
    (RateLimitHandle(Some(Arc::new(shards))), room(children))
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

fn room(children: Vec<ChildSpec>) -> SupervisorSpec {
    SupervisorSpec {
        path: PATH.to_owned(),
        strategy: Strategy::OneForOne,
        policy: Policy::default(),
        children: Arc::new(children),
    }
}
