//! The route table: which models there are, and for each its queue and its slots. Read without a message or a lock.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use domain::model_name::CanonicalName;

use super::{Model, ModelState, catalogue::CatalogueModel, waiting_list::WaitingList, worker::Seat};

/// An immutable snapshot; the router publishes a new one when the catalogue changed.
#[derive(Default)]
pub(super) struct RouteTable(pub BTreeMap<CanonicalName, Arc<Route>>);

/// One logical model.
pub(super) struct Route {
    pub model: CatalogueModel,
    pub list: Arc<WaitingList>,
    pub seats: Arc<[Arc<Seat>]>,
    /// What was counted of it.
    /// Where its workers are found in the tree.
    pub tree_path: Arc<str>,
}

impl Route {
    /// How long until it is known whether one of its servers is back; `None` while one is worth asking.
    pub fn refuses_for(&self) -> Option<Duration> {
        let refusals = self.seats.iter().map(|seat| seat.server.refuses_for());
        refusals.reduce(|soonest, other| Some(soonest?.min(other?))).flatten()
    }

    pub fn describe(&self, degraded: bool) -> Model {
        let card = &self.model.card;
        let standings = || self.seats.iter().map(|seat| seat.server.standing());
        Model {
            name: self.model.name.clone(),
            display_name: card.name.clone(),
            modified_at: card.modified_at,
            size_bytes: card.size_bytes,
            digest: card.digest.clone(),
            format: card.format.clone(),
            family: card.family.clone(),
            families: card.families.clone(),
            parameter_size: card.parameter_size.clone(),
            quantization: card.quantization.clone(),
            capabilities: card.capabilities.clone(),
            context_length: card.context_length,
            embedding_length: card.embedding_length,
            state: match () {
                () if degraded => ModelState::Degraded,
                () if !self.seats.iter().any(|seat| seat.server.is_up()) => ModelState::Unreachable,
                () if standings().any(|standing| standing.is_awaited) => ModelState::Loading,
                () => ModelState::Available,
            },
            is_loaded: standings().any(|standing| standing.is_loaded),
            slots: self.seats.len(),
            running: self.list.running(),
            waiting: self.list.waiting(),
            wait: self.list.wait(),
        }
    }
}
