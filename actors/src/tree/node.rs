//! One entry of the tree, as it is kept and as it is shown.

use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio::time::Instant;

use crate::supervisor::{
    Kind, Policy,
    budget::RestartLog,
    exit::{Decision, Report},
};

/// What an actor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Running,
    /// Down, and its respawn is scheduled.
    Restarting,
    /// It crashed more often than its policy allows and has not proved healthy since, up or down.
    Degraded,
    Stopped,
}

/// One actor of the tree at the moment of the snapshot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// `models_sup/llama3:8b/worker-0`.
    pub path: String,
    pub kind: Kind,
    pub status: Status,
    /// The living incarnation; a factory's workers show none.
    pub actor_id: Option<String>,
    pub restarts: u64,
    /// Restarts in the last minute, the default window.
    pub restarts_in_window: usize,
    pub last_exit: Option<Exit>,
    #[serde(rename = "uptime_seconds", serialize_with = "seconds_if_any")]
    pub uptime: Option<Duration>,
}

/// How the latest incarnation ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Exit {
    pub cause: String,
    pub decision: Decision,
    /// How long ago, on the monotonic clock.
    #[serde(rename = "seconds_ago", serialize_with = "seconds")]
    pub ago: Duration,
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn seconds_if_any<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64()).serialize(serializer)
}

#[derive(Debug)]
pub(super) struct Entry {
    kind: Kind,
    /// Lower than that of every sibling which came to be later.
    pub(super) place: u64,
    pub(super) status: Status,
    actor_id: Option<String>,
    pub(super) restarts: u64,
    pub(super) log: RestartLog,
    /// When a degraded entry counts as well again if nobody says so: factory workers have no supervisor of ours.
    pub(super) recovers_at: Option<Instant>,
    last_exit: Option<(String, Decision, Instant)>,
    running_since: Option<Instant>,
    /// Since when it is down against its will; until its return is told.
    fell_at: Option<Instant>,
}

impl Entry {
    pub(super) fn new(kind: Kind, place: u64) -> Self {
        Self {
            kind,
            place,
            status: Status::Stopped,
            actor_id: None,
            restarts: 0,
            log: RestartLog::default(),
            recovers_at: None,
            last_exit: None,
            running_since: None,
            fell_at: None,
        }
    }

    /// Returns how long ago it fell, if this is a return.
    pub(super) fn start(&mut self, status: Status, actor_id: Option<String>) -> Option<Duration> {
        let now = Instant::now();
        self.status = status;
        self.actor_id = actor_id;
        self.running_since = Some(now);
        self.fell_at.take().map(|at| now - at)
    }

    pub(super) fn exit(&mut self, report: &Report<'_>, now: Instant) {
        self.fall();
        self.status = report.status;
        self.last_exit = Some((report.cause.to_string(), report.decision, now));
        if report.decision == Decision::Restart {
            // One that does not come up falls again: it is down since the first time.
            self.fell_at.get_or_insert(now);
            self.restarts += 1;
            self.log.record(now, Policy::default().window);
        }
    }

    /// It is down because what it hung on went down.
    pub(super) fn fall(&mut self) {
        self.status = Status::Stopped;
        self.actor_id = None;
        self.running_since = None;
    }

    pub(super) fn is_up(&self) -> bool {
        self.running_since.is_some()
    }

    pub(super) fn is_degraded(&self, now: Instant) -> bool {
        self.status == Status::Degraded && self.recovers_at.is_none_or(|at| now < at)
    }

    pub(super) fn show(&self, path: &str, now: Instant) -> Node {
        let is_well_again = self.status == Status::Degraded && !self.is_degraded(now);
        Node {
            path: path.to_owned(),
            kind: self.kind,
            status: if is_well_again { Status::Running } else { self.status },
            actor_id: self.actor_id.clone(),
            restarts: self.restarts,
            restarts_in_window: self.log.within(now, Policy::default().window),
            last_exit: self.last_exit.as_ref().map(|(cause, decision, at)| Exit {
                cause: cause.clone(),
                decision: *decision,
                ago: now - *at,
            }),
            uptime: self.running_since.map(|since| now - since),
        }
    }
}
