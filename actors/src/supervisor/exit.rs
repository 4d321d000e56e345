//! The one place every exit passes through, and every return: one log line, one count, one entry in the tree, one piece of news.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::{Kind, story};
use crate::tree::{NewsKind, Status, Tree};

/// How an actor came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It panicked or gave up; the text says where.
    Crashed(String),
    /// Somebody killed it, or its task was dropped.
    Killed,
    /// It never came up.
    NotStarted(String),
    /// It stopped itself, or somebody asked it to.
    Stopped(Option<String>),
    /// Its supervisor asked, and it did not end in time.
    Hung(&'static str),
}

impl Cause {
    pub(crate) fn is_crash(&self) -> bool {
        !matches!(self, Self::Stopped(_))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crashed(text) => f.write_str(text),
            Self::Killed => f.write_str("killed"),
            Self::NotStarted(text) => write!(f, "did not start: {text}"),
            Self::Stopped(Some(reason)) => write!(f, "stopped: {reason}"),
            Self::Stopped(None) => f.write_str("stopped"),
            Self::Hung(how) => f.write_str(how),
        }
    }
}

/// What follows from an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Restart,
    /// It stays down.
    Stop,
    /// Its supervisor gives up and lets its own parent decide.
    Escalate,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Escalate => "escalate",
        })
    }
}

/// One exit and what was made of it.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) path: &'a str,
    pub(crate) kind: Kind,
    pub(crate) actor_id: Option<String>,
    pub(crate) cause: Cause,
    pub(crate) decision: Decision,
    /// How the tree shows the actor from now on.
    pub(crate) status: Status,
    pub(crate) backoff: Duration,
    pub(crate) restarts_in_window: usize,
}

/// Logs and counts an exit.
pub(crate) fn record(tree: &Tree, report: &Report<'_>) {
    let Report { path, cause, decision, backoff, restarts_in_window, .. } = report;
    let actor_id = report.actor_id.as_deref().unwrap_or("none");
    let backoff_ms = u64::try_from(backoff.as_millis()).unwrap_or(u64::MAX);
    let told = story::fell(report);
    macro_rules! say {
        ($level:ident) => {
            tracing::$level!(
                event = "actor_exited",
                actor = path, actor_id, %cause, %decision, backoff_ms, restarts_in_window, "{told}"
            )
        };
    }
    match decision {
        _ if cause.is_crash() => say!(error),
        // What was asked for is no news: a shutdown would say it once per actor.
        Decision::Stop => say!(debug),
        Decision::Restart | Decision::Escalate => say!(info),
    }
    tree.exited(report);
    if cause.is_crash() || *decision != Decision::Stop {
        tree.news().tell(NewsKind::Fell, path, told);
    }
}

/// Tells that an actor which fell runs again, so long after its fall.
pub(crate) fn returned(tree: &Tree, path: &str, after: Duration, status: Status) {
    let told = story::returned(path, after, status);
    let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(event = "actor_returned", actor = path, after_ms, "{told}");
    tree.news().tell(NewsKind::Returned, path, told);
}

/// Tells that an actor which fell too often has kept well for long enough.
pub(crate) fn recovered(tree: &Tree, path: &str) {
    let told = story::recovered(path);
    tracing::info!(event = "actor_recovered", actor = path, "{told}");
    tree.news().tell(NewsKind::Recovered, path, told);
}
