//! One reload: read, judge, prepare, and only then change; told once, in the log and to the audit trail.

use std::{fmt, sync::Arc};

use actors::{auth::Administrator, system::System};
use domain::audit::AuditEvent;
use tokio::task::spawn_blocking;

use super::Inner;
use crate::config::{Change, Problem, Problems, Reload, Settings, keys};

/// Characters of the names of settings in an entry of the audit trail.
const DETAIL_CHARS_MAX: usize = 1_000;

/// What came of a reload.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) outcome: Outcome,
    pub(crate) changed: Vec<Change>,
    pub(crate) needs_restart: Vec<Change>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Applied,
    /// Nothing that a reload changes has changed.
    Unchanged,
    /// It was only asked what would change.
    Dry,
}

impl Outcome {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Dry => "dry_run",
        }
    }
}

/// Why nothing has changed.
#[derive(Debug)]
pub(crate) enum Refusal {
    Invalid(Problems),
    UnderWay,
    /// The service stopped before everything was read.
    Stopping,
    /// The service was not started from sources.
    NothingToRead,
    Internal(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(problems) => problems.fmt(f),
            Self::UnderWay => f.write_str("another reload is under way"),
            Self::Stopping => f.write_str("the service is shutting down"),
            Self::NothingToRead => f.write_str("this service was not started from sources"),
            Self::Internal(text) => f.write_str(text),
        }
    }
}

impl Inner {
    /// Reads and judges on the blocking pool, without the rooms; all that follows waits for nothing.
    pub(super) async fn reload(
        self: Arc<Self>,
        system: Arc<System>,
        by: Administrator,
        is_dry: bool,
        read: impl FnOnce(&Settings) -> Result<Reload, Problems> + Send + 'static,
    ) -> Result<Told, Refusal> {
        let Ok(only_one) = Arc::clone(&self.only_one).try_acquire_owned() else {
            return Err(Refusal::UnderWay);
        };
        let running = self.running.lock().clone();
        // Whoever hangs there stays the only one, also when nobody waits for it any more.
        let reading = spawn_blocking(move || (read(&running), only_one));
        let (read, _only_one) = tokio::select! {
            biased;
            () = self.closing.cancelled() => return Err(Refusal::Stopping),
            read = reading => read.map_err(|error| Refusal::Internal(error.to_string()))?,
        };
        match read {
            Ok(Reload { changed, needs_restart, .. }) if is_dry => {
                Ok(Told { outcome: Outcome::Dry, changed, needs_restart })
            }
            Ok(reload) => self.put_in_force(&system, &by, reload),
            Err(problems) if is_dry => Err(Refusal::Invalid(problems)),
            Err(problems) => Err(self.refused(&system, &by, problems)),
        }
    }

    fn put_in_force(&self, system: &System, by: &Administrator, reload: Reload) -> Result<Told, Refusal> {
        let Reload { settings, config, changed, needs_restart } = reload;
        let outcome = if changed.is_empty() { Outcome::Unchanged } else { Outcome::Applied };
        if outcome == Outcome::Applied {
            let unfit = |key: &keys::Key, error: String| {
                Problems(vec![Problem::new(key.name, error, "look at the setting, and reload again")])
            };
            let prepared = match system.prepare(config.system) {
                Ok(prepared) => prepared,
                Err(error) => {
                    let problems = unfit(&keys::OLLAMA_BASE_URL, error.to_string());
                    return Err(self.refused(system, by, problems));
                }
            };
            if let Err(error) = self.log.set_usual(config.log.filter) {
                let problems = unfit(&keys::RUST_LOG, error.to_string());
                return Err(self.refused(system, by, problems));
            }
            // Nothing fails from here on.
            system.reconfigure(prepared);
            self.front.reconfigure(&config.http);
        }
        *self.running.lock() = settings;
        self.metrics.reloaded(outcome.as_str(), system.clock().now());
        let told = Told { outcome, changed, needs_restart };
        tell(system, by, &told);
        Ok(told)
    }

    fn refused(&self, system: &System, by: &Administrator, problems: Problems) -> Refusal {
        self.metrics.refused();
        let names: Vec<&str> = problems.0.iter().map(|problem| problem.key.as_str()).collect();
        tracing::error!(
            event = AuditEvent::SysConfigRefused.as_str(),
            problems = in_one_line(&problems),
            "the settings were read again and refused: nothing has changed"
        );
        system.auth.record_operation(by, AuditEvent::SysConfigRefused, cut(&names.join(", ")));
        Refusal::Invalid(problems)
    }
}

fn tell(system: &System, by: &Administrator, told: &Told) {
    let line = |changes: &[Change]| changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let names = |changes: &[Change]| changes.iter().map(Change::name).collect::<Vec<_>>().join(", ");
    let (changed, needs_restart) = (line(&told.changed), line(&told.needs_restart));
    macro_rules! say {
        ($level:ident, $words:literal) => {
            tracing::$level!(
                event = AuditEvent::SysConfigReloaded.as_str(),
                outcome = told.outcome.as_str(),
                changed,
                needs_restart,
                $words
            )
        };
    }
    match (told.outcome, told.needs_restart.is_empty()) {
        (_, false) => say!(warn, "the settings were read again; some that have changed need a restart"),
        (Outcome::Unchanged, _) => say!(info, "the settings were read again; none has changed"),
        _ => say!(info, "the settings were read again and put in force"),
    }
    let detail = match (names(&told.changed), names(&told.needs_restart)) {
        (changed, pending) if pending.is_empty() => changed,
        (changed, pending) => format!("{changed} (need a restart: {pending})"),
    };
    system.auth.record_operation(by, AuditEvent::SysConfigReloaded, cut(detail.trim()));
}

fn in_one_line(problems: &Problems) -> String {
    let one = |problem: &Problem| {
        let origin = problem.origin.as_ref().map_or_else(String::new, |origin| format!(" ({origin})"));
        format!("{}{origin}: {}; fix: {}", problem.key, problem.what, problem.fix)
    };
    problems.0.iter().map(one).collect::<Vec<_>>().join(" | ")
}

fn cut(detail: &str) -> String {
    detail.chars().take(DETAIL_CHARS_MAX).collect()
}
