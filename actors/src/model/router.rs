//! The ModelRouterActor: keeps the catalogue fresh, sees to it that every model has its workers, publishes the routes.
//!
//! ```text
//! tick ─▶ list every upstream ─▶ merge ─▶ ensure workers under models_sup ─▶ publish the RouteTable
//! settings changed ─▶ merge what is known ─────╯
//! ```
//!
//! It owns no worker and awaits nothing in `handle`: the work is a task, one at a time.
//!
//! # When it breaks
//!
//! Catalogue, routes and queues live outside it, so streams and callers never notice its death; the catalogue ages by one
//! backoff. A model server that does not answer keeps its models in the table, marked unreachable.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use domain::{model_name::CanonicalName, reply::FailureCode};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    UpstreamKind,
    catalogue::Catalogue,
    live::{Known, Live},
    metrics::ModelMetrics,
    route::{Route, RouteTable},
    streams::Streams,
    upstream::Upstream,
    waiting_list::WaitingList,
    worker::{ModelWorker, Seat},
};
use crate::{
    db::DbHandle,
    supervisor::{ChildSpec, SupervisorHandle, child_name, child_path, spawn_child},
};

pub(super) enum RouterMessage {
    Refresh,
}

/// What outlives the router.
pub(super) struct Routing {
    /// The settings in force, and the servers they name.
    pub live: ArcSwap<Live>,
    pub table: ArcSwap<RouteTable>,
    pub known: ArcSwap<Known>,
    pub supervisor: SupervisorHandle,
    pub system: Arc<str>,
    pub room: &'static str,
    pub tracker: TaskTracker,
    pub streams: Arc<Streams>,
    pub db: DbHandle,
    pub halt: CancellationToken,
    /// Models whose old workers have not all stopped yet; they come back only after that.
    pub retiring: parking_lot::Mutex<HashMap<CanonicalName, Arc<WaitingList>>>,
    /// Servers that were taken out of the configuration and may still have turns: one that comes back is the same.
    pub former: parking_lot::Mutex<Vec<(UpstreamKind, Weak<Upstream>)>>,
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
        me.send_interval(routing.live.load().config.catalogue_refresh, || RouterMessage::Refresh);
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
        let live = self.live.load_full();
        let known = self.known.load().on(&live);
        let catalogue = known.refresh(&live.upstreams, live.rules()).await;
        self.tell_changes(&live, &known, &catalogue);
        self.publish(&live, catalogue).await;
    }

    /// Publishes the routes that follow from what is known already under the settings in force. Call it under `refreshing`.
    pub async fn settle(self: &Arc<Self>) {
        let live = self.live.load_full();
        let known = self.known.load().on(&live);
        self.publish(&live, known).await;
    }

    async fn publish(self: &Arc<Self>, live: &Arc<Live>, catalogue: Catalogue) {
        let old = self.table.load_full();
        let mut table = RouteTable::default();
        for model in catalogue.models() {
            let route = match old.0.get(&model.name) {
                Some(known) => self.seat(live, model, known.list.clone(), &known.seats),
                None if self.retiring.lock().contains_key(&model.name) => continue,
                None => {
                    let metrics = Arc::<ModelMetrics>::default();
                    let list = WaitingList::new(live.limits(&model.name), Vec::new(), metrics);
                    self.seat(live, model, list, &[])
                }
            };
            self.staff(&route).await;
            table.0.insert(model.name.clone(), route);
        }
        for (name, gone) in &old.0 {
            if !table.0.contains_key(name) {
                self.retire(gone.clone());
            }
        }
        self.known.store(Arc::new(Known { catalogue, upstreams: live.upstreams.clone() }));
        self.table.store(Arc::new(table));
    }

    /// The queues of all models, those that are just being retired included.
    pub fn lists(&self) -> Vec<Arc<WaitingList>> {
        let table = self.table.load();
        let offered = table.0.values().map(|route| route.list.clone());
        offered.chain(self.retiring.lock().values().cloned()).collect()
    }

    /// One line when a model server goes away, one when it is back.
    fn tell_changes(&self, live: &Live, before: &Catalogue, catalogue: &Catalogue) {
        for (upstream, (config, shelf)) in live.config.upstreams.iter().zip(catalogue.shelves()).enumerate() {
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
        self.retiring.lock().insert(route.model.name.clone(), route.list.clone());
        route.list.close(FailureCode::ModelNotFound);
        let routing = self.clone();
        self.tracker.spawn(async move {
            route.list.all_slots_free().await;
            for seat in &*route.seats {
                routing.dismiss(&route.model.name, seat.index).await;
            }
            // Those that were given up before have names of the same kind.
            route.list.all_left().await;
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

impl Routing {
    /// Stops a worker whose slot has no turn, and has it forgotten.
    pub(super) async fn dismiss(&self, model: &CanonicalName, index: usize) {
        let id = worker_id(model, index);
        // A supervisor that is just being restarted cannot be asked, and would bring the worker back.
        while self.supervisor.remove(&id).await.is_err() {
            tokio::select! {
                () = self.halt.cancelled() => return,
                () = tokio::time::sleep(ASK_AGAIN) => {}
            }
        }
    }
}

fn worker_id(model: &CanonicalName, index: usize) -> String {
    format!("{model}/worker-{index}")
}

/// Between two requests to a supervisor that could not be asked.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How long a start waits for the first catalogue before it goes on without.
pub(super) const FIRST_REFRESH_LIMIT: Duration = Duration::from_secs(6);
