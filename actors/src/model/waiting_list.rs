//! The fair queue of one model: who waits, whose turn it is, and which idle worker to wake.
//!
//! Interactive turns go before batch turns. Within a class users take turns weighted by the tokens they used recently: each
//! has a virtual time that rises by what its turns cost, and the lowest goes next (start-time fair queueing, Goyal et al.
//! 1996). A newcomer starts at the present, so it neither waits behind another's backlog nor saves up credit while away.
//!
//! Whoever is refused is told when to come back, by the measured rate at which turns end, and finds a place then
//! (`promises`). A turn that cannot start before its deadline is refused on arrival; one whose deadline passes while it
//! waits never reaches a model server.
//!
//! A plain structure behind a mutex that is never held across an await; workers and callers share it.

mod backlog;
mod choice;
mod holds;
mod moving;
mod promises;
mod seating;
mod service_time;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::{
    gradient::Gradient,
    id::{TurnId, UserId},
    limits::Priority,
    reply::FailureCode,
};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

pub(super) use self::seating::{Leaving, Station};
use self::{
    backlog::{Backlogs, Dispatch},
    holds::Holds,
    promises::Promises,
    seating::Post,
    service_time::ServiceTime,
};
use super::{
    metrics::{ModelMetrics, Refused},
    turn::Job,
    worker::WorkerMessage,
};
use crate::{
    bell::Bell,
    reply::{End, Notice},
};

/// Between two ends of turns, as long as none was seen.
const UNMEASURED: Duration = Duration::from_secs(1);

/// Why there is no place, and how long to stay away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// This user has as many turns waiting as one may; until the next of them should start.
    UserFull(Duration),
    /// All places are taken or promised, and nobody's backlog is longer than the newcomer's.
    Full(Duration),
    /// It would not start before its deadline; until it would.
    TooLate(Duration),
    Closed(FailureCode),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub places: usize,
    pub per_user: usize,
    /// Whether the slots in use follow the time to the first token.
    pub adaptive: bool,
}

pub(super) struct WaitingList {
    metrics: Arc<ModelMetrics>,
    inner: Mutex<Inner>,
    /// Turns in slots. Only raised under the lock; read without it between reads of a stream.
    running: AtomicUsize,
    slot_freed: Notify,
}

struct Inner {
    limits: Limits,
    backlogs: Backlogs,
    holds: Holds,
    promises: Promises,
    /// One per slot; an index is a worker's identity here.
    posts: BTreeMap<usize, Post>,
    idle: Vec<usize>,
    /// Whether the slots are on several servers.
    is_spread: bool,
    service: ServiceTime,
    gradient: Option<Gradient>,
    /// Nobody waits any more: a place is given out only with a free slot.
    waits_no_more: bool,
    closed: Option<FailureCode>,
}

/// A place taken but not yet filled; dropping it frees the place.
pub(super) struct Place {
    list: Arc<WaitingList>,
    user: UserId,
    filled: bool,
}

/// A turn in a slot; dropping it frees the slot in the list's eyes.
pub(super) struct Running {
    list: Arc<WaitingList>,
    index: usize,
    user: UserId,
    priority: Priority,
    charged: u64,
    is_begun: bool,
}

/// What a turn took while it had its slot.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    pub tokens: u64,
    /// Without the loading of its model.
    pub service_time: Duration,
    /// From the call of the model server to the first piece of the answer, if one came.
    pub first_token: Option<Duration>,
}

impl WaitingList {
    pub fn new(limits: Limits, stations: Vec<Station>, metrics: Arc<ModelMetrics>) -> Arc<Self> {
        let ceiling = u32::try_from(stations.len()).unwrap_or(u32::MAX);
        let posts = stations.into_iter().map(Post::new).enumerate().collect();
        let inner = Inner {
            limits,
            backlogs: Backlogs::default(),
            holds: Holds::default(),
            promises: Promises::new(limits.places),
            is_spread: seating::is_spread(&posts),
            posts,
            idle: Vec::new(),
            service: ServiceTime::default(),
            gradient: limits.adaptive.then(|| Gradient::new(ceiling)),
            waits_no_more: false,
            closed: None,
        };
        Arc::new(Self {
            metrics,
            inner: Mutex::new(inner),
            running: AtomicUsize::new(0),
            slot_freed: Notify::new(),
        })
    }

    /// Of the model whose queue this is.
    pub fn metrics(&self) -> &Arc<ModelMetrics> {
        &self.metrics
    }

    /// Takes a place for a turn of `user`. When all places are taken or promised, batch turns give way to interactive ones; when
    /// all are taken, the newest turn of a clearly longer backlog gives way to any of its class.
    pub fn reserve(
        self: &Arc<Self>,
        user: UserId,
        priority: Priority,
        deadline: Option<Instant>,
    ) -> Result<Place, Refusal> {
        let now = Instant::now();
        let evicted = {
            let mut inner = self.inner.lock();
            let admitted = inner.admit(user, priority, deadline, now);
            admitted.inspect_err(|refusal| self.count(*refusal))?
        };
        if let Some((job, retry_after)) = evicted {
            self.metrics.refused(Refused::Evicted);
            let message = "the queue is full and this was the newest turn of its longest backlog";
            job.writer.end(End::Shed { message: message.to_owned(), retry_after });
        }
        Ok(Place { list: self.clone(), user, filled: false })
    }

    fn count(&self, refusal: Refusal) {
        match refusal {
            Refusal::UserFull(_) => self.metrics.refused(Refused::UserFull),
            Refusal::Full(_) => self.metrics.refused(Refused::Full),
            Refusal::TooLate(_) => self.metrics.refused(Refused::Deadline),
            Refusal::Closed(_) => {}
        }
    }

    /// Gives the next turn of a user who is not held to worker `index`, or notes that it is idle. The worker
    /// [begins](Running::begin) it or [puts it back](Running::put_back).
    pub fn next(self: &Arc<Self>, index: usize) -> Option<(Job, Running)> {
        let now = Instant::now();
        let mut late = Vec::new();
        let mut bells = Vec::new();
        let next = {
            let mut guard = self.inner.lock();
            let inner = &mut *guard;
            if !inner.is_serving(index) {
                inner.note_idle(index);
                // Whoever rang meant a turn that waits: another worker has to come for it.
                let bells = inner.wake(1);
                drop(guard);
                ring(bells);
                return None;
            }
            let dispatch = match (inner.has_free_slot(), inner.is_spread) {
                (false, _) => None,
                (true, false) => inner.backlogs.next(now, &mut late, &inner.holds),
                (true, true) => {
                    let (dispatch, others) = inner.choose(index, now, &mut late);
                    bells = inner.call(others);
                    dispatch
                }
            };
            late.iter().for_each(|job| inner.forget_if_gone(job.user));
            if let Some(Dispatch { job, charged }) = dispatch {
                inner.idle.retain(|idle| *idle != index);
                inner.take_post(index, now);
                self.running.fetch_add(1, Ordering::Relaxed);
                job.writer.taken_by_worker();
                if !inner.holds.contains(job.user) {
                    inner.tell_positions(now);
                }
                let (user, priority) = (job.user, job.priority);
                Some((job, Running { list: self.clone(), index, user, priority, charged, is_begun: false }))
            } else {
                inner.note_idle(index);
                if inner.backlogs.places() == 0 {
                    inner.promises.clear();
                }
                None
            }
        };
        ring(bells);
        for job in late {
            self.metrics.refused(Refused::Late);
            job.writer.end(End::Failed {
                code: FailureCode::DeadlineExceeded,
                message: "the time of the request was over before a slot was free".to_owned(),
            });
        }
        next
    }

    /// Wakes another worker in place of one that cannot take a turn now.
    pub fn pass_on(&self) {
        let bells = self.inner.lock().wake(1);
        ring(bells);
    }

    /// Takes a waiting turn out, wherever it stands.
    fn withdraw(&self, user: UserId, turn: TurnId) {
        let job = {
            let mut inner = self.inner.lock();
            let job = inner.backlogs.withdraw(user, turn);
            if job.is_some() {
                inner.forget_if_gone(user);
                inner.tell_positions(Instant::now());
            }
            job
        };
        if let Some(job) = job {
            job.writer.end(End::Cancelled);
        }
    }

    /// Ends all who wait as `server_shutting_down`, but for those whose slot is free and whose worker is on its way, if
    /// workers come at all (`is_served`). From now on a newcomer is served if a slot is free for it now, else refused: whoever
    /// stops cannot promise a slot.
    pub fn stop_waiting(&self, is_served: bool) {
        let jobs: Vec<Job> = {
            let mut inner = self.inner.lock();
            if std::mem::replace(&mut inner.waits_no_more, true) {
                return;
            }
            let free = if is_served { inner.free() } else { 0 };
            let is_late =
                |(job, position): &(&Job, usize)| *position > free || inner.holds.contains(job.user);
            let line = inner.backlogs.positions(&inner.holds);
            let late: Vec<_> = line.filter(is_late).map(|(job, _)| (job.user, job.turn)).collect();
            inner.holds.clear();
            late.into_iter().filter_map(|(user, turn)| inner.backlogs.withdraw(user, turn)).collect()
        };
        for job in jobs {
            job.writer.end(closed_with(FailureCode::ServerShuttingDown));
        }
    }

    /// Refuses newcomers and ends all who wait with `code`.
    pub fn close(&self, code: FailureCode) {
        let jobs = {
            let mut inner = self.inner.lock();
            inner.closed = Some(code);
            inner.holds.clear();
            inner.backlogs.take_all()
        };
        for job in jobs {
            job.writer.end(closed_with(code));
        }
    }

    pub fn waiting(&self) -> usize {
        self.inner.lock().backlogs.waiting()
    }

    /// Places taken, filled or not.
    pub fn places(&self) -> usize {
        self.inner.lock().backlogs.places()
    }

    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Resolves when no turn has a slot.
    pub async fn all_slots_free(&self) {
        self.until(|_| self.running() == 0).await;
    }

    /// How many turns are given out at once now.
    pub fn concurrency_limit(&self) -> usize {
        let inner = self.inner.lock();
        inner.limit_of(inner.open_posts())
    }

    /// How long an interactive turn of somebody who has none waiting should wait; `None` before the first measurement.
    pub fn wait(&self) -> Option<Duration> {
        let inner = self.inner.lock();
        inner.wait(inner.backlogs.ahead_of_stranger(Priority::Interactive, &inner.holds), Instant::now())
    }
}

impl Inner {
    /// Reserves a place; returns whose turn gave way for it, and when that one should come back.
    fn admit(
        &mut self,
        user: UserId,
        priority: Priority,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Result<Option<(Job, Duration)>, Refusal> {
        if let Some(code) = self.closed {
            return Err(Refusal::Closed(code));
        }
        let limits = self.limits;
        if self.waits_no_more && !self.has_slot_for(self.backlogs.places() + 1) {
            return Err(Refusal::Closed(FailureCode::ServerShuttingDown));
        }
        if self.backlogs.places_of(user) >= limits.per_user {
            return Err(Refusal::UserFull(self.put_off(user, now)));
        }
        let wait = self.wait(self.backlogs.ahead_of_newcomer(user, priority, &self.holds), now);
        if let (Some(wait), Some(patience)) = (wait, deadline.map(|deadline| deadline.duration_since(now)))
            && wait > patience
        {
            // Nothing is kept for it: whoever sets short deadlines would hold all that can be promised.
            return Err(Refusal::TooLate(promises::as_told(wait - patience)));
        }
        let is_promised = self.promises.claim(user, priority, now);
        let kept = if is_promised { 0 } else { self.promises.kept(priority, now) };
        let taken = self.backlogs.places();
        let mut evicted = None;
        if taken + kept >= limits.places {
            evicted = self.backlogs.evict_batch_for(priority);
            // Places that are only promised are no reason to take one away from an equal.
            if evicted.is_none() && taken >= limits.places {
                evicted = self.backlogs.evict_longest_for(user, priority);
            }
            if evicted.is_none() {
                return Err(Refusal::Full(self.promise(user, priority, now)));
            }
        }
        self.backlogs.reserve(user);
        Ok(evicted.map(|job| {
            self.forget_if_gone(job.user);
            let wait = self.promise(job.user, job.priority, now);
            (job, wait)
        }))
    }

    /// How many turns may run at once now.
    fn limit(&self) -> usize {
        self.limit_of(self.serving_posts())
    }

    fn limit_of(&self, slots: usize) -> usize {
        self.gradient.as_ref().map_or(slots, |gradient| slots.min(gradient.limit() as usize))
    }

    fn has_free_slot(&self) -> bool {
        self.has_slot_for(1)
    }

    /// Whether the turns in slots leave room for so many more.
    fn has_slot_for(&self, places: usize) -> bool {
        places <= self.free()
    }

    /// Between the ends of two turns, while all slots are busy; `None` before the first measurement.
    fn completion(&self, now: Instant) -> Option<Duration> {
        let ages = self.busy_since().map(|since| now.duration_since(since));
        Some(self.service.mean(ages)? / u32::try_from(self.limit().max(1)).unwrap_or(u32::MAX))
    }

    /// When a turn with so many ahead of it should start: nobody waits for slots that are free.
    fn wait(&self, ahead: usize, now: Instant) -> Option<Duration> {
        Some(self.after(ahead, self.completion(now)?))
    }

    fn after(&self, ahead: usize, completion: Duration) -> Duration {
        after(ahead, self.free(), completion)
    }

    /// Promises a place.
    fn promise(&mut self, user: UserId, priority: Priority, now: Instant) -> Duration {
        let completion = self.completion(now).unwrap_or(UNMEASURED);
        self.promises.promise(user, priority, now, completion)
    }

    /// How long `user`, whose places are all taken, should stay away: until its next turn should start, and for each refusal
    /// in a row until one more of its turns should.
    fn put_off(&mut self, user: UserId, now: Instant) -> Duration {
        let completion = self.completion(now).unwrap_or(UNMEASURED);
        let ahead = self.backlogs.ahead_of_first(user, &self.holds).unwrap_or_default();
        let mut wait = self.after(ahead, completion);
        // Users take turns, so one of this user's starts once in so many completions.
        let users = u32::try_from(self.backlogs.users_waiting().max(1)).unwrap_or(u32::MAX);
        let apart = completion.saturating_mul(users);
        if let Some(put_off) = self.backlogs.put_off(user) {
            if let Some(until) = *put_off {
                wait = wait.max(until.duration_since(now).saturating_add(apart).min(promises::AHEAD_MAX));
            }
            *put_off = now.checked_add(wait);
        }
        wait
    }

    /// Tells everyone who waits where they stand now; a turn whose position did not change is not woken.
    fn tell_positions(&self, now: Instant) {
        let (completion, free) = (self.completion(now), self.free());
        for (job, position) in self.backlogs.positions(&self.holds) {
            job.writer.notice(Notice {
                loading: false,
                position: u32::try_from(position).unwrap_or(u32::MAX),
                eta: completion.map(|completion| after(position - 1, free, completion)),
            });
        }
    }

    /// The workers to wake: one for each turn that waits and may run, and no more than `most`. For what may not run because
    /// its server takes no turns now, as many wait at that server's door.
    fn wake(&mut self, most: usize) -> Vec<Bell<WorkerMessage>> {
        let ready = self.backlogs.waiting() - self.holds.held_back(&self.backlogs);
        if self.idle.is_empty() || ready == 0 {
            return Vec::new();
        }
        let (mut called, served): (Vec<usize>, usize) = if self.is_spread {
            let pairs = self.pairs(None);
            let idle = pairs.iter().map(|pair| pair.post).filter(|post| self.idle.contains(post));
            (idle.take(most).collect(), pairs.len())
        } else {
            let may_run = most.min(self.free()).min(ready);
            let idle = self.idle.iter().rev().filter(|index| self.is_serving(**index));
            (idle.take(may_run).copied().collect(), may_run)
        };
        let unserved = ready.saturating_sub(served).min(most - called.len());
        let at_the_door = self.idle.iter().rev().filter(|index| !self.is_serving(**index));
        called.extend(at_the_door.take(unserved).copied());
        self.call(called)
    }

    /// Takes these from the idle ones; returns how to wake them.
    fn call(&mut self, indices: Vec<usize>) -> Vec<Bell<WorkerMessage>> {
        self.idle.retain(|idle| !indices.contains(idle));
        indices.into_iter().filter_map(|index| self.bell(index)).collect()
    }

    /// Its worker waits to be woken, unless the slot was given up.
    fn note_idle(&mut self, index: usize) {
        if self.is_open(index) && !self.idle.contains(&index) {
            self.idle.push(index);
        }
    }
}

/// How long a turn waits that has so many ahead of it, while so many slots are free.
fn after(ahead: usize, free: usize, completion: Duration) -> Duration {
    completion.saturating_mul(u32::try_from((ahead + 1).saturating_sub(free)).unwrap_or(u32::MAX))
}

impl Place {
    /// Puts the turn in line and wakes a worker for it; returns how many turns it waits for, itself included: 0 if it starts at
    /// once. A list that closed meanwhile ends it.
    pub fn fill(mut self, job: Job) -> usize {
        let user = job.user;
        self.list.arm(&job);
        if job.writer.is_cancelled() {
            job.writer.end(End::Cancelled);
            return 0;
        }
        let (position, bells) = {
            let mut inner = self.list.inner.lock();
            let refused = inner.closed.or_else(|| {
                // Its place is counted already.
                let waits = inner.waits_no_more && !inner.has_slot_for(inner.backlogs.places());
                waits.then_some(FailureCode::ServerShuttingDown)
            });
            if let Some(code) = refused {
                drop(inner);
                job.writer.end(closed_with(code));
                return 0;
            }
            self.filled = true;
            let ahead = inner.backlogs.ahead_of_newcomer(user, job.priority, &inner.holds);
            inner.backlogs.fill(job);
            let bells = inner.wake(usize::MAX);
            let free = inner.free();
            if bells.is_empty() || free == 0 || inner.holds.contains(user) {
                inner.tell_positions(Instant::now());
            }
            ((ahead + 1).saturating_sub(free), bells)
        };
        ring(bells);
        // The reader may have left between the check and the queue; the hook found nothing to take out then.
        self.list.sweep_cancelled(user);
        position
    }
}

impl WaitingList {
    /// Has the turn withdrawn when its last reader leaves.
    fn arm(self: &Arc<Self>, job: &Job) {
        let (user, turn) = (job.user, job.turn);
        let list = Arc::downgrade(self);
        job.writer.on_abandon(move || {
            if let Some(list) = Weak::upgrade(&list) {
                list.withdraw(user, turn);
            }
        });
    }

    fn sweep_cancelled(&self, user: UserId) {
        let gone = {
            let mut inner = self.inner.lock();
            let gone = inner.backlogs.withdraw_cancelled(user);
            inner.forget_if_gone(user);
            gone
        };
        for job in gone {
            job.writer.end(End::Cancelled);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.filled {
            self.list.inner.lock().backlogs.release(self.user);
        }
    }
}

impl Running {
    /// Charges what the turn really cost, so that the next choice is fair, and learns from what it took.
    pub fn finished(self, cost: Cost) {
        let mut inner = self.list.inner.lock();
        inner.backlogs.settle(self.user, self.priority, self.charged, cost.tokens);
        inner.service.measured(cost.service_time);
        let running = u32::try_from(inner.running_here()).unwrap_or(u32::MAX);
        if let (Some(gradient), Some(first_token)) = (&mut inner.gradient, cost.first_token) {
            gradient.measured(first_token, running);
        }
        // The lock goes before `self` does, which takes it to free the slot and wake whom a higher limit lets run.
        drop(inner);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let bells = {
            let mut inner = self.list.inner.lock();
            inner.leave_post(self.index);
            if !self.is_begun {
                inner.forget_if_gone(self.user);
            }
            self.list.running.fetch_sub(1, Ordering::Relaxed);
            inner.wake(usize::MAX)
        };
        ring(bells);
        self.list.slot_freed.notify_waiters();
    }
}

fn ring(bells: Vec<Bell<WorkerMessage>>) {
    for bell in bells {
        bell.ring();
    }
}

/// How a turn ends that waits in a list which is closed.
fn closed_with(code: FailureCode) -> End {
    match code {
        FailureCode::ServerShuttingDown => End::Interrupted(code),
        _ => End::Failed { code, message: "the model is no longer offered".to_owned() },
    }
}
