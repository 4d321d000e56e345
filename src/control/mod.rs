//! What operators change while the service runs: its settings, read again, and for a while its log.
//!
//! ```text
//! SIGHUP, POST /v1/admin/reload ─▶ sources ─▶ judged as a whole ─▶ prepared ─▶ rooms, front end, log
//!                                     ╰── invalid: nothing changes, all problems are told ──╯
//! POST /v1/admin/log-filter ─▶ log, and back by itself
//! ```
//!
//! # When it breaks
//!
//! Everything that can fail comes before the first change. Reloads run one at a time; one whose caller left runs to its end,
//! and says so in the log. Files are read on the blocking pool: one that hangs keeps a thread there and has all other reloads
//! refused, but holds up nothing else, and a service that stops leaves it behind. While the store is away a reload works, and
//! its entry in the audit trail is lost. Its line in the log is written if the filter lets it through that is in force by then:
//! `RUST_LOG=off` does not.

mod log_level;
mod metrics;
mod reload;

use std::{sync::Arc, time::Duration};

use actors::{auth::Administrator, system::System, trace::Carrier};
use domain::audit::AuditEvent;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::reload::{Refusal, Told};
use self::{log_level::LogLevel, metrics::ReloadMetrics};
use crate::{
    config::{Config, Problems, Reload, Settings, Sources, is_log_filter},
    http::Front,
    telemetry::log::LogFilter,
};

/// The longest filter of the log, in bytes.
pub(crate) const FILTER_BYTES_MAX: usize = 1_024;

/// How long a filter of the log may hold that falls back by itself, and how long it does if nobody says.
pub(crate) const FILTER_SECS_MAX: u64 = 3_600;
pub(crate) const FILTER_SECS: u64 = 600;

/// Where a service's settings came from, for it to read them again.
#[derive(Debug)]
pub struct Setup {
    pub sources: Sources,
    /// What was found there for [`Config`], which the service was started with.
    pub settings: Settings,
    /// `None` where the log is somebody else's.
    pub log: Option<LogFilter>,
}

/// Changes a running service; clones change the same. The default one belongs to a service that was not started from
/// sources, and changes nothing.
#[derive(Clone, Default)]
pub struct Control(Option<Arc<Inner>>);

struct Inner {
    sources: Sources,
    /// The settings in force.
    running: Mutex<Settings>,
    /// Held by the one reload under way.
    only_one: Arc<Semaphore>,
    front: Arc<Front>,
    log: Arc<LogLevel>,
    metrics: ReloadMetrics,
    closing: CancellationToken,
    tasks: TaskTracker,
}

/// Why the log's filter was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadFilter {
    Malformed,
    TooLong,
    OutOfBounds,
    NotOurs,
}

impl Control {
    /// Of the service behind `front`, which was started with `config`.
    pub(crate) fn new(setup: Setup, config: &Config, front: Arc<Front>, system: &System) -> Self {
        let Setup { sources, settings, log } = setup;
        let metrics = ReloadMetrics::register(&mut system.registry.lock());
        metrics.started(system.clock().now());
        let tasks = TaskTracker::new();
        Self(Some(Arc::new(Inner {
            sources,
            running: Mutex::new(settings),
            only_one: Arc::new(Semaphore::new(1)),
            front,
            log: LogLevel::new(log, config.log.filter.clone(), tasks.clone()),
            metrics,
            closing: CancellationToken::new(),
            tasks,
        })))
    }

    /// Reads all sources again and puts in force what can change, all of it or nothing. `is_dry` only tells what would.
    pub(crate) async fn reload(
        &self,
        system: &Arc<System>,
        by: Administrator,
        is_dry: bool,
    ) -> Result<Told, Refusal> {
        let Some(inner) = self.0.clone() else { return Err(Refusal::NothingToRead) };
        self.reload_from(system, by, is_dry, move |running| Config::reload(&inner.sources, running)).await
    }

    /// The same, by what `read` finds for the settings in force.
    pub(crate) async fn reload_from(
        &self,
        system: &Arc<System>,
        by: Administrator,
        is_dry: bool,
        read: impl FnOnce(&Settings) -> Result<Reload, Problems> + Send + 'static,
    ) -> Result<Told, Refusal> {
        let Some(inner) = &self.0 else { return Err(Refusal::NothingToRead) };
        let work = Arc::clone(inner).reload(Arc::clone(system), by, is_dry, read);
        let work = inner.tasks.spawn(Carrier::here().around(work));
        work.await.unwrap_or_else(|error| Err(Refusal::Internal(error.to_string())))
    }

    /// Has the log filtered by `filter` for a while, in place of whatever filters it now.
    pub(crate) fn filter_log(
        &self,
        system: &System,
        by: &Administrator,
        filter: &str,
        seconds: u64,
    ) -> Result<(), BadFilter> {
        let Some(inner) = &self.0 else { return Err(BadFilter::NotOurs) };
        if filter.len() > FILTER_BYTES_MAX {
            return Err(BadFilter::TooLong);
        }
        if !is_log_filter(filter) {
            return Err(BadFilter::Malformed);
        }
        if !(1..=FILTER_SECS_MAX).contains(&seconds) {
            return Err(BadFilter::OutOfBounds);
        }
        // Said by the filter that held until now: the next one may be to hide it.
        tracing::warn!(
            event = AuditEvent::SysLogFilterChanged.as_str(),
            filter,
            seconds,
            "the log is filtered otherwise for a while"
        );
        inner.log.filter_for(filter, Duration::from_secs(seconds)).map_err(|_| BadFilter::Malformed)?;
        let detail = format!("{filter} for {seconds} s");
        system.auth.record_operation(by, AuditEvent::SysLogFilterChanged, detail);
        Ok(())
    }

    /// What filters the log when no other filter holds for a while.
    pub(crate) fn usual_filter(&self) -> String {
        self.0.as_ref().map(|inner| inner.log.usual()).unwrap_or_default()
    }

    /// Resolves when nothing is under way that changes anything, and nothing more will be. Waits for nobody who reads.
    pub(crate) async fn close(&self) {
        if let Some(inner) = &self.0 {
            inner.closing.cancel();
            inner.log.close();
            inner.tasks.close();
            inner.tasks.wait().await;
        }
    }
}
