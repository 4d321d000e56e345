//! Which slots a model has: as many as the settings say, on the servers that have it now.
//!
//! A queue outlives its slots. When a model's servers or its number of slots change, slots are added beside those that stay,
//! and those too many take no further turn: an idle one goes at once, a busy one when its turn has ended.

use std::sync::Arc;

use domain::model_name::CanonicalName;

use super::{
    catalogue::CatalogueModel,
    live::Live,
    route::Route,
    router::Routing,
    server::ModelServer,
    waiting_list::{Leaving, Station, WaitingList},
    worker::{Seat, WorkerMessage},
};
use crate::{bell::Bell, handle::Slot, supervisor::child_path};

/// A model on one server: the slots it keeps there, and how many it lacks.
struct Bench {
    server: Arc<ModelServer>,
    kept: Vec<Arc<Seat>>,
    lacking: usize,
}

impl Routing {
    /// The route of `model`, whose turns wait in `list` and had these seats.
    pub(super) fn seat(
        self: &Arc<Self>,
        live: &Live,
        model: &CatalogueModel,
        list: Arc<WaitingList>,
        seats: &[Arc<Seat>],
    ) -> Arc<Route> {
        let limits = live.limits(&model.name);
        let (benches, leaving) = plan(live, model, &list, seats);
        let lacking: usize = benches.iter().map(|bench| bench.lacking).sum();
        let mut indices = list.free_indices(lacking).into_iter();
        let (mut seated, mut new) = (Vec::new(), Vec::new());
        for bench in benches {
            seated.extend(bench.kept);
            for index in indices.by_ref().take(bench.lacking) {
                let seat = self.new_seat(live, index, &model.name, &list, bench.server.clone());
                new.push((index, Station { bell: seat.bell.clone(), server: seat.server.clone() }));
                seated.push(seat);
            }
        }
        if !new.is_empty() || !leaving.is_empty() || list.limits() != limits {
            list.reseat(limits, new, &leaving);
            self.see_off(model.name.clone(), list.clone(), leaving);
        }
        let tree_path = child_path(self.room, model.name.as_str()).into();
        Arc::new(Route { model: model.clone(), list, seats: seated.into(), tree_path })
    }

    fn new_seat(
        &self,
        live: &Live,
        index: usize,
        model: &CanonicalName,
        list: &Arc<WaitingList>,
        server: Arc<ModelServer>,
    ) -> Arc<Seat> {
        Arc::new(Seat {
            index,
            model: model.as_str().into(),
            list: list.clone(),
            bell: Bell::new(Slot::new(), || WorkerMessage::Wake),
            server,
            streams: self.streams.clone(),
            db: self.db.clone(),
            checkpoint_every: live.config.checkpoint_every,
            checkpoint_bytes: live.config.checkpoint_bytes,
            metrics: list.metrics().clone(),
            halt: self.halt.clone(),
        })
    }

    /// Has the workers of slots that were given up stopped, each when it has no turn.
    fn see_off(self: &Arc<Self>, model: CanonicalName, list: Arc<WaitingList>, leaving: Vec<Leaving>) {
        for Leaving { index, .. } in leaving {
            let (routing, model, list) = (self.clone(), model.clone(), list.clone());
            self.tracker.spawn(async move {
                list.slot_free(index).await;
                routing.dismiss(&model, index).await;
                list.forget_slot(index);
            });
        }
    }
}

/// Which of these seats stay where, and which go: those that no server needs, idle ones first.
fn plan(
    live: &Live,
    model: &CatalogueModel,
    list: &WaitingList,
    seats: &[Arc<Seat>],
) -> (Vec<Bench>, Vec<Leaving>) {
    let slots = live.config.slots(&model.name);
    let busy = list.busy();
    let mut leaving = Vec::new();
    let mut rest: Vec<_> = seats.to_vec();
    // Stable, so those of a kind keep their order.
    rest.sort_by_key(|seat| !busy.contains(&seat.index));
    let benches = model
        .places
        .iter()
        .map(|place| {
            let upstream = &live.upstreams[place.upstream];
            let is_here = |seat: &mut Arc<Seat>| seat.server.is(upstream, &place.server_name);
            let mut here: Vec<_> = rest.extract_if(.., is_here).collect();
            let too_many = here.split_off(here.len().min(slots));
            leaving.extend(too_many.iter().map(|seat| Leaving { index: seat.index, counts: true }));
            here.sort_by_key(|seat| seat.index);
            let server = here.first().map_or_else(
                || ModelServer::new(upstream.clone(), place.server_name.clone()),
                |seat| seat.server.clone(),
            );
            Bench { server, lacking: slots - here.len(), kept: here }
        })
        .collect();
    leaving.extend(rest.iter().map(|seat| Leaving { index: seat.index, counts: false }));
    (benches, leaving)
}
