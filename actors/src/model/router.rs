//! The ModelRouterActor: keeps the catalogue fresh, sees to it that every model has its workers, publishes the routes.
//!
//! ```text
//! tick ─▶ list every upstream ─▶ merge ─▶ ensure workers under models_sup ─▶ publish the RouteTable
//! ```
//!
//! It owns no worker and awaits nothing in `handle`: the work is a task, one at a time.
//!
//! # When it breaks
//!
//! Catalogue, routes and queues live outside it, so streams and callers never notice its death; the catalogue ages by one
//! backoff. A model server that does not answer keeps its models in the table, marked unreachable.

use std::{collections::HashSet, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use domain::{model_name::CanonicalName, reply::FailureCode};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    catalogue::{Catalogue, CatalogueModel, CatalogueRules},
    config::ModelConfig,
    metrics::ModelMetrics,
    route::{Route, RouteTable},
    server::ModelServer,
    streams::Streams,
    upstream::Upstream,
    waiting_list::{Limits, WaitingList},
    worker::{ModelWorker, Seat, WorkerMessage},
};
use crate::{
    bell::Bell,
    db::DbHandle,
    handle::Slot,
    supervisor::{ChildSpec, SupervisorHandle, child_name, child_path, spawn_child},
};

pub(super) enum RouterMessage {
    Refresh,
}

/// What outlives the router.
pub(super) struct Routing {
    pub config: ModelConfig,
    pub upstreams: Arc<[Arc<Upstream>]>,
    pub table: ArcSwap<RouteTable>,
    pub catalogue: ArcSwap<Catalogue>,
    pub supervisor: SupervisorHandle,
    pub system: Arc<str>,
    pub room: &'static str,
    pub tracker: TaskTracker,
    pub streams: Arc<Streams>,
    pub db: DbHandle,
    pub halt: CancellationToken,
    /// Models whose old workers have not all stopped yet; they come back only after that.
    pub retiring: parking_lot::Mutex<HashSet<CanonicalName>>,
    /// Held by the one refresh under way, whichever router began it.
    pub refreshing: Mutex<()>,
}

pub(super) struct ModelRouterActor;

impl Actor for ModelRouterActor {
    type Msg = RouterMessage;
    type State = Arc<Routing>;
    type Arguments = Arc<Routing>;

    async fn pre_start(
        &self,
        me: ActorRef<RouterMessage>,
        routing: Arc<Routing>,
    ) -> Result<Arc<Routing>, ActorProcessingErr> {
        me.send_interval(routing.config.catalogue_refresh, || RouterMessage::Refresh);
        Ok(routing)
    }

    async fn post_start(
        &self,
        me: ActorRef<RouterMessage>,
        _: &mut Arc<Routing>,
    ) -> Result<(), ActorProcessingErr> {
        me.cast(RouterMessage::Refresh)?;
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<RouterMessage>,
        RouterMessage::Refresh: RouterMessage,
        routing: &mut Arc<Routing>,
    ) -> Result<(), ActorProcessingErr> {
        let routing = routing.clone();
        routing.tracker.clone().spawn(async move {
            if let Ok(_only_one) = routing.refreshing.try_lock() {
                tokio::select! {
                    () = routing.halt.cancelled() => {}
                    () = routing.refresh() => {}
                }
            }
        });
        Ok(())
    }
}

impl Routing {
    /// Asks every upstream what it offers and publishes the routes that follow. Call it under `refreshing`.
    pub async fn refresh(self: &Arc<Self>) {
        let rules =
            CatalogueRules { limit: self.config.catalogue_limit, allow_cloud: self.config.allow_cloud };
        let catalogue = self.catalogue.load_full().refresh(&self.upstreams, rules).await;
        self.tell_changes(&catalogue);
        let old = self.table.load_full();
        let mut table = RouteTable::default();
        for model in catalogue.models() {
            let route = match old.0.get(&model.name) {
                Some(known) if known.has_slots_of(model) => Arc::new(known.described_as(model)),
                // On other servers than before: the old slots go first, the new ones come with the next refresh.
                Some(_) => continue,
                None if self.retiring.lock().contains(&model.name) => continue,
                None => self.install(model),
            };
            self.staff(&route).await;
            table.0.insert(model.name.clone(), route);
        }
        for (name, gone) in &old.0 {
            if !table.0.contains_key(name) {
                self.retire(gone.clone());
            }
        }
        self.catalogue.store(Arc::new(catalogue));
        self.table.store(Arc::new(table));
    }

    /// One line when a model server goes away, one when it is back.
    fn tell_changes(&self, catalogue: &Catalogue) {
        let before = self.catalogue.load_full();
        for (upstream, (config, shelf)) in self.config.upstreams.iter().zip(catalogue.shelves()).enumerate() {
            let was_away = before.shelves().get(upstream).is_some_and(|shelf| shelf.error.is_some());
            match &shelf.error {
                Some(error) if !was_away => {
                    tracing::warn!(upstream = config.name, error = %error, "model server is away; its models stay listed");
                }
                None if was_away => tracing::info!(upstream = config.name, "model server is back"),
                _ => {}
            }
        }
    }

    /// Builds a model's queue and slots.
    fn install(&self, model: &CatalogueModel) -> Arc<Route> {
        let slots = self.config.slots(&model.name);
        let servers: Vec<Arc<ModelServer>> = model
            .places
            .iter()
            .map(|place| ModelServer::new(&self.upstreams, place.upstream, place.server_name.clone()))
            .collect();
        let bells: Vec<Bell<WorkerMessage>> =
            (0..slots * servers.len()).map(|_| Bell::new(Slot::new(), || WorkerMessage::Wake)).collect();
        let limits = Limits {
            places: self.config.queue_limit,
            per_user: self.config.queue_per_user,
            adaptive: self.config.adaptive.contains(&model.name),
        };
        let metrics = Arc::<ModelMetrics>::default();
        let list = WaitingList::new(limits, bells.clone(), metrics.clone());
        let seats: Vec<Arc<Seat>> = bells
            .into_iter()
            .enumerate()
            .map(|(index, bell)| {
                Arc::new(Seat {
                    index,
                    list: list.clone(),
                    bell,
                    server: servers[index / slots].clone(),
                    streams: self.streams.clone(),
                    db: self.db.clone(),
                    checkpoint_every: self.config.checkpoint_every,
                    checkpoint_bytes: self.config.checkpoint_bytes,
                    metrics: metrics.clone(),
                    halt: self.halt.clone(),
                })
            })
            .collect();
        let tree_path = child_path(self.room, model.name.as_str());
        Arc::new(Route {
            model: model.clone(),
            list,
            seats: seats.into(),
            metrics,
            tree_path: tree_path.into(),
        })
    }

    /// Has a worker started for every seat that has none; one that could not be asked for is asked for next time.
    async fn staff(&self, route: &Route) {
        for seat in &*route.seats {
            if let Err(error) = self.supervisor.ensure(self.worker(&route.model.name, seat.clone())).await {
                let model = &route.model.name;
                tracing::error!(%model, slot = seat.index, %error, "worker was not started");
            }
        }
    }

    /// Ends a model that is no longer offered: its queue is told, its workers stop after the turns in hand.
    fn retire(self: &Arc<Self>, route: Arc<Route>) {
        self.retiring.lock().insert(route.model.name.clone());
        route.list.close(FailureCode::ModelNotFound);
        let routing = self.clone();
        self.tracker.spawn(async move {
            route.list.all_slots_free().await;
            for seat in &*route.seats {
                let _ = routing.supervisor.remove(&worker_id(&route.model.name, seat.index)).await;
            }
            routing.retiring.lock().remove(&route.model.name);
        });
    }

    fn worker(&self, model: &CanonicalName, seat: Arc<Seat>) -> ChildSpec {
        let id = worker_id(model, seat.index);
        let path = child_path(self.room, &id);
        let system = self.system.clone();
        ChildSpec::leaf(id, move |supervisor| {
            let (seat, system, path) = (seat.clone(), system.clone(), path.clone());
            async move {
                let bell = seat.bell.clone();
                let worker = spawn_child(&supervisor, child_name(&system, &path), ModelWorker, seat).await?;
                bell.publish(worker.clone());
                Ok(worker.get_cell())
            }
        })
    }
}

fn worker_id(model: &CanonicalName, index: usize) -> String {
    format!("{model}/worker-{index}")
}

/// How long a start waits for the first catalogue before it goes on without.
pub(super) const FIRST_REFRESH_LIMIT: Duration = Duration::from_secs(6);
