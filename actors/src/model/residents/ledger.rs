//! The rules of residency: who enters, what is loaded next, and what goes for it. Nothing here waits or calls anybody; time is
//! an argument.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

use super::{ResidencyRules, Standing, Word};

/// Models whose load time is remembered; as many as a catalogue has by default. Others have no estimate.
const LOAD_TIMES_MAX: usize = 1_000;

pub(super) struct Ledger {
    rules: ResidencyRules,
    /// What the server holds, as we believe: what we loaded, and what it said. Bounded by its own list.
    residents: BTreeMap<Arc<str>, Resident>,
    /// Models that somebody waits for, in the order in which the first of each came. Bounded by its slots.
    wanted: VecDeque<Wanted>,
    under_way: Option<Work>,
    /// Whether somebody does the work.
    pub has_driver: bool,
    /// When a load or unload of ours last ended.
    changed_at: Option<Instant>,
    load_times: BTreeMap<Arc<str>, Duration>,
    next_waiter: u64,
    pub loads: u64,
    pub unloads: u64,
}

struct Resident {
    since: Instant,
    /// Not before then does it go for another's sake.
    may_leave_at: Instant,
    idle_since: Instant,
    staying: usize,
    door: Door,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    /// Who is in may stay; nobody else enters.
    Draining,
    Unloading,
}

enum Work {
    Load { model: Arc<str>, since: Instant },
    Unload,
}

struct Wanted {
    model: Arc<str>,
    waiters: Vec<(u64, Waiter)>,
}

pub(super) type Waiter = mpsc::Sender<Word>;

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::model) enum Step {
    Load(Arc<str>),
    Unload(Arc<str>),
    /// Something has to change first, or this moment to come.
    Wait(Option<Instant>),
    /// Nobody waits for anything: the driver is let go.
    Rest,
}

impl Resident {
    const fn new(since: Instant, may_leave_at: Instant) -> Self {
        Self { since, may_leave_at, idle_since: since, staying: 0, door: Door::Open }
    }
}

impl Ledger {
    pub const fn new(rules: ResidencyRules) -> Self {
        Self {
            rules,
            residents: BTreeMap::new(),
            wanted: VecDeque::new(),
            under_way: None,
            has_driver: false,
            changed_at: None,
            load_times: BTreeMap::new(),
            next_waiter: 0,
            loads: 0,
            unloads: 0,
        }
    }

    pub const fn set_rules(&mut self, rules: ResidencyRules) {
        self.rules = rules;
    }

    /// Enters a model that is there; `false` if one has to wait for it.
    pub fn enter(&mut self, model: &str) -> bool {
        let resident = self.residents.get_mut(model).filter(|resident| resident.door == Door::Open);
        resident.map(|resident| resident.staying += 1).is_some()
    }

    pub fn leave(&mut self, model: &str, now: Instant) {
        if let Some(resident) = self.residents.get_mut(model) {
            resident.staying = resident.staying.saturating_sub(1);
            resident.idle_since = now;
        }
    }

    /// Puts a waiter behind those of its model, or the model behind all others.
    pub fn wait(&mut self, model: &Arc<str>, waiter: Waiter) -> u64 {
        let id = self.next_waiter;
        self.next_waiter += 1;
        match self.wanted.iter_mut().find(|wanted| wanted.model == *model) {
            Some(wanted) => wanted.waiters.push((id, waiter)),
            None => self.wanted.push_back(Wanted { model: model.clone(), waiters: vec![(id, waiter)] }),
        }
        id
    }

    /// Takes a waiter out, if it still waits; a model that nobody waits for is not wanted.
    pub fn withdraw(&mut self, model: &str, id: u64) {
        if let Some(wanted) = self.wanted.iter_mut().find(|wanted| &*wanted.model == model) {
            wanted.waiters.retain(|(waiter, _)| *waiter != id);
        }
        self.wanted.retain(|wanted| !wanted.waiters.is_empty());
    }

    /// Calls off drains that serve nobody, and lets in everybody whose model is open.
    pub fn admit(&mut self) -> Vec<(Arc<str>, Waiter)> {
        let mut admitted = Vec::new();
        loop {
            if self.wanted.is_empty() || self.has_room() {
                self.stop_draining();
            }
            // Whoever the drain was for has left, and the next in line wants the drained model itself.
            if let Some(resident) =
                self.wanted.front().and_then(|wanted| self.residents.get_mut(&wanted.model))
                && resident.door == Door::Draining
            {
                resident.door = Door::Open;
            }
            let residents = &mut self.residents;
            let open = self.wanted.iter().position(|wanted| {
                residents.get(&wanted.model).is_some_and(|resident| resident.door == Door::Open)
            });
            let Some(wanted) = open.and_then(|place| self.wanted.remove(place)) else { return admitted };
            if let Some(resident) = self.residents.get_mut(&wanted.model) {
                resident.staying += wanted.waiters.len();
            }
            admitted.extend(wanted.waiters.into_iter().map(|(_, waiter)| (wanted.model.clone(), waiter)));
        }
    }

    /// What to do next, for the driver, who has nothing under way. Call [`Ledger::admit`] before and after.
    pub fn next(&mut self, now: Instant) -> Step {
        let Some(model) = self.wanted.front().map(|wanted| wanted.model.clone()) else {
            self.has_driver = false;
            return Step::Rest;
        };
        if !self.has_room() {
            return self.make_room(now);
        }
        self.under_way = Some(Work::Load { model: model.clone(), since: now });
        let eta = self.eta(&model, now);
        for (_, waiter) in self.wanted.front().into_iter().flat_map(|wanted| &wanted.waiters) {
            // There is room for this word and the last one; who left meanwhile needs neither.
            let _ = waiter.try_send(Word::Loading(eta));
        }
        Step::Load(model)
    }

    fn has_room(&self) -> bool {
        let loading = usize::from(matches!(self.under_way, Some(Work::Load { .. })));
        self.rules.limit.is_none_or(|limit| self.residents.len() + loading < limit)
    }

    /// The one idle longest goes; if all are busy, the one resident longest is drained; neither before its time.
    fn make_room(&mut self, now: Instant) -> Step {
        let drained = |resident: &Resident| resident.door == Door::Draining && resident.staying == 0;
        let drained = self.residents.iter().find(|(_, resident)| drained(resident));
        let gone = drained.or_else(|| self.idle_longest().filter(|(_, idle)| idle.may_leave_at <= now));
        if let Some(model) = gone.map(|(model, _)| model.clone()) {
            self.stop_draining();
            if let Some(resident) = self.residents.get_mut(&model) {
                resident.door = Door::Unloading;
            }
            self.under_way = Some(Work::Unload);
            return Step::Unload(model);
        }
        if let Some((_, idle)) = self.idle_longest() {
            return Step::Wait(Some(idle.may_leave_at));
        }
        if self.residents.values().any(|resident| resident.door == Door::Draining) {
            return Step::Wait(None);
        }
        match self.residents.values_mut().min_by_key(|resident| resident.since) {
            Some(oldest) if oldest.may_leave_at <= now => {
                oldest.door = Door::Draining;
                Step::Wait(None)
            }
            oldest => Step::Wait(oldest.map(|oldest| oldest.may_leave_at)),
        }
    }

    fn idle_longest(&self) -> Option<(&Arc<str>, &Resident)> {
        let idle = self.residents.iter().filter(|(_, resident)| resident.staying == 0);
        idle.min_by_key(|(_, resident)| resident.idle_since)
    }

    fn stop_draining(&mut self) {
        for resident in self.residents.values_mut().filter(|resident| resident.door == Door::Draining) {
            resident.door = Door::Open;
        }
    }

    pub fn loaded(&mut self, model: &Arc<str>, now: Instant) {
        if let Some(Work::Load { since, .. }) = self.under_way.take()
            && (self.load_times.len() < LOAD_TIMES_MAX || self.load_times.contains_key(model))
        {
            self.load_times.insert(model.clone(), now.duration_since(since));
        }
        self.loads += 1;
        self.changed_at = Some(now);
        self.residents.insert(model.clone(), Resident::new(now, now + self.rules.min_residence));
    }

    pub fn unloaded(&mut self, model: &str, now: Instant) {
        self.unloads += 1;
        self.under_way = None;
        self.changed_at = Some(now);
        self.residents.remove(model);
    }

    /// The load failed: gives those who wait for it.
    pub fn load_failed(&mut self, model: &str, now: Instant) -> Vec<Waiter> {
        self.under_way = None;
        self.changed_at = Some(now);
        let place = self.wanted.iter().position(|wanted| &*wanted.model == model);
        self.take_waiters(place)
    }

    /// The unload failed: gives those it was for. The model stays, as far as we know, and is entered again.
    pub fn unload_failed(&mut self, model: &str, now: Instant) -> Vec<Waiter> {
        self.under_way = None;
        self.changed_at = Some(now);
        if let Some(resident) = self.residents.get_mut(model) {
            resident.door = Door::Open;
        }
        let place = self.wanted.iter().position(|wanted| &*wanted.model != model);
        self.take_waiters(place)
    }

    fn take_waiters(&mut self, place: Option<usize>) -> Vec<Waiter> {
        let wanted = place.and_then(|place| self.wanted.remove(place));
        wanted.into_iter().flat_map(|wanted| wanted.waiters).map(|(_, waiter)| waiter).collect()
    }

    /// The driver died: gives everybody who waits, so that they ask again and get another.
    pub fn driver_died(&mut self) -> Vec<Waiter> {
        self.has_driver = false;
        self.under_way = None;
        for resident in self.residents.values_mut() {
            resident.door = Door::Open;
        }
        self.wanted.drain(..).flat_map(|wanted| wanted.waiters).map(|(_, waiter)| waiter).collect()
    }

    /// Believes what the server said it holds, asked at `asked_at`.
    ///
    /// An answer that crossed a load or an unload of ours says nothing: it may be from before. A model that somebody uses, or
    /// used meanwhile, is kept. What was loaded without us may go at once.
    pub fn learn(&mut self, loaded: Vec<String>, asked_at: Instant, now: Instant) {
        if self.under_way.is_some() || self.changed_at.is_some_and(|changed| changed >= asked_at) {
            return;
        }
        let loaded: HashSet<Arc<str>> = loaded.into_iter().map(Arc::from).collect();
        self.residents.retain(|model, resident| {
            resident.staying > 0 || resident.idle_since >= asked_at || loaded.contains(model)
        });
        for model in loaded {
            self.residents.entry(model).or_insert_with(|| Resident::new(now, now));
        }
    }

    /// When a model should be loaded, as far as that is known: by how long it took the last time. Unknown for whoever waits
    /// behind another model, or for running turns to end.
    pub fn eta(&self, model: &str, now: Instant) -> Option<Duration> {
        let load = *self.load_times.get(model)?;
        match &self.under_way {
            Some(Work::Load { model: loading, since }) if **loading == *model => {
                return Some(load.saturating_sub(now.duration_since(*since)));
            }
            Some(Work::Load { .. }) => return None,
            Some(Work::Unload) | None => {}
        }
        if self.wanted.front().is_some_and(|first| &*first.model != model) {
            return None;
        }
        if self.has_room() || self.under_way.is_some() {
            return Some(load);
        }
        let (_, idle) = self.idle_longest()?;
        Some(idle.may_leave_at.saturating_duration_since(now) + load)
    }

    pub fn standing(&self, model: &str) -> Standing {
        let is_loading =
            matches!(&self.under_way, Some(Work::Load { model: loading, .. }) if **loading == *model);
        Standing {
            is_loaded: self.residents.get(model).is_some_and(|resident| resident.door != Door::Unloading),
            is_awaited: is_loading || self.wanted.iter().any(|wanted| &*wanted.model == model),
        }
    }

    pub fn residents(&self) -> usize {
        self.residents.len()
    }

    pub fn waiting(&self) -> usize {
        self.wanted.iter().map(|wanted| wanted.waiters.len()).sum()
    }
}
