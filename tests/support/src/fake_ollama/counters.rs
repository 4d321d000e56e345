//! What the fake server saw, counted so that a test can wait for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::http::request::Request;

/// Cancelled requests kept; later ones are only counted.
const MAX_CANCELLED: usize = 10_000;
/// Distinct model names counted apart.
const MAX_MODELS: usize = 1_000;

/// One moment's counts. `in_flight` is accepted and not answered; `running` holds a model's slot.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counters {
    pub connections: u64,
    pub open_connections: u64,
    /// Every request, whatever its path.
    pub requests: u64,
    pub in_flight: u64,
    pub max_in_flight: u64,
    pub running: u64,
    pub max_running: u64,
    /// Requests whose peer left before the last line, of which the first are in `cancelled`.
    pub cancellations: u64,
    pub cancelled: Vec<Cancelled>,
    pub loads: u64,
    pub unloads: u64,
    /// The most models that were in memory at once, one being loaded included.
    pub max_loaded: u64,
    /// Refusals because too many requests waited for a load.
    pub busy: u64,
    /// Token lines handed to the kernel.
    pub tokens: u64,
    /// How long sends waited for a peer that did not read, in all and at most at once.
    pub write_blocked_ms: u64,
    pub longest_write_block_ms: u64,
    pub tags_calls: u64,
    pub ps_calls: u64,
    pub show_calls: u64,
    pub chat_calls: u64,
    pub generate_calls: u64,
    pub embed_calls: u64,
    pub models: BTreeMap<String, ModelCounters>,
}

/// The same for one model.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ModelCounters {
    pub requests: u64,
    pub in_flight: u64,
    pub max_in_flight: u64,
    pub running: u64,
    pub max_running: u64,
    pub loads: u64,
    pub unloads: u64,
}

/// A request whose peer left.
#[derive(Debug, Clone, Serialize)]
pub struct Cancelled {
    pub model: String,
    /// Tokens sent by then.
    pub token_index: u64,
    /// When the server saw it.
    #[serde(skip)]
    pub at: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Stats {
    counters: Mutex<Counters>,
    tokens: AtomicU64,
    changed: Notify,
}

impl Stats {
    pub(crate) fn snapshot(&self) -> Counters {
        let mut counters = self.counters.lock().clone();
        counters.tokens = self.tokens.load(Relaxed);
        counters
    }

    /// Changes the counts and wakes who waits for them.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut self.counters.lock());
        self.changed.notify_waiters();
    }

    pub(crate) fn update_model(&self, model: &str, change: impl FnOnce(&mut Counters, &mut ModelCounters)) {
        self.update(|counters| {
            let mut of_model = counters.models.remove(model).unwrap_or_default();
            change(counters, &mut of_model);
            if counters.models.len() < MAX_MODELS {
                counters.models.insert(model.to_owned(), of_model);
            }
        });
    }

    pub(crate) fn sent_tokens(&self, count: u64) {
        self.tokens.fetch_add(count, Relaxed);
        self.changed.notify_waiters();
    }

    pub(crate) async fn wait_until(
        &self,
        mut met: impl FnMut(&Counters) -> bool,
        timeout: Duration,
    ) -> Result<Counters> {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                let counters = self.snapshot();
                if met(&counters) {
                    return counters;
                }
                changed.await;
            }
        };
        let waited = tokio::time::timeout(timeout, wait).await;
        waited.map_err(|_| anyhow!("not met within {timeout:?}; the counters are {:#?}", self.snapshot()))
    }
}

/// One generation from its acceptance to its last line. Dropped before [`Visit::finish`] means that the peer left,
/// unless the server itself was cut.
pub(crate) struct Visit<'s> {
    stats: &'s Stats,
    cut: &'s CancellationToken,
    model: String,
    sent: u64,
    running: bool,
    finished: bool,
}

impl<'s> Visit<'s> {
    pub(crate) fn begin(stats: &'s Stats, cut: &'s CancellationToken, model: &str) -> Self {
        stats.update_model(model, |all, of_model| {
            of_model.requests += 1;
            all.in_flight += 1;
            all.max_in_flight = all.max_in_flight.max(all.in_flight);
            of_model.in_flight += 1;
            of_model.max_in_flight = of_model.max_in_flight.max(of_model.in_flight);
        });
        Self { stats, cut, model: model.to_owned(), sent: 0, running: false, finished: false }
    }

    /// Holds a slot from here on.
    pub(crate) fn run(&mut self) {
        self.running = true;
        self.stats.update_model(&self.model, |all, of_model| {
            all.running += 1;
            all.max_running = all.max_running.max(all.running);
            of_model.running += 1;
            of_model.max_running = of_model.max_running.max(of_model.running);
        });
    }

    pub(crate) fn sent_tokens(&mut self, count: u64) {
        self.sent += count;
        self.stats.sent_tokens(count);
    }

    /// Ends it, before the last bytes are sent: a peer that has read them must not find it still counted.
    pub(crate) fn finish(&mut self) {
        if !std::mem::replace(&mut self.finished, true) {
            self.leave(false);
        }
    }

    fn leave(&self, cancelled: bool) {
        self.stats.update_model(&self.model, |all, of_model| {
            all.in_flight -= 1;
            of_model.in_flight -= 1;
            if self.running {
                all.running -= 1;
                of_model.running -= 1;
            }
            if cancelled {
                all.cancellations += 1;
                if all.cancelled.len() < MAX_CANCELLED {
                    let (model, token_index) = (self.model.clone(), self.sent);
                    all.cancelled.push(Cancelled { model, token_index, at: Instant::now() });
                }
            }
        });
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.leave(!self.cut.is_cancelled());
        }
    }
}

/// Counts a send that waits for its peer, also when the wait is given up.
pub(crate) struct Blocked<'s> {
    stats: &'s Stats,
    since: Instant,
}

impl<'s> Blocked<'s> {
    pub(crate) fn begin(stats: &'s Stats) -> Self {
        Self { stats, since: Instant::now() }
    }
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        let blocked = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.stats.update(|all| {
            all.write_blocked_ms += blocked;
            all.longest_write_block_ms = all.longest_write_block_ms.max(blocked);
        });
    }
}

/// The last requests as they came in.
#[derive(Debug)]
pub(crate) struct RequestLog {
    limit: usize,
    requests: Mutex<VecDeque<Request>>,
}

impl RequestLog {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, requests: Mutex::default() }
    }

    pub(crate) fn push(&self, request: &Request) {
        if self.limit == 0 {
            return;
        }
        let mut requests = self.requests.lock();
        if requests.len() == self.limit {
            requests.pop_front();
        }
        requests.push_back(request.clone());
    }

    pub(crate) fn list(&self) -> Vec<Request> {
        self.requests.lock().iter().cloned().collect()
    }

    pub(crate) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock()).into()
    }
}
