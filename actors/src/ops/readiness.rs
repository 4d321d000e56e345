//! The checks, and what follows from them.

use std::{collections::BTreeSet, sync::Arc};

use serde::Serialize;

use crate::{
    model::{self, Model, ModelState},
    tree::{Node, Status},
};

/// One dependency's state, for `/readyz` and `/health`; says nothing that a stranger may not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub ok: bool,
    pub detail: String,
}

/// Whether requests should come here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    pub ready: bool,
    pub checks: Vec<Check>,
}

/// How many models the catalogue knows, and how many of them can be used now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ModelCount {
    pub known: usize,
    pub available: usize,
}

impl ModelCount {
    pub(super) fn of(models: &[Model]) -> Self {
        let is_available =
            |model: &&Model| matches!(model.state, ModelState::Available | ModelState::Loading);
        Self { known: models.len(), available: models.iter().filter(is_available).count() }
    }
}

/// Reads the catalogue's snapshot; must not wait.
pub(super) type CountModels = Arc<dyn Fn() -> ModelCount + Send + Sync>;

/// The check that is there to be read only; see the room's header.
pub(super) const MODELS: &str = "models";

impl Readiness {
    pub(super) fn of(checks: Vec<Check>) -> Self {
        let ready = checks.iter().all(|check| check.ok || check.name == MODELS);
        Self { ready, checks }
    }
}

pub(super) fn models(count: ModelCount) -> Check {
    let ModelCount { known, available } = count;
    let detail = match known {
        0 => "no model is known".to_owned(),
        _ => format!("{available} of {known} available"),
    };
    Check { name: MODELS, ok: available > 0, detail }
}

/// Names degraded rooms. One model's workers do not count: that is its callers' affair
/// ([`crate::model::ModelState::Degraded`]), not the instance's.
pub(super) fn actors(nodes: &[Node]) -> Check {
    let rooms: BTreeSet<&str> = nodes
        .iter()
        .filter(|node| node.status == Status::Degraded && !model::is_one_models(&node.path))
        .filter_map(|node| node.path.split('/').next())
        .collect();
    let detail = match rooms.len() {
        0 => "all rooms work".to_owned(),
        _ => format!("degraded: {}", rooms.iter().copied().collect::<Vec<_>>().join(", ")),
    };
    Check { name: "actors", ok: rooms.is_empty(), detail }
}

pub(super) fn shutdown(is_closing: bool) -> Check {
    let detail = if is_closing { "shutting down" } else { "serving" };
    Check { name: "shutdown", ok: !is_closing, detail: detail.to_owned() }
}
