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
//! Everything that can fail comes before the first change. Reloads run one at a time, on the blocking pool, since they read
//! files; one whose caller left runs to its end, and says so in the log. While the store is away a reload works, and its entry
//! in the audit trail is lost, but its line in the log is not.

mod log_level;
mod metrics;
mod reload;

use std::{sync::Arc, time::Duration};

use actors::{auth::Administrator, system::System};
use domain::audit::AuditEvent;
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

pub(crate) use self::reload::{Refusal, Told};
use self::{log_level::LogLevel, metrics::ReloadMetrics};
use crate::{
    config::{Config, Settings, Sources, is_log_filter},
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
    /// The settings in force; held by the one reload under way.
    running: Mutex<Settings>,
    front: Arc<Front>,
    log: Arc<LogLevel>,
    metrics: ReloadMetrics,
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
            front,
            log: LogLevel::new(log, config.log.filter.clone(), tasks.clone()),
            metrics,
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
        let Some(inner) = &self.0 else { return Err(Refusal::NothingToRead) };
        let (inner, system) = (Arc::clone(inner), Arc::clone(system));
        let work = inner.tasks.clone().spawn_blocking(move || inner.reload(&system, &by, is_dry));
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
        inner.log.filter_for(filter, Duration::from_secs(seconds)).map_err(|_| BadFilter::Malformed)?;
        tracing::warn!(
            event = AuditEvent::SysLogFilterChanged.as_str(),
            user_id = by.user.map(tracing::field::display),
            ip = by.origin.address.map(tracing::field::display),
            request_id = by.origin.request_id,
            filter,
            seconds,
            "the log is filtered otherwise for a while"
        );
        let detail = format!("{filter} for {seconds} s");
        system.auth.record_operation(by, AuditEvent::SysLogFilterChanged, detail);
        Ok(())
    }

    /// What filters the log when no other filter holds for a while.
    pub(crate) fn usual_filter(&self) -> String {
        self.0.as_ref().map(|inner| inner.log.usual()).unwrap_or_default()
    }

    /// Resolves when nothing is under way, and nothing more will be.
    pub(crate) async fn close(&self) {
        if let Some(inner) = &self.0 {
            inner.log.close();
            inner.tasks.close();
            inner.tasks.wait().await;
        }
    }
}
