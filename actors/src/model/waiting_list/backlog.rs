//! The arithmetic of fairness: per class and user a line and a virtual time; the lowest goes next, interactive first.
//!
//! A user's two lines share the user's places, and what a turn costs raises the virtual time of both. They are two times all the
//! same, because each class is served at its own pace: next to those who only have batch turns, somebody who also asks
//! interactively is neither let in before the others nor put behind all that was served meanwhile.

use std::collections::{BTreeSet, HashMap, VecDeque};

use domain::{
    id::{TurnId, UserId},
    limits::Priority,
};
use tokio::time::Instant;

use super::holds::Holds;
use crate::model::turn::Job;

/// What a turn is charged until its real cost is known, in tokens.
pub(super) const CHARGE: u64 = 256;

/// What a turn costs at least: however little it said, it had a slot. Without it, turns that fail at once would be free, and
/// their user always next.
pub(super) const COST_MIN: u64 = 16;

/// How far turns of one class can set their user back in the other, in tokens.
const DEBT_MAX: u64 = 64 * CHARGE;

/// Users without a turn whose virtual time is still remembered; beyond, the present is good enough for them.
const REMEMBERED_USERS: usize = 10_000;

#[derive(Default)]
pub(super) struct Backlogs {
    users: HashMap<UserId, Backlog>,
    /// By [`Priority`], in the order of serving.
    classes: [Class; 2],
    places: usize,
}

#[derive(Default)]
struct Class {
    /// Users with a waiting turn, by virtual time.
    order: BTreeSet<(u64, UserId)>,
    /// The virtual time of whoever comes new: at least that of the last turn given out. It never goes back.
    present: u64,
    /// What was served and has not moved the present yet, in tokens: less than one for each user.
    unshared: u64,
    waiting: usize,
}

#[derive(Default)]
struct Backlog {
    lines: [Line; 2],
    /// Reserved or filled, of both classes.
    places: usize,
    /// Until when this user was last asked to stay away because its places were taken.
    put_off: Option<Instant>,
}

#[derive(Default)]
struct Line {
    jobs: VecDeque<Job>,
    /// Rises by what the user's turns cost.
    virtual_time: u64,
}

/// A turn that was given out.
pub(super) struct Dispatch {
    pub job: Job,
    pub charged: u64,
}

const fn index(priority: Priority) -> usize {
    priority as usize
}

impl Class {
    /// Moves the present on by the share of what was served that was due to each user: the one who was served, and those who
    /// wait (the virtual time of weighted fair queueing). Were it to stand still while ever new users come, they would all
    /// begin at it, and whoever was served a moment ago would wait behind all of them.
    fn move_present(&mut self, served: u64) {
        self.unshared += served;
        let users = self.order.len() as u64 + 1;
        self.present += self.unshared / users;
        self.unshared %= users;
    }
}

impl Backlog {
    fn line(&mut self, priority: Priority) -> &mut Line {
        &mut self.lines[index(priority)]
    }

    fn waiting(&self) -> usize {
        self.lines.iter().map(|line| line.jobs.len()).sum()
    }

    fn waiting_in(&self, priority: Priority) -> usize {
        self.lines[index(priority)].jobs.len()
    }
}

impl Backlogs {
    /// Places taken, filled or not.
    pub fn places(&self) -> usize {
        self.places
    }

    pub fn waiting(&self) -> usize {
        self.classes.iter().map(|class| class.waiting).sum()
    }

    pub fn places_of(&self, user: UserId) -> usize {
        self.users.get(&user).map_or(0, |backlog| backlog.places)
    }

    pub fn reserve(&mut self, user: UserId) {
        if self.users.len() >= REMEMBERED_USERS {
            self.users.retain(|_, backlog| backlog.places > 0);
        }
        self.users.entry(user).or_default().places += 1;
        self.places += 1;
    }

    pub fn release(&mut self, user: UserId) {
        let Some(backlog) = self.users.get_mut(&user) else { return };
        backlog.places -= 1;
        self.places -= 1;
        let mut lines = backlog.lines.iter().zip(&self.classes);
        if backlog.places == 0 && lines.all(|(line, class)| line.virtual_time <= class.present) {
            self.users.remove(&user);
        }
    }

    /// Fills a reserved place.
    pub fn fill(&mut self, job: Job) {
        let (user, priority) = (job.user, job.priority);
        let class = &mut self.classes[index(priority)];
        let line = self.users.entry(user).or_default().line(priority);
        if line.jobs.is_empty() {
            line.virtual_time = line.virtual_time.max(class.present);
            class.order.insert((line.virtual_time, user));
        }
        line.jobs.push_back(job);
        class.waiting += 1;
    }

    /// The next turn by class and fairness of a user who is not passed over, charged provisionally. Those ahead of it whose
    /// deadline has passed are put into `late`, and cost nothing.
    pub fn next(&mut self, now: Instant, late: &mut Vec<Job>, holds: &Holds) -> Option<Dispatch> {
        loop {
            let (priority, virtual_time, user) = self.first(holds)?;
            let job = self.users.get_mut(&user)?.line(priority).jobs.pop_front()?;
            if job.is_late(now) {
                late.push(job);
                self.after_removal(user, priority);
                continue;
            }
            return Some(self.charge(user, priority, virtual_time, job));
        }
    }

    /// Gives out this very turn, charged provisionally.
    pub fn give_out(&mut self, user: UserId, priority: Priority, turn: TurnId) -> Option<Dispatch> {
        let line = self.users.get_mut(&user)?.line(priority);
        let place = line.jobs.iter().position(|job| job.turn == turn)?;
        let (virtual_time, job) = (line.virtual_time, line.jobs.remove(place)?);
        Some(self.charge(user, priority, virtual_time, job))
    }

    fn charge(&mut self, user: UserId, priority: Priority, virtual_time: u64, job: Job) -> Dispatch {
        let class = &mut self.classes[index(priority)];
        class.present = class.present.max(virtual_time);
        self.move_line(user, priority, |time| time + CHARGE);
        self.after_removal(user, priority);
        Dispatch { job, charged: CHARGE }
    }

    /// Users with a waiting turn of this class and their virtual times, the lowest first.
    pub(super) fn order(&self, priority: Priority) -> impl Iterator<Item = (u64, UserId)> {
        self.classes[index(priority)].order.iter().copied()
    }

    /// The user's turn of this class that has so many ahead of it.
    pub(super) fn job(&self, user: UserId, priority: Priority, ahead: usize) -> Option<&Job> {
        self.users.get(&user)?.lines[index(priority)].jobs.get(ahead)
    }

    fn first(&self, holds: &Holds) -> Option<(Priority, u64, UserId)> {
        Priority::ALL.into_iter().find_map(|class| {
            let mut order = self.classes[index(class)].order.iter();
            let (virtual_time, user) = order.find(|(_, user)| !holds.passes_over(*user))?;
            Some((class, *virtual_time, *user))
        })
    }

    /// Takes back a turn that was given out and has cost nothing, before those of its user that came later.
    pub fn put_back(&mut self, Dispatch { job, charged }: Dispatch) {
        let (user, priority) = (job.user, job.priority);
        self.move_line(user, priority, |time| time.saturating_sub(charged));
        let class = &mut self.classes[index(priority)];
        let backlog = self.users.entry(user).or_default();
        backlog.places += 1;
        let line = backlog.line(priority);
        if line.jobs.is_empty() {
            class.order.insert((line.virtual_time, user));
        }
        // Several may come back in any order; identities are in that of their making.
        let place = line.jobs.iter().take_while(|other| other.turn < job.turn).count();
        line.jobs.insert(place, job);
        class.waiting += 1;
        self.places += 1;
    }

    /// Lets a user who was passed over save up nothing by it.
    pub fn catch_up(&mut self, user: UserId) {
        for class in Priority::ALL {
            let present = self.classes[index(class)].present;
            self.move_line(user, class, |time| time.max(present));
        }
    }

    pub fn waiting_of(&self, user: UserId) -> usize {
        self.users.get(&user).map_or(0, Backlog::waiting)
    }

    /// Replaces a provisional charge by the real cost, in both classes.
    pub fn settle(&mut self, user: UserId, priority: Priority, charged: u64, cost: u64) {
        let cost = cost.max(COST_MIN);
        self.classes[index(priority)].move_present(cost);
        for class in Priority::ALL {
            let most = self.classes[index(class)].present.saturating_add(DEBT_MAX);
            self.move_line(user, class, |time| {
                if class == priority {
                    time.saturating_add(cost).saturating_sub(charged)
                } else {
                    time.saturating_add(cost).min(time.max(most))
                }
            });
        }
    }

    /// Changes a line's virtual time, and its place in the order if it has one.
    fn move_line(&mut self, user: UserId, priority: Priority, change: impl FnOnce(u64) -> u64) {
        let Some(backlog) = self.users.get_mut(&user) else { return };
        let line = backlog.line(priority);
        let before = line.virtual_time;
        line.virtual_time = change(before);
        let order = &mut self.classes[index(priority)].order;
        if order.remove(&(before, user)) {
            order.insert((line.virtual_time, user));
        }
    }

    pub fn withdraw(&mut self, user: UserId, turn: TurnId) -> Option<Job> {
        for priority in Priority::ALL {
            let jobs = &mut self.users.get_mut(&user)?.line(priority).jobs;
            if let Some(index) = jobs.iter().position(|job| job.turn == turn) {
                let job = jobs.remove(index)?;
                self.after_removal(user, priority);
                return Some(job);
            }
        }
        None
    }

    pub fn withdraw_cancelled(&mut self, user: UserId) -> Vec<Job> {
        let Some(backlog) = self.users.get(&user) else { return Vec::new() };
        let jobs = backlog.lines.iter().flat_map(|line| &line.jobs);
        let gone: Vec<TurnId> = jobs.filter(|job| job.writer.is_cancelled()).map(|job| job.turn).collect();
        gone.into_iter().filter_map(|turn| self.withdraw(user, turn)).collect()
    }

    /// Takes out the batch turn that makes room for an interactive one: the newest of the longest backlog of them, whoever's.
    pub fn evict_batch_for(&mut self, priority: Priority) -> Option<Job> {
        let count = |backlog: &Backlog| backlog.waiting_in(Priority::Batch);
        if priority < Priority::Batch { self.evict(Priority::Batch, count, 0) } else { None }
    }

    /// Takes out the turn that makes room for one of `user`: the newest of a backlog that is longer than the user's would be. A
    /// batch turn never costs an interactive one its place.
    pub fn evict_longest_for(&mut self, user: UserId, priority: Priority) -> Option<Job> {
        let own = self.places_of(user) + 1;
        self.evict(priority, Backlog::waiting, own)
    }

    /// Takes out the newest turn of `priority` from the backlog that is the longest by `length` and longer than `least`.
    fn evict(&mut self, priority: Priority, length: impl Fn(&Backlog) -> usize, least: usize) -> Option<Job> {
        let users = self.classes[index(priority)].order.iter().map(|(_, user)| *user);
        let lengths = users.filter_map(|user| Some((length(self.users.get(&user)?), user)));
        let (_, longest) = lengths.filter(|(length, _)| *length > least).max()?;
        let job = self.users.get_mut(&longest)?.line(priority).jobs.pop_back()?;
        self.after_removal(longest, priority);
        Some(job)
    }

    pub fn take_all(&mut self) -> Vec<Job> {
        let mut jobs = Vec::with_capacity(self.waiting());
        for priority in Priority::ALL {
            while let Some(&(_, user)) = self.classes[index(priority)].order.first() {
                let Some(job) = self.users.get_mut(&user).and_then(|all| all.line(priority).jobs.pop_front())
                else {
                    break;
                };
                jobs.push(job);
                self.after_removal(user, priority);
            }
        }
        jobs
    }

    fn after_removal(&mut self, user: UserId, priority: Priority) {
        let class = &mut self.classes[index(priority)];
        if let Some(backlog) = self.users.get_mut(&user) {
            let line = backlog.line(priority);
            if line.jobs.is_empty() {
                class.order.remove(&(line.virtual_time, user));
            }
        }
        class.waiting -= 1;
        self.release(user);
    }

    /// How many waiting turns would go before the next one of `user`, if all cost the same.
    pub fn ahead_of_newcomer(&self, user: UserId, priority: Priority, holds: &Holds) -> usize {
        let present = self.classes[index(priority)].present;
        let line = self.users.get(&user).map(|backlog| &backlog.lines[index(priority)]);
        let (virtual_time, own) = line.map_or((0, 0), |line| (line.virtual_time, line.jobs.len()));
        self.ahead_of(virtual_time.max(present) + CHARGE * own as u64, user, priority, holds)
    }

    /// How many waiting turns would go before the next one of somebody who has none.
    pub fn ahead_of_stranger(&self, priority: Priority, holds: &Holds) -> usize {
        let stranger = UserId::from(uuid::Uuid::max());
        self.ahead_of(self.classes[index(priority)].present, stranger, priority, holds)
    }

    /// How many waiting turns go before the first one of `user`; `None` if none of the user's waits.
    pub fn ahead_of_first(&self, user: UserId, holds: &Holds) -> Option<usize> {
        let backlog = self.users.get(&user)?;
        let priority = Priority::ALL.into_iter().find(|class| backlog.waiting_in(*class) > 0)?;
        Some(self.ahead_of(backlog.lines[index(priority)].virtual_time, user, priority, holds))
    }

    /// Those who are passed over are ahead of nobody.
    fn ahead_of(&self, virtual_time: u64, user: UserId, priority: Priority, holds: &Holds) -> usize {
        let higher = || Priority::ALL.into_iter().take(index(priority));
        let before: usize = higher().map(|class| self.classes[index(class)].waiting).sum();
        let passed_over = holds.passed_over().filter_map(|user| self.users.get(&user));
        let not_before: usize =
            passed_over.flat_map(|backlog| higher().map(|class| backlog.waiting_in(class))).sum();
        let order = self.classes[index(priority)].order.range(..(virtual_time, user));
        let order = order.filter(|(_, other)| !holds.passes_over(*other));
        let beside = order.map(|(start, other)| {
            let jobs = self.users.get(other).map_or(0, |backlog| backlog.waiting_in(priority));
            let gap = virtual_time - start;
            let sooner = gap / CHARGE + u64::from(!gap.is_multiple_of(CHARGE) || *other < user);
            jobs.min(usize::try_from(sooner).unwrap_or(usize::MAX))
        });
        before - not_before + beside.sum::<usize>()
    }

    /// Users with a waiting turn.
    pub fn users_waiting(&self) -> usize {
        self.classes.iter().map(|class| class.order.len()).sum()
    }

    /// Until when the user was last asked to stay away, for whoever asks it again.
    pub fn put_off(&mut self, user: UserId) -> Option<&mut Option<Instant>> {
        self.users.get_mut(&user).map(|backlog| &mut backlog.put_off)
    }

    /// Every waiting turn with its place in line, if all turns cost the same: 1 is next. Held users stand last.
    pub fn positions(&self, holds: &Holds) -> impl Iterator<Item = (&Job, usize)> {
        let mut line: Vec<(Priority, u64, UserId, &Job)> = Vec::with_capacity(self.waiting());
        for priority in Priority::ALL {
            for (start, user) in &self.classes[index(priority)].order {
                let jobs = self.users.get(user).into_iter().flat_map(|all| &all.lines[index(priority)].jobs);
                let turns = jobs.enumerate();
                line.extend(turns.map(|(ahead, job)| (priority, start + CHARGE * ahead as u64, *user, job)));
            }
        }
        line.sort_by_key(|(priority, start, user, _)| (holds.contains(*user), *priority, *start, *user));
        line.into_iter().enumerate().map(|(index, (.., job))| (job, index + 1))
    }
}
