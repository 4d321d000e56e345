//! Turns of other instances: read here, or ended from here.
//!
//! ```text
//! reader ◀── mirror of the turn ◀── stream in Redis ◀── the owner, which reads the turn's log since somebody asked
//!                  ▲
//!                  ╰── store: the checkpoints, while the owner cannot be heard
//! ```
//!
//! A turn that nobody follows is told to nobody. An instance that follows one says so in the owner's stream of asks, and again
//! every ten seconds; the owner then tells the turn's text from its beginning into a stream of the turn's own, and goes on
//! until the end or until nobody asks any more. Asks are streams rather than published messages, so that an instance waits for
//! both on one connection, with one question, and one that connects late still hears what was asked a moment ago.
//!
//! The room also ends the turns of this instance that another one was asked to end ([`cancels`]).
//!
//! # Personal data
//!
//! What is told is in Redis for two minutes after its last word, and no longer: at most [`RelayConfig::stream_bytes`] of each
//! of [`RelayConfig::relayed_max`] turns of an instance. Nothing is told that nobody follows.
//!
//! # When it breaks
//!
//! Everything is told in places ([`domain::reply::Position`]), so a follower may go from the stream to the store and back
//! without a byte twice or missing. While Redis or the owner is away it asks the store each second, which lags by one
//! checkpoint, and ends with the turn: settled, or interrupted by the sweep once its lease has run out. Only an answer that the
//! store does not keep cannot be followed further then; its readers are told so. The owner's turn never waits for any of this.

mod cancels;
mod config;
mod error;
mod following;
mod link;
mod listener;
mod metrics;
mod mirror;
mod relaying;
mod rounds;
mod stream;
#[cfg(test)]
mod tests;
mod wire;
mod world;

use std::{collections::HashMap, sync::Arc};

use domain::{
    id::InstanceId,
    reply::{Answer, Position},
    turn::StoredTurn,
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

pub(crate) use self::world::{LiveTurns, Records};
use self::{
    cancels::{Cancels, CancelsActor},
    following::Following,
    link::Link,
    listener::{Ears, ListenerActor},
    metrics::RelayMetrics,
    relaying::Relaying,
    stream::ask,
    wire::{Ask, asks_of, encode},
};
pub use self::{config::RelayConfig, error::RelayError};
use crate::{
    handle::Gate,
    redis::client,
    reply::{ReplyBudget, ReplyReader},
    room::RoomContext,
    supervisor::{ChildSpec, Policy, Strategy, SupervisorSpec, child_name, child_path, spawn_child},
    system::StartError,
};

/// The room's place in the tree.
const PATH: &str = "relay";

/// Follows and ends turns of other instances; clones share one room.
#[derive(Clone)]
pub struct RelayHandle {
    following: Arc<Following>,
    halt: CancellationToken,
}

/// What the room stands on.
pub(crate) struct World {
    pub instance: InstanceId,
    pub live: Arc<dyn LiveTurns>,
    pub records: Arc<dyn Records>,
    pub budget: ReplyBudget,
    /// Of one answer.
    pub bytes_max: usize,
}

impl RelayHandle {
    /// Reads a turn that runs on another instance, behind `from`; `answer` is what the store has of it.
    ///
    /// What the caller has beyond that is passed over when it comes. Dropping the reader leaves the turn alone.
    ///
    /// # Errors
    ///
    /// [`RelayError::Full`]: refuse with 503.
    pub fn follow(
        &self,
        turn: StoredTurn,
        answer: &Answer,
        from: Position,
    ) -> Result<ReplyReader, RelayError> {
        self.following.follow(turn, answer, from)
    }

    /// Hurries an instance that has a turn to end, of which the store knows already; nobody waits for it.
    pub fn hurry_cancel(&self, owner: InstanceId) {
        let Some(link) = self.following.link.clone() else { return };
        if owner == self.following.instance {
            return;
        }
        self.following.tracker.spawn(async move {
            let mut pipe = redis::pipe();
            ask(&mut pipe, &asks_of(owner), &encode(&Ask::Cancel));
            // Who does not hear it looks by itself within a second.
            let _ = link.say(&pipe).await;
        });
    }

    /// Lets go of everything: what is read here ends, and nothing is told any more.
    pub(crate) fn halt(&self) {
        self.halt.cancel();
    }
}

/// Makes the room: its handle, and what its supervisor starts. That Redis is away is no error.
pub(crate) fn build(
    ctx: &RoomContext,
    config: RelayConfig,
    world: World,
) -> Result<(RelayHandle, SupervisorSpec), StartError> {
    let metrics = RelayMetrics::register(&ctx.registry, config.redis_url.is_some());
    let link = match &config.redis_url {
        Some(url) => {
            let client = client(url).map_err(|error| StartError::Config(error.to_owned()))?;
            Some(Arc::new(Link::new(client, metrics.clone())))
        }
        None => None,
    };
    let halt = CancellationToken::new();
    let gate = |name, capacity| {
        let gate = Gate::new(name, capacity);
        ctx.gates.watch(&gate);
        gate
    };
    let World { instance, live, records, budget, bytes_max } = world;
    let cancels = Cancels {
        instance,
        every: config.look_every,
        live: Arc::clone(&live),
        records: Arc::clone(&records),
        metrics: metrics.clone(),
        tracker: ctx.tracker.clone(),
        looks: Arc::default(),
    };
    let following = Arc::new(Following {
        instance,
        link: link.clone(),
        records,
        budget,
        bytes_max,
        gate: gate("followed_turns", config.followed_max),
        metrics,
        tracker: ctx.tracker.clone(),
        halt: halt.clone(),
        followed: Mutex::default(),
        config: config.clone(),
    });
    let mut children = vec![cancels_child(ctx, cancels.clone())];
    let told_gate = gate("told_turns", config.relayed_max);
    if let Some(link) = link {
        let relaying = Arc::new(Relaying {
            config,
            link: Arc::clone(&link),
            live,
            gate: told_gate,
            tracker: ctx.tracker.clone(),
            halt: halt.clone(),
            told: Mutex::new(HashMap::new()),
        });
        let following = Arc::clone(&following);
        let halt = halt.clone();
        children.push(listener_child(ctx, Ears { instance, link, following, relaying, cancels, halt }));
    }
    let spec = SupervisorSpec {
        path: PATH.to_owned(),
        strategy: Strategy::OneForOne,
        policy: Policy::default(),
        children: Arc::new(children),
    };
    Ok((RelayHandle { following, halt }, spec))
}

/// Ends turns that another instance was asked to end.
fn cancels_child(ctx: &RoomContext, cancels: Cancels) -> ChildSpec {
    let name = child_name(&ctx.system, &child_path(PATH, "cancels"));
    ChildSpec::leaf("cancels", move |supervisor| {
        let (name, cancels) = (name.clone(), cancels.clone());
        async move { Ok(spawn_child(&supervisor, name, CancelsActor, cancels).await?.get_cell()) }
    })
}

/// Hears what others say.
fn listener_child(ctx: &RoomContext, ears: Ears) -> ChildSpec {
    let name = child_name(&ctx.system, &child_path(PATH, "listener"));
    ChildSpec::leaf("listener", move |supervisor| {
        let (name, ears) = (name.clone(), ears.clone());
        async move { Ok(spawn_child(&supervisor, name, ListenerActor, ears).await?.get_cell()) }
    })
}
