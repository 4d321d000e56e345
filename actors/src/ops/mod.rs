//! The ops room: what an operator asks of a running service.
//!
//! ```text
//!                 each second                       at any time
//! db.ping        ───────▶ ╭──────────╮ ── Published ──▶ /readyz, /health, /metrics
//! models, limits ───────▶ │ OpsActor │
//! Tree           ───────▶ ╰──────────╯ ◀── tree ─────── /actors, `deepersensor actors`
//! ```
//!
//! Asking costs the dependencies nothing: answers come from what was seen at the last look, so no number of health
//! checks becomes load on the database, and no frozen dependency makes a health check hang. Nor do they ask the actor: it
//! publishes what it saw.
//!
//! # What makes the service unready
//!
//! The database not answering or not to be written to, a degraded room, shutdown, and an OpsActor that has not looked around for
//! seconds. Model servers and Redis do not: without the former accounts, histories and the catalogue still work and a turn gets
//! an honest 503, without the latter each instance counts alone, and every instance would leave the load balancer at once. Nor does
//! a disk that would take no ends of turns: it is missed only in an outage. Their checks are there to be read.
//!
//! # When it breaks
//!
//! A killed OpsActor costs the questions in its mailbox ([`OpsError`]). What it published stays good until its successor looks
//! around, which knows nothing of the database until that has answered once. One that stands still is noticed by the age of
//! what it published.

mod actor;
mod database;
mod gates;
mod message;
mod news;
mod process;
mod published;
mod readiness;
#[cfg(test)]
mod tests;
mod token;

pub(crate) use self::readiness::Server;
pub use self::{
    news::{After, NewsReader},
    readiness::{Check, Readiness},
    token::OpsToken,
};

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{
    actor::{OpsActor, Sources},
    database::Ping,
    gates::GateWatch,
    message::OpsMessage,
    process::Process,
    published::Published,
    readiness::{LookAround, ModelCount, Spill, Surroundings},
};
use crate::{
    clock::fresh_id,
    db::DbHandle,
    handle::{Gate, Handle, Slot},
    model::ModelHandle,
    rate_limit::RateLimitHandle,
    room::RoomContext,
    supervisor::{ChildSpec, Policy, Strategy, SupervisorSpec, child_name, child_path, spawn_child},
    tree::Feed,
};

/// The room's place in the tree.
const PATH: &str = "ops";
/// Questions that may wait; operators and load balancers are few.
const QUEUE: usize = 64;
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);
/// How long the start of the service waits for the database's first sign of life.
const FIRST_SIGN_LIMIT: Duration = Duration::from_secs(5);

/// The room is full of questions or just being restarted; ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ops room is unavailable")]
pub struct OpsError;

/// Asks the ops room; clones share one room.
#[derive(Clone)]
pub struct OpsHandle {
    system: Arc<str>,
    actor: Handle<OpsMessage>,
    published: Published,
    heard: watch::Receiver<bool>,
    /// Tells this start of the service from others.
    run: Uuid,
    news: Feed,
    closing: CancellationToken,
}

impl OpsHandle {
    /// The live tree: `{"system":…,"nodes":[…],"gates":[…]}`.
    ///
    /// # Errors
    ///
    /// [`OpsError`]: ask again.
    pub async fn tree(&self) -> Result<Value, OpsError> {
        let seen = self.actor.ask(OpsMessage::Tree).await.map_err(|_| OpsError)?;
        Ok(json!({ "system": &*self.system, "nodes": seen.nodes, "gates": seen.gates }))
    }

    /// Whether requests should come here, and why not. Read, not asked: seen at most a second ago, or not ready; shutdown shows
    /// at once.
    pub fn readiness(&self) -> Readiness {
        self.published.readiness()
    }

    /// Resolves when the database has answered once, after [`FIRST_SIGN_LIMIT`] at the latest.
    pub(crate) async fn database_heard(&self) {
        let mut heard = self.heard.clone();
        let heard = heard.wait_for(|heard| *heard);
        if !matches!(tokio::time::timeout(FIRST_SIGN_LIMIT, heard).await, Ok(Ok(_))) {
            tracing::warn!("the database has not answered yet; the service is unready until it does");
        }
    }

    /// Makes [`OpsHandle::readiness`] tell of what is so now, not of the last look.
    pub(crate) async fn look(&self) {
        // Refused or lost, the look of the next second takes its place.
        let _ = self.actor.ask(OpsMessage::LookNow).await;
    }
}

/// Makes the room, which looks at these others.
pub(crate) fn build(
    ctx: &RoomContext,
    db: DbHandle,
    models: ModelHandle,
    limits: RateLimitHandle,
) -> (OpsHandle, SupervisorSpec) {
    let kept = db.clone();
    let ping: Ping = Arc::new(move || {
        let db = db.clone();
        Box::pin(async move { db.ping().await })
    });
    ctx.registry.lock().register_collector(Box::new(Process(tokio::runtime::Handle::current())));
    let around = move || Surroundings {
        models: ModelCount::of(&models.models()),
        servers: models.servers(),
        counting: limits.counting(),
        spill: match kept.takes_ends_on_disk() {
            None => Spill::Off,
            Some(true) => Spill::Works,
            Some(false) => Spill::Fails,
        },
    };
    build_on(ctx, ping, Arc::new(around))
}

fn build_on(ctx: &RoomContext, ping: Ping, around: LookAround) -> (OpsHandle, SupervisorSpec) {
    let gate = Gate::new("ops", QUEUE);
    ctx.gates.watch(&gate);
    let actor = Handle::new(Slot::new(), gate, ANSWER_DEADLINE);
    let (sign, heard) = watch::channel(false);
    let published = Published::new(ctx.closing.clone());
    ctx.registry.lock().register_collector(Box::new(published.clone()));
    let sources = Sources {
        tree: ctx.tree.clone(),
        gates: ctx.gates.clone(),
        tracker: ctx.tracker.clone(),
        ping,
        around,
        published: published.clone(),
        doors: Arc::new(Mutex::new(GateWatch::new(&ctx.gates.snapshot()))),
        heard: sign,
    };
    let (id, slot) = ("actor", actor.slot().clone());
    let name = child_name(&ctx.system, &child_path(PATH, id));
    let child = ChildSpec::leaf(id, move |supervisor| {
        let (name, slot, sources) = (name.clone(), slot.clone(), sources.clone());
        async move {
            let actor = spawn_child(&supervisor, name, OpsActor, sources).await?;
            slot.publish(actor.clone());
            Ok(actor.get_cell())
        }
    });
    let room = SupervisorSpec {
        path: PATH.to_owned(),
        strategy: Strategy::OneForOne,
        policy: Policy::default(),
        children: Arc::new(vec![child]),
    };
    let handle = OpsHandle {
        system: Arc::clone(&ctx.system),
        actor,
        published,
        heard,
        run: fresh_id(),
        news: ctx.tree.news().clone(),
        closing: ctx.closing.clone(),
    };
    (handle, room)
}
