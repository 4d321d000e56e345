//! A scripted Ollama, faithful in what it says and unfaithful on demand.
//!
//! ```text
//! connection ── routes ──▶ catalogue | embed | answer ── scheduler: load, slot ──▶ normal stream
//!                                                   └── scenario ──▶ script ────▶ odd bytes
//! ```
//!
//! It keeps Ollama's wire facts (framing, escapes, error texts, model names, load and slot rules) and writes HTTP
//! itself, because a scenario must be able to write it wrongly. Answers are deterministic ([`Tokens`]), everything is
//! counted ([`Counters`]), and a test waits for counts, not for time ([`Control::wait_until`]).
//!
//! # Scenarios
//!
//! A model's [`Scenario`] is set in its [`Model`] and changed by [`Control::set_scenario`]. A request for
//! `fake-<name>:latest`, or with the header `x-fake: <name>`, chooses by name: `normal`, `slow-headers`,
//! `error-400`, `error-500`, `error-503`, `canceled`, `nested-error`, `sign-in`, `out-of-memory`, `busy-then-ok`,
//! `error-line`, `no-done`, `fin`, `fin-half`, `reset`, `reset-half`, `stall`, `stall-headers`, `half-lines`,
//! `lines-per-chunk`, `byte-chunks`, `utf8-split`, `escape-split`, `context-2m`, `line-9m`, `endless-line`,
//! `last-content`, `no-metrics`, `odd-reason`, `no-reason`, `thinking`, `tools-last`, `tools-mid`, `tools-two`,
//! `tools-silence`, `logprobs`, `html-502`, `html-200`, `bad-json`, `crlf`, `blank-line`, `bom`, `double-done`,
//! `after-done`, `content-length`, `http10`, `chunk-extensions`, `lower-case`, `informational`.
//!
//! # When it breaks
//!
//! It lives in the test's runtime and ends with its [`FakeOllama`]. A wait that is not met fails with all counters.

pub(crate) mod answer;
pub(crate) mod ask;
pub(crate) mod catalogue;
mod control;
mod counters;
pub(crate) mod embed;
pub(crate) mod http;
pub(crate) mod json;
mod lines;
mod model;
mod routes;
mod scenario;
mod scheduler;
mod script;
#[cfg(test)]
mod tests;
mod tokens;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use tokio::sync::watch;

pub use self::catalogue::Listing;
pub use self::control::Control;
pub use self::counters::{Cancelled, Counters, ModelCounters};
pub use self::http::request::Request;
pub use self::model::{Details, Model};
pub use self::scenario::{Framing, Garbage, LastLine, Scenario, ToolCalls};
pub use self::tokens::Tokens;

use self::counters::{RequestLog, Stats};
use self::scheduler::Scheduler;
use crate::door::Door;

/// What a fake server has and how it is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// 0 takes a free one.
    pub port: u16,
    pub models: Vec<Model>,
    pub version: String,
    /// Requests that may wait for a load; more get 503.
    pub max_queue: usize,
    /// Models loaded at once.
    pub max_loaded: usize,
    /// How long an idle model stays loaded; `None` is for ever.
    pub keep_alive: Option<Duration>,
    /// Requests kept for [`Control::requests`]; the oldest go first.
    pub logged_requests: usize,
}

impl Default for Config {
    /// One chat model, `qwen3:8b`, and Ollama's own defaults.
    fn default() -> Self {
        Self {
            port: 0,
            models: vec![Model::new("qwen3:8b")],
            version: "0.32.15".to_owned(),
            max_queue: 512,
            max_loaded: 3,
            keep_alive: Some(Duration::from_secs(300)),
            logged_requests: 4_096,
        }
    }
}

impl Config {
    /// The defaults with these models.
    #[must_use]
    pub fn with(models: impl IntoIterator<Item = Model>) -> Self {
        Self { models: models.into_iter().collect(), ..Self::default() }
    }
}

/// A running fake server. Dropping it closes its port and connections.
pub struct FakeOllama {
    control: Control,
}

impl FakeOllama {
    /// Listens on loopback and serves.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub async fn start(config: Config) -> Result<Self> {
        Ok(Self { control: start(config, Dialect::Ollama).await? })
    }

    /// `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.control.addr()
    }

    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }
}

impl Drop for FakeOllama {
    fn drop(&mut self) {
        self.control.abandon();
    }
}

/// In whose words the engine is asked and answers.
#[derive(Debug, Clone)]
pub(crate) enum Dialect {
    Ollama,
    OpenAi {
        /// What a request must have as its bearer.
        key: Option<String>,
    },
}

pub(crate) async fn start(config: Config, dialect: Dialect) -> Result<Control> {
    let port = config.port;
    let server = Arc::new(Server::new(config, dialect));
    let served = server.clone();
    let door = Door::open(port, move |stream, cut| routes::serve(served.clone(), stream, cut))
        .await
        .with_context(|| format!("the fake model server cannot listen on port {port}"))?;
    Ok(Control { server, door: Arc::new(door) })
}

/// What all connections share.
pub(crate) struct Server {
    dialect: Dialect,
    version: String,
    models: Mutex<Vec<Model>>,
    scheduler: Arc<Scheduler>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) log: RequestLog,
    faults: Mutex<Faults>,
    frozen: watch::Sender<bool>,
    hang_up: watch::Sender<bool>,
    idle_cut: watch::Sender<u64>,
}

#[derive(Default)]
struct Faults {
    tags: Listing,
    ps: Listing,
    /// Refusals so far of each model that is busy for a while.
    refusals: BTreeMap<String, u32>,
}

impl Server {
    fn new(config: Config, dialect: Dialect) -> Self {
        let stats = Arc::new(Stats::default());
        let Config { models, version, max_queue, max_loaded, keep_alive, logged_requests, .. } = config;
        Self {
            dialect,
            version,
            models: Mutex::new(models),
            scheduler: Arc::new(Scheduler::new(stats.clone(), max_queue, max_loaded, keep_alive)),
            stats,
            log: RequestLog::new(logged_requests),
            faults: Mutex::default(),
            frozen: watch::Sender::new(false),
            hang_up: watch::Sender::new(false),
            idle_cut: watch::Sender::new(0),
        }
    }

    /// The model of that name in any spelling, or the one its scenario's name stands for.
    fn find(&self, name: &str) -> Option<Model> {
        let name = model::canonical(name);
        let known = self.models.lock().iter().find(|known| model::canonical(&known.name) == name).cloned();
        known.or_else(|| {
            let scenario = name.strip_prefix("fake-")?.strip_suffix(":latest")?;
            Scenario::named(scenario).map(|_| Model::new(&name).by_name())
        })
    }

    pub(crate) fn all_models(&self) -> Vec<Model> {
        self.models.lock().clone()
    }

    pub(crate) fn listing(&self) -> Listing {
        self.faults.lock().tags
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Model)) -> bool {
        let name = model::canonical(name);
        let mut models = self.models.lock();
        let found = models.iter_mut().find(|known| model::canonical(&known.name) == name);
        let changed = found.map(|model| {
            change(model);
            self.faults.lock().refusals.remove(&model.name);
        });
        changed.is_some()
    }

    /// Counts a refusal of a model that is busy `times` times; `false` once it has been.
    fn refuses_again(&self, model: &str, times: u32) -> bool {
        let mut faults = self.faults.lock();
        let refusals = faults.refusals.entry(model.to_owned()).or_default();
        *refusals += 1;
        *refusals <= times
    }
}
