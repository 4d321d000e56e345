//! What one model server holds in memory: who may use it, and what it loads next.
//!
//! ```text
//! worker ── enter(model) ──▶ resident: a Stay at once
//!                        └─▶ wanted (first come, first served between models) ──▶ driver: unload, load ──▶ a Stay each
//! server's own list ── learn ──▶ what is believed
//! ```
//!
//! The gateway decides what is loaded, not the server: in Ollama the first waiter owns a load and aborts it by leaving, and a
//! request for a model that is being evicted can keep it for ever and hang every load (ollama-wire §6, hazards 1 to 3). So
//! loads and unloads are done one at a time by a driver, whose they are, and nobody is let in to a model that is to go.
//! Where the operator set a limit, a model is drained before another is asked for: its running turns end, newcomers
//! wait behind, then it is unloaded.
//!
//! A plain structure behind a mutex that is never held across an await.
//!
//! # When it breaks
//!
//! Being wrong about what is loaded is corrected by the server's next list. A driver that dies takes the load in hand
//! with it; who waits is told that the server is busy, tries again, and so gets another driver.

mod ledger;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, timeout_at},
};

pub(super) use self::ledger::Step;
use self::ledger::{Ledger, Waiter};
use super::provider::UpstreamError;

/// One word when the load begins, and one at its end.
const WORDS_MAX: usize = 2;

/// What the operator decided about memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct ResidencyRules {
    /// Models loaded at once; `None` leaves it to the server.
    pub limit: Option<usize>,
    /// How long a model that was loaded stays at least before it has to go for another.
    pub min_residence: Duration,
}

/// How it stands with one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub is_loaded: bool,
    /// It is being loaded, or will be once there is room.
    pub is_awaited: bool,
}

/// What a waiter is told.
enum Word {
    /// The load begins; it should take this long.
    Loading(Option<Duration>),
    Entered(Stay),
    Failed(UpstreamError),
}

pub(super) struct Residents {
    ledger: Mutex<Ledger>,
    /// For the driver.
    changed: Notify,
}

/// Keeps a model from being unloaded; held while a turn runs.
pub(super) struct Stay {
    /// `None` for a model that takes no memory here.
    of: Option<(Arc<Residents>, Arc<str>)>,
}

/// A place among those who wait for a model. Dropping it leaves at once.
pub(super) struct Waiting {
    residents: Arc<Residents>,
    model: Arc<str>,
    id: u64,
    words: mpsc::Receiver<Word>,
}

/// The right to load and unload; there is one at most.
pub(super) struct Driver {
    residents: Arc<Residents>,
    is_done: bool,
}

/// How many models and turns there are, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Occupancy {
    pub residents: usize,
    pub waiting: usize,
    pub loads: u64,
    pub unloads: u64,
}

impl Residents {
    pub fn new(rules: ResidencyRules) -> Arc<Self> {
        Arc::new(Self { ledger: Mutex::new(Ledger::new(rules)), changed: Notify::new() })
    }

    /// Enters at once, or takes a place among those who wait; then [`Residents::driver`] must be asked for.
    pub fn enter(self: &Arc<Self>, model: &Arc<str>) -> Result<Stay, Waiting> {
        let residents = self.clone();
        if self.ledger.lock().enter(model) {
            return Ok(Stay { of: Some((residents, model.clone())) });
        }
        let (waiter, words) = mpsc::channel(WORDS_MAX);
        let id = self.change(|ledger| ledger.wait(model, waiter));
        Err(Waiting { residents, model: model.clone(), id, words })
    }

    /// The post of the driver, if there is work and nobody has it.
    pub fn driver(self: &Arc<Self>) -> Option<Driver> {
        let mut ledger = self.ledger.lock();
        if ledger.has_driver || ledger.waiting() == 0 {
            return None;
        }
        ledger.has_driver = true;
        Some(Driver { residents: self.clone(), is_done: false })
    }

    /// Corrects what is believed by what the server said, asked at `asked_at`.
    pub fn learn(self: &Arc<Self>, loaded: Vec<String>, asked_at: Instant) {
        self.change(|ledger| ledger.learn(loaded, asked_at, Instant::now()));
    }

    /// Models that are loaded from now on stay by these rules.
    pub fn set_rules(self: &Arc<Self>, rules: ResidencyRules) {
        self.change(|ledger| ledger.set_rules(rules));
    }

    pub fn standing(&self, model: &str) -> Standing {
        self.ledger.lock().standing(model)
    }

    pub fn occupancy(&self) -> Occupancy {
        let ledger = self.ledger.lock();
        Occupancy {
            residents: ledger.residents(),
            waiting: ledger.waiting(),
            loads: ledger.loads,
            unloads: ledger.unloads,
        }
    }

    /// Changes the ledger, lets in whoever may enter then, and wakes the driver.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut Ledger) -> T) -> T {
        let (out, admitted) = {
            let mut ledger = self.ledger.lock();
            let out = change(&mut ledger);
            (out, ledger.admit())
        };
        self.let_in(admitted);
        self.changed.notify_one();
        out
    }

    /// A waiter that left meanwhile drops its stay, which takes the lock: never call this under it.
    fn let_in(self: &Arc<Self>, admitted: Vec<(Arc<str>, Waiter)>) {
        for (model, waiter) in admitted {
            let _ = waiter.try_send(Word::Entered(Stay { of: Some((self.clone(), model)) }));
        }
    }
}

impl Stay {
    /// With a model that runs on somebody else's machine: there is nothing to load and nothing to free.
    pub const fn elsewhere() -> Self {
        Self { of: None }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        if let Some((residents, model)) = &self.of {
            residents.change(|ledger| ledger.leave(model, Instant::now()));
        }
    }
}

impl Waiting {
    /// Waits to be let in. `tell` hears at once, and again when the load begins, how long it should take.
    ///
    /// Bounded by the caller: the turns that run on a model that has to go first take as long as they take.
    ///
    /// # Errors
    ///
    /// What the load, or the unload before it, failed of; [`UpstreamError::Busy`] is worth another try.
    pub async fn entered(mut self, tell: impl Fn(Option<Duration>)) -> Result<Stay, UpstreamError> {
        let eta = self.residents.ledger.lock().eta(&self.model, Instant::now());
        tell(eta);
        loop {
            match self.words.recv().await {
                Some(Word::Loading(eta)) => tell(eta),
                Some(Word::Entered(stay)) => return Ok(stay),
                Some(Word::Failed(error)) => return Err(error),
                None => return Err(UpstreamError::Busy),
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.residents.change(|ledger| ledger.withdraw(&self.model, self.id));
    }
}

impl Driver {
    /// What to do next. After [`Step::Rest`] this is no driver any more; after the others say how it went.
    pub fn next(&mut self) -> Step {
        let (step, admitted) = {
            let mut ledger = self.residents.ledger.lock();
            let mut admitted = ledger.admit();
            let step = ledger.next(Instant::now());
            admitted.extend(ledger.admit());
            (step, admitted)
        };
        self.is_done = step == Step::Rest;
        self.residents.let_in(admitted);
        step
    }

    /// Waits for something to change, or for `until`.
    pub async fn change(&self, until: Option<Instant>) {
        let changed = self.residents.changed.notified();
        match until {
            Some(until) => drop(timeout_at(until, changed).await),
            None => changed.await,
        }
    }

    pub fn loaded(&self, model: &Arc<str>, result: Result<(), UpstreamError>) {
        self.tell(result, |ledger, is_ok| {
            let now = Instant::now();
            if is_ok {
                ledger.loaded(model, now);
                return Vec::new();
            }
            ledger.load_failed(model, now)
        });
    }

    pub fn unloaded(&self, model: &str, result: Result<(), UpstreamError>) {
        self.tell(result, |ledger, is_ok| {
            let now = Instant::now();
            if is_ok {
                ledger.unloaded(model, now);
                return Vec::new();
            }
            ledger.unload_failed(model, now)
        });
    }

    fn tell(&self, result: Result<(), UpstreamError>, change: impl FnOnce(&mut Ledger, bool) -> Vec<Waiter>) {
        let disappointed = self.residents.change(|ledger| change(ledger, result.is_ok()));
        if let Err(error) = result {
            for waiter in disappointed {
                let _ = waiter.try_send(Word::Failed(error.clone()));
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if !self.is_done {
            // Their channels close outside the lock.
            let orphans = self.residents.ledger.lock().driver_died();
            drop(orphans);
        }
    }
}
