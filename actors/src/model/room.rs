//! How the room is built, and how it is brought to rest.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use domain::reply::FailureCode;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    ModelConfig, ModelHandle, UpstreamConfig,
    depth::Depths,
    handle::Inner,
    lease::{LeaseActor, Leases},
    live::{Known, Live},
    metrics::register_holds,
    provider::AnyProvider,
    route::RouteTable,
    router::{FIRST_REFRESH_LIMIT, ModelRouterActor, Routing},
    streams::Streams,
    turns::Turns,
    upstream::{Upstream, UpstreamRules},
    vitals::Vitals,
};
use crate::{
    clock::fresh_id,
    db::DbHandle,
    ops::Server,
    rate_limit::RateLimitHandle,
    reply::ReplyBudget,
    room::RoomContext,
    supervisor::{ChildSpec, Policy, Strategy, SupervisorHandle, SupervisorSpec, child_name, spawn_child},
    system::StartError,
};

const ROOM: &str = "models_sup";

/// Whether the actor at this path of the tree serves one model only.
pub(crate) fn is_one_models(path: &str) -> bool {
    path.strip_prefix(ROOM).and_then(|rest| rest.strip_prefix('/')).is_some_and(|rest| rest.contains('/'))
}

/// What the system keeps of the room beside its handle.
pub(crate) struct ModelRoom {
    pub handle: ModelHandle,
    pub spec: SupervisorSpec,
    pub supervisor: SupervisorHandle,
}

/// Builds the room: nothing runs until its supervisor is started.
///
/// # Errors
///
/// [`StartError::Config`] when an upstream's address makes no sense.
pub(crate) fn build(
    ctx: &RoomContext,
    config: ModelConfig,
    db: DbHandle,
    limits: RateLimitHandle,
) -> Result<ModelRoom, StartError> {
    let providers = config
        .upstreams
        .iter()
        .map(|upstream| AnyProvider::from_config(upstream, &config.timeouts))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| StartError::Config(error.to_string()))?;
    Ok(build_over(ctx, config, providers, db, limits))
}

/// Builds the room over these model servers.
pub(super) fn build_over(
    ctx: &RoomContext,
    config: ModelConfig,
    providers: Vec<AnyProvider>,
    db: DbHandle,
    limits: RateLimitHandle,
) -> ModelRoom {
    let halt = CancellationToken::new();
    let upstreams = upstreams(ctx, &config, providers, &halt);
    let holds = register_holds(&mut ctx.registry.lock());
    let supervisor = SupervisorHandle::new();
    let budget = ReplyBudget::new(config.reply_budget_bytes);
    let turns = Turns::new(budget.clone(), config.reply_kept);
    let leases = Leases {
        instance: fresh_id(),
        lease: config.lease,
        db: db.clone(),
        clock: ctx.clock.clone(),
        tracker: ctx.tracker.clone(),
        reach: Arc::default(),
        turns: turns.clone(),
    };
    let prompts = Arc::new(Semaphore::new(config.prompt_budget_bytes >> 10));
    let streams = Streams::new(limits.clone(), holds, ctx.tracker.clone(), halt.clone());
    let routing = Arc::new(Routing {
        live: ArcSwap::from_pointee(Live { config, upstreams }),
        table: ArcSwap::from_pointee(RouteTable::default()),
        known: ArcSwap::from_pointee(Known::default()),
        supervisor: supervisor.clone(),
        system: ctx.system.clone(),
        room: ROOM,
        tracker: ctx.tracker.clone(),
        streams,
        db,
        halt,
        retiring: Mutex::default(),
        former: Mutex::default(),
        refreshing: tokio::sync::Mutex::new(()),
    });
    ctx.registry.lock().register_collector(Box::new(Depths {
        routing: routing.clone(),
        replies: budget.clone(),
        turns: turns.clone(),
        prompts: prompts.clone(),
    }));
    ctx.registry.lock().register_collector(Box::new(Vitals(routing.clone())));
    let spec = SupervisorSpec {
        path: ROOM.to_owned(),
        strategy: Strategy::OneForOne,
        policy: Policy::default(),
        children: Arc::new(vec![router(ctx, routing.clone()), lease_keeper(ctx, leases.clone())]),
    };
    let inner = Inner {
        routing,
        leases,
        limits,
        budget,
        turns,
        lines: Arc::default(),
        prompts,
        tree: ctx.tree.clone(),
        closing: ctx.closing.clone(),
    };
    ModelRoom { handle: ModelHandle(Arc::new(inner)), spec, supervisor }
}

/// The configured servers over their providers, which are in the same order.
fn upstreams(
    ctx: &RoomContext,
    config: &ModelConfig,
    providers: Vec<AnyProvider>,
    halt: &CancellationToken,
) -> Arc<[Arc<Upstream>]> {
    let of_one = |(server, provider): (&UpstreamConfig, AnyProvider)| {
        Upstream::new(UpstreamRules::of(config, server), provider, ctx.tracker.clone(), halt.clone())
    };
    config.upstreams.iter().zip(providers).map(of_one).collect()
}

/// Keeps the catalogue fresh and the workers in being.
fn router(ctx: &RoomContext, routing: Arc<Routing>) -> ChildSpec {
    let name = child_name(&ctx.system, &format!("{ROOM}/router"));
    ChildSpec::leaf("router", move |supervisor| {
        let (routing, name) = (routing.clone(), name.clone());
        async move { Ok(spawn_child(&supervisor, name, ModelRouterActor, routing).await?.get_cell()) }
    })
}

/// Says "still here" for this process's turns.
fn lease_keeper(ctx: &RoomContext, leases: Leases) -> ChildSpec {
    let name = child_name(&ctx.system, &format!("{ROOM}/leases"));
    ChildSpec::leaf("leases", move |supervisor| {
        let (leases, name) = (leases.clone(), name.clone());
        async move { Ok(spawn_child(&supervisor, name, LeaseActor, leases).await?.get_cell()) }
    })
}

impl ModelHandle {
    /// The model servers and whether they answer, as far as we know; costs nothing.
    pub(crate) fn servers(&self) -> Vec<Server> {
        let live = self.0.routing.live.load();
        live.upstreams
            .iter()
            .map(|upstream| Server {
                name: upstream.name().to_string(),
                is_up: upstream.is_up(),
                is_draining: upstream.is_draining(),
            })
            .collect()
    }

    /// Waits, for a bounded time, for the first catalogue, so that a service that says it is ready can name its models.
    pub(crate) async fn first_catalogue(&self) {
        let routing = self.0.routing.clone();
        // A task of its own: a refresh that is cut may leave workers to a queue that nobody finds.
        let listing = self.0.routing.tracker.spawn(async move {
            let _only_one = routing.refreshing.lock().await;
            // Whatever the router found while the tree was still starting, its workers may have found no supervisor.
            tokio::select! {
                () = routing.halt.cancelled() => {}
                () = routing.refresh() => {}
            }
        });
        if tokio::time::timeout(FIRST_REFRESH_LIMIT, listing).await.is_err() {
            tracing::warn!("no model server answered in time; the catalogue fills when one does");
        }
    }

    /// Ends everything that waits as `server_shutting_down`, and lets nobody wait from now on.
    pub(crate) fn stop_waiting(&self) {
        for route in self.0.routing.table.load().0.values() {
            route.list.stop_waiting(route.refusal().is_none());
        }
    }

    /// Resolves when no turn has a slot.
    pub(crate) async fn all_slots_free(&self) {
        for list in self.0.routing.lists() {
            list.all_slots_free().await;
        }
    }

    /// Ends everything that waits or runs as `server_shutting_down`, and waits for the slots to be free.
    pub(crate) async fn halt(&self, patience: Duration) {
        let routing = &self.0.routing;
        routing.halt.cancel();
        for list in routing.lists() {
            list.close(FailureCode::ServerShuttingDown);
        }
        if tokio::time::timeout(patience, self.all_slots_free()).await.is_err() {
            tracing::warn!("slots were still busy when the model room was stopped");
        }
    }
}
