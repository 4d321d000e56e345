//! The tree as operators see it: who runs, who was restarted, why and how often.
//!
//! Supervisors write it, the operations room and the metrics read it; it decides nothing. It holds one entry per
//! child that exists, so it is as bounded as the supervisors' lists of children.
//!
//! # When it breaks
//!
//! It lives outside the actors and is empty only after the process restarted: counts outlive any actor.

mod metrics;
mod news;
mod node;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use tokio::time::Instant;

use self::node::Entry;
pub use self::{
    news::{Feed, KEPT as NEWS_KEPT, News, NewsKind},
    node::{Exit, Node, Status},
};
use crate::supervisor::{
    Kind, Policy, ROOT,
    exit::{self, Cause, Decision, Report},
};

/// The live tree; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Tree(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    entries: RwLock<BTreeMap<String, Entry>>,
    /// Gives each new entry its place among its siblings.
    born: AtomicU64,
    /// Entries that are or were lately degraded: zero spares the reader the lock.
    degraded: AtomicUsize,
    news: Feed,
}

impl Tree {
    pub fn new() -> Self {
        Self::default()
    }

    /// Every child that exists, parents before their children, siblings in the order of their starting.
    pub fn snapshot(&self) -> Vec<Node> {
        let now = Instant::now();
        let entries = self.0.entries.read();
        let mut nodes: Vec<_> =
            entries.iter().map(|(path, entry)| (lineage(&entries, path), entry.show(path, now))).collect();
        drop(entries);
        nodes.sort_by(|(a, _), (b, _)| a.cmp(b));
        nodes.into_iter().map(|(_, node)| node).collect()
    }

    /// Whether something at or under `prefix` crashes too often: callers of that room should get 503 at once.
    ///
    /// Costs one atomic load while nothing is degraded.
    pub fn is_degraded(&self, prefix: &str) -> bool {
        if self.0.degraded.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let now = Instant::now();
        self.0.entries.read().iter().any(|(path, entry)| is_under(path, prefix) && entry.is_degraded(now))
    }

    /// Logs and counts the crash of a factory's worker, which the factory replaces at once.
    ///
    /// Above the default intensity the worker counts as degraded until it has kept quiet for as long as a
    /// restarted actor needs to be healthy.
    pub(crate) fn worker_exit(&self, path: &str, cause: &str) {
        let (policy, now) = (Policy::default(), Instant::now());
        let before = self.0.entries.read().get(path).map_or(0, |entry| entry.log.within(now, policy.window));
        let is_degraded = before + 1 > policy.max_restarts;
        let report = Report {
            path,
            kind: Kind::Leaf,
            actor_id: None,
            cause: Cause::Crashed(cause.to_owned()),
            decision: Decision::Restart,
            status: if is_degraded { Status::Degraded } else { Status::Restarting },
            backoff: Duration::ZERO,
            restarts_in_window: before + 1,
        };
        exit::record(self, &report);
        self.update(path, Kind::Leaf, |entry| entry.recovers_at = Some(now + policy.healthy_after));
    }

    pub(crate) fn worker_started(&self, path: &str) {
        let (status, fell_before) = self.update(path, Kind::Leaf, |entry| {
            // A worker that replaces a degraded one has proved nothing yet.
            let status = if entry.status == Status::Degraded { Status::Degraded } else { Status::Running };
            (status, entry.start(status, None))
        });
        self.tell_return(path, status, fell_before);
    }

    pub(crate) fn started(&self, path: &str, kind: Kind, status: Status, actor_id: String) {
        let fell_before = self.update(path, kind, |entry| entry.start(status, Some(actor_id)));
        self.tell_return(path, status, fell_before);
    }

    fn tell_return(&self, path: &str, status: Status, fell_before: Option<Duration>) {
        if let Some(after) = fell_before {
            exit::returned(self, path, after, status);
        }
    }

    /// The child kept well for long enough to count as healthy.
    pub(crate) fn recovered(&self, path: &str) {
        self.update(path, Kind::Leaf, |entry| entry.status = Status::Running);
        exit::recovered(self, path);
    }

    /// Notices the workers of factories that have kept well for long enough: no supervisor of ours does.
    pub(crate) fn notice_recoveries(&self) {
        if self.0.degraded.load(Ordering::Relaxed) == 0 {
            return;
        }
        let now = Instant::now();
        let is_well =
            |entry: &Entry| entry.status == Status::Degraded && entry.is_up() && !entry.is_degraded(now);
        let well: Vec<String> = {
            let entries = self.0.entries.read();
            entries.iter().filter(|(_, entry)| is_well(entry)).map(|(path, _)| path.clone()).collect()
        };
        for path in well {
            self.recovered(&path);
        }
    }

    /// What happened, as it happens.
    pub fn news(&self) -> &Feed {
        &self.0.news
    }

    /// Forgets a child that was removed, and all under it.
    pub(crate) fn removed(&self, path: &str) {
        self.write(|entries| entries.retain(|other, _| !is_under(other, path)));
    }

    /// Forgets what a supervisor had under it when it died and does not start again.
    pub(crate) fn keep_only(&self, parent: &str, children: &[&str]) {
        self.write(|entries| {
            entries.retain(|path, _| {
                let is_below = path != parent && is_under(path, parent);
                !is_below || children.iter().any(|child| is_under(path, child))
            });
        });
    }

    /// Notes an exit; called by [`exit::record`] only. What stood under the actor fell with it.
    pub(crate) fn exited(&self, report: &Report<'_>) {
        let now = Instant::now();
        self.update(report.path, report.kind, |entry| entry.exit(report, now));
        self.write(|entries| {
            let below = entries
                .iter_mut()
                .filter(|(path, _)| path.as_str() != report.path && is_under(path, report.path));
            below.for_each(|(_, entry)| entry.fall());
        });
    }

    fn update<T>(&self, path: &str, kind: Kind, change: impl FnOnce(&mut Entry) -> T) -> T {
        self.write(|entries| {
            let place = self.0.born.fetch_add(1, Ordering::Relaxed);
            change(entries.entry(path.to_owned()).or_insert_with(|| Entry::new(kind, place)))
        })
    }

    fn write<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Entry>) -> T) -> T {
        let mut entries = self.0.entries.write();
        let out = change(&mut entries);
        let degraded = entries.values().filter(|entry| entry.status == Status::Degraded).count();
        self.0.degraded.store(degraded, Ordering::Relaxed);
        out
    }
}

/// The places of all that stand above `path`, from the top, and its own; the root stands above all.
fn lineage(entries: &BTreeMap<String, Entry>, path: &str) -> Vec<u64> {
    if path == ROOT {
        return Vec::new();
    }
    let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
    ends.filter_map(|end| entries.get(&path[..end])).map(|entry| entry.place).collect()
}

fn is_under(path: &str, prefix: &str) -> bool {
    prefix == ROOT || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
