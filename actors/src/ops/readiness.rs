//! The checks, and what follows from them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde::Serialize;

use crate::{
    model::{self, Model, ModelState},
    rate_limit::Counting,
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

/// A model server, by its configured name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub name: String,
    pub is_up: bool,
    /// An operator lets no turn begin there.
    pub is_draining: bool,
}

/// What other rooms say of what they depend on.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    pub models: ModelCount,
    pub servers: Vec<Server>,
    pub counting: Counting,
    pub spill: Spill,
}

/// Whether ends of turns find room on the disk while the database is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spill {
    /// This process keeps none there.
    Off,
    Works,
    Fails,
}

/// Reads what other rooms publish; must not wait.
pub(super) type LookAround = Arc<dyn Fn() -> Surroundings + Send + Sync>;

const MODELS: &str = "models";
const MODEL_SERVERS: &str = "model_servers";
const REDIS: &str = "redis";
const SPILL: &str = "spill";
/// The checks that are there to be read only; see the room's header.
const TO_BE_READ: [&str; 4] = [MODELS, MODEL_SERVERS, REDIS, SPILL];

impl Readiness {
    pub(super) fn of(checks: Vec<Check>) -> Self {
        let ready = checks.iter().all(|check| check.ok || TO_BE_READ.contains(&check.name));
        Self { ready, checks }
    }
}

impl Surroundings {
    pub(super) fn checks(&self) -> [Check; 4] {
        [models(self.models), model_servers(&self.servers), redis(self.counting), spill(self.spill)]
    }
}

fn model_servers(servers: &[Server]) -> Check {
    let words = servers.iter().map(|server| {
        let does = match (server.is_up, server.is_draining) {
            (true, false) => "answers",
            (true, true) => "answers, draining",
            (false, false) => "does not answer",
            (false, true) => "does not answer, draining",
        };
        format!("{} {does}", server.name)
    });
    let detail = words.collect::<Vec<_>>().join(", ");
    Check { name: MODEL_SERVERS, ok: servers.iter().all(|server| server.is_up), detail }
}

fn redis(counting: Counting) -> Check {
    let detail = match counting {
        Counting::Off => "limits are off",
        Counting::Alone => "not configured: limits are counted by this instance alone",
        Counting::AloneForNow => "does not answer: limits are counted by this instance alone",
        Counting::Together => "answers: limits are counted with all instances",
    };
    Check { name: REDIS, ok: counting != Counting::AloneForNow, detail: detail.to_owned() }
}

fn spill(spill: Spill) -> Check {
    let detail = match spill {
        Spill::Off => "no ends of turns are kept on the disk",
        Spill::Works => "ends of turns can be kept on the disk while the database is away",
        Spill::Fails => {
            "the disk takes no ends of turns: while the database is away they are in memory alone"
        }
    };
    Check { name: SPILL, ok: spill != Spill::Fails, detail: detail.to_owned() }
}

/// Whether the OpsActor still looks around; `age` is that of its last look.
pub(super) fn looked(age: Option<Duration>, stale_after: Duration) -> Check {
    let (ok, detail) = match age {
        None => (false, "has not looked around yet".to_owned()),
        Some(age) if age > stale_after => (false, format!("has not looked around for {} s", age.as_secs())),
        Some(_) => (true, "looks around".to_owned()),
    };
    Check { name: "ops", ok, detail }
}

fn models(count: ModelCount) -> Check {
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
