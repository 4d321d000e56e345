//! The route table: which models there are, and for each its queue and its slots. Read without a message or a lock.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use domain::model_name::CanonicalName;

use super::{
    Model, ModelError, ModelState, catalogue::CatalogueModel, waiting_list::WaitingList, worker::Seat,
};

/// How long callers of a model are told to stay away whose servers are all drained: how long that is only the operator knows.
const DRAINED_FOR: Duration = Duration::from_secs(30);

/// An immutable snapshot; the router publishes a new one when the catalogue changed.
#[derive(Default)]
pub(super) struct RouteTable(pub BTreeMap<CanonicalName, Arc<Route>>);

/// One logical model.
pub(super) struct Route {
    pub model: CatalogueModel,
    pub list: Arc<WaitingList>,
    pub seats: Arc<[Arc<Seat>]>,
    /// Where its workers are found in the tree.
    pub tree_path: Arc<str>,
}

impl Route {
    /// Why turns may not wait for it now: none of its servers takes any, and it is not known yet that one will.
    pub fn refusal(&self) -> Option<ModelError> {
        let mut refusal = None;
        for server in self.seats.iter().map(|seat| &seat.server) {
            refusal = match (server.is_draining(), server.refuses_for(), refusal) {
                (false, None, _) => return None,
                (false, Some(one), Some(ModelError::ServerAway { retry_after })) => {
                    Some(ModelError::ServerAway { retry_after: one.min(retry_after) })
                }
                (false, Some(retry_after), _) => Some(ModelError::ServerAway { retry_after }),
                (true, _, None) => Some(ModelError::Draining { retry_after: DRAINED_FOR }),
                (true, _, known) => known,
            };
        }
        refusal
    }

    /// Whether one of its servers answers and takes turns, as far as we know.
    pub fn is_up(&self) -> bool {
        self.seats.iter().any(|seat| seat.server.is_up() && !seat.server.is_draining())
    }

    pub fn describe(&self, degraded: bool) -> Model {
        let card = &self.model.card;
        let standings = || self.seats.iter().map(|seat| seat.server.standing());
        Model {
            name: self.model.name.clone(),
            display_name: card.name.clone(),
            alias_of: None,
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
                () if !self.is_up() => ModelState::Unreachable,
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
