//! Which models are loaded, and who may run.
//!
//! Ollama's rules, with their hazards: one loader, so that loads wait for each other; the request that caused a load
//! owns it, and its leaving aborts it; other runner options mean a reload once the model is idle; requests to a
//! loaded model queue without limit, requests that need a load are refused above `max_queue`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::counters::Stats;
use super::model::Model;

/// How long an idle model stays; `None` is for ever.
pub(crate) type KeepAlive = Option<Duration>;

pub(crate) struct Scheduler {
    stats: Arc<Stats>,
    runners: Mutex<BTreeMap<String, Runner>>,
    loader: tokio::sync::Mutex<()>,
    waiting: AtomicUsize,
    idle: Notify,
    max_queue: usize,
    max_loaded: usize,
    keep_alive: KeepAlive,
    serial: AtomicUsize,
}

struct Runner {
    /// The runner options it was loaded with.
    shape: String,
    slots: Arc<Semaphore>,
    leases: usize,
    keep_alive: KeepAlive,
    idle_since: Instant,
    /// Tells a runner from its successor of the same name.
    serial: usize,
}

impl Runner {
    fn expires_at(&self) -> Option<Instant> {
        self.keep_alive.map(|keep_alive| self.idle_since + keep_alive)
    }
}

/// What `/api/ps` shows of a loaded model.
pub(crate) struct Loaded {
    pub(crate) model: String,
    pub(crate) expires_in: KeepAlive,
}

/// Too many requests wait for a load.
pub(crate) struct Busy;

/// Keeps a model loaded; its slots are taken apart.
pub(crate) struct Lease {
    scheduler: Arc<Scheduler>,
    model: String,
    serial: usize,
    pub(crate) slots: Arc<Semaphore>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.scheduler.give_back(&self.model, self.serial);
    }
}

struct Waiting<'s>(&'s AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Scheduler {
    pub(crate) fn new(stats: Arc<Stats>, max_queue: usize, max_loaded: usize, keep_alive: KeepAlive) -> Self {
        Self {
            stats,
            runners: Mutex::default(),
            loader: tokio::sync::Mutex::default(),
            waiting: AtomicUsize::new(0),
            idle: Notify::new(),
            max_queue,
            max_loaded: max_loaded.max(1),
            keep_alive,
            serial: AtomicUsize::new(0),
        }
    }

    /// Leases `model`, loading it first if it must be.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        model: &Model,
        shape: &str,
        keep_alive: Option<KeepAlive>,
    ) -> Result<Lease, Busy> {
        if let Some(lease) = self.lease_loaded(&model.name, shape, keep_alive) {
            return Ok(lease);
        }
        let waiting = self.waiting.fetch_add(1, SeqCst);
        let _waiting = Waiting(&self.waiting);
        if waiting >= self.max_queue {
            self.stats.update(|all| all.busy += 1);
            return Err(Busy);
        }
        let _loader = self.loader.lock().await;
        loop {
            if let Some(lease) = self.lease_loaded(&model.name, shape, keep_alive) {
                return Ok(lease);
            }
            let idle = self.idle.notified();
            if self.make_room(&model.name) {
                break;
            }
            idle.await;
        }
        let beside = self.runners.lock().len() as u64;
        self.stats.update(|all| all.max_loaded = all.max_loaded.max(beside + 1));
        // Dropped here when the peer leaves: the load is lost, and the next in line starts it anew.
        tokio::time::sleep(model.load).await;
        let runner = Runner {
            shape: shape.to_owned(),
            slots: Arc::new(Semaphore::new(model.parallel.max(1))),
            leases: 1,
            keep_alive: keep_alive.unwrap_or(self.keep_alive),
            idle_since: Instant::now(),
            serial: self.serial.fetch_add(1, SeqCst),
        };
        let lease = self.lease_on(&model.name, &runner);
        self.runners.lock().insert(model.name.clone(), runner);
        self.stats.update_model(&model.name, |all, of_model| {
            all.loads += 1;
            of_model.loads += 1;
        });
        Ok(lease)
    }

    /// Unloads a model when its last lease ends.
    pub(crate) fn unload(&self, model: &str) {
        if let Some(runner) = self.runners.lock().get_mut(model) {
            runner.keep_alive = Some(Duration::ZERO);
        }
        self.sweep();
    }

    /// Forgets every runner at once, as after running out of memory.
    pub(crate) fn unload_all(&self) {
        let runners = std::mem::take(&mut *self.runners.lock());
        for model in runners.keys() {
            self.count_unload(model);
        }
        self.idle.notify_waiters();
    }

    /// What is loaded, longest to live first.
    pub(crate) fn loaded(&self) -> Vec<Loaded> {
        self.sweep();
        let now = Instant::now();
        let mut loaded: Vec<_> = self
            .runners
            .lock()
            .iter()
            .map(|(model, runner)| Loaded {
                model: model.clone(),
                expires_in: runner.expires_at().map(|at| at.saturating_duration_since(now)),
            })
            .collect();
        loaded.sort_by_key(|loaded| std::cmp::Reverse(loaded.expires_in.unwrap_or(Duration::MAX)));
        loaded
    }

    fn lease_loaded(
        self: &Arc<Self>,
        model: &str,
        shape: &str,
        keep_alive: Option<KeepAlive>,
    ) -> Option<Lease> {
        self.sweep();
        let mut runners = self.runners.lock();
        let runner = runners.get_mut(model).filter(|runner| runner.shape == shape)?;
        runner.leases += 1;
        if let Some(keep_alive) = keep_alive {
            runner.keep_alive = keep_alive;
        }
        Some(self.lease_on(model, runner))
    }

    fn lease_on(self: &Arc<Self>, model: &str, runner: &Runner) -> Lease {
        let slots = runner.slots.clone();
        Lease { scheduler: self.clone(), model: model.to_owned(), serial: runner.serial, slots }
    }

    /// Whether `model` may be loaded now. Unloads the runner it replaces, or else the idle one that would go first.
    fn make_room(&self, model: &str) -> bool {
        let mut runners = self.runners.lock();
        let victim = if let Some(runner) = runners.get(model) {
            if runner.leases > 0 {
                return false;
            }
            model.to_owned()
        } else if runners.len() < self.max_loaded {
            return true;
        } else {
            let idle = runners.iter().filter(|(_, runner)| runner.leases == 0);
            match idle.min_by_key(|(_, runner)| runner.keep_alive.unwrap_or(Duration::MAX)) {
                Some((name, _)) => name.clone(),
                None => return false,
            }
        };
        runners.remove(&victim);
        drop(runners);
        self.count_unload(&victim);
        true
    }

    fn give_back(&self, model: &str, serial: usize) {
        if let Some(runner) = self.runners.lock().get_mut(model).filter(|runner| runner.serial == serial) {
            runner.leases -= 1;
            runner.idle_since = Instant::now();
        }
        self.sweep();
        self.idle.notify_waiters();
    }

    fn sweep(&self) {
        let now = Instant::now();
        let mut expired = Vec::new();
        self.runners.lock().retain(|model, runner| {
            let keep = runner.leases > 0 || runner.expires_at().is_none_or(|at| at > now);
            if !keep {
                expired.push(model.clone());
            }
            keep
        });
        for model in expired {
            self.count_unload(&model);
        }
    }

    fn count_unload(&self, model: &str) {
        self.stats.update_model(model, |all, of_model| {
            all.unloads += 1;
            of_model.unloads += 1;
        });
    }
}
