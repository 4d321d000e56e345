//! The arithmetic of fairness: per user a backlog and a virtual time; the lowest goes next.

use std::collections::{BTreeSet, HashMap, VecDeque};

use domain::id::{TurnId, UserId};

use crate::model::turn::Job;

/// What a turn is charged until its real cost is known, in tokens.
const CHARGE: u64 = 256;

/// Users without a turn whose virtual time is still remembered; beyond, the present is good enough for them.
const REMEMBERED_USERS: usize = 10_000;

#[derive(Default)]
pub(super) struct Backlogs {
    users: HashMap<UserId, Backlog>,
    /// Users with a waiting turn, by virtual time.
    order: BTreeSet<(u64, UserId)>,
    /// The virtual time of the last turn given out.
    present: u64,
    places: usize,
    waiting: usize,
}

#[derive(Default)]
struct Backlog {
    jobs: VecDeque<Job>,
    /// Reserved or filled.
    places: usize,
    /// Rises by what the user's turns cost.
    virtual_time: u64,
}

pub(super) struct Dispatch {
    pub job: Job,
    pub charged: u64,
}

impl Backlogs {
    pub fn places(&self) -> usize {
        self.places
    }

    pub fn waiting(&self) -> usize {
        self.waiting
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
        if let Some(backlog) = self.users.get_mut(&user) {
            backlog.places -= 1;
            self.places -= 1;
            if backlog.places == 0 && backlog.virtual_time <= self.present {
                self.users.remove(&user);
            }
        }
    }

    /// Fills a reserved place.
    pub fn fill(&mut self, job: Job) {
        let user = job.user;
        let backlog = self.users.entry(user).or_default();
        if backlog.jobs.is_empty() {
            backlog.virtual_time = backlog.virtual_time.max(self.present);
            self.order.insert((backlog.virtual_time, user));
        }
        backlog.jobs.push_back(job);
        self.waiting += 1;
    }

    /// The next turn by fairness, charged provisionally.
    pub fn next(&mut self) -> Option<Dispatch> {
        let (virtual_time, user) = self.order.pop_first()?;
        self.present = virtual_time;
        let backlog = self.users.get_mut(&user)?;
        let job = backlog.jobs.pop_front()?;
        backlog.virtual_time += CHARGE;
        if !backlog.jobs.is_empty() {
            self.order.insert((backlog.virtual_time, user));
        }
        self.waiting -= 1;
        self.release(user);
        Some(Dispatch { job, charged: CHARGE })
    }

    /// Replaces a provisional charge by the real cost.
    pub fn settle(&mut self, user: UserId, charged: u64, cost: u64) {
        let Some(backlog) = self.users.get_mut(&user) else { return };
        let before = backlog.virtual_time;
        backlog.virtual_time = (before + cost).saturating_sub(charged);
        if self.order.remove(&(before, user)) {
            self.order.insert((backlog.virtual_time, user));
        }
    }

    pub fn withdraw(&mut self, user: UserId, turn: TurnId) -> Option<Job> {
        let backlog = self.users.get_mut(&user)?;
        let index = backlog.jobs.iter().position(|job| job.turn == turn)?;
        let job = backlog.jobs.remove(index)?;
        self.after_removal(user);
        Some(job)
    }

    pub fn withdraw_cancelled(&mut self, user: UserId) -> Vec<Job> {
        let Some(backlog) = self.users.get(&user) else { return Vec::new() };
        let gone: Vec<TurnId> =
            backlog.jobs.iter().filter(|job| job.writer.is_cancelled()).map(|job| job.turn).collect();
        gone.into_iter().filter_map(|turn| self.withdraw(user, turn)).collect()
    }

    /// The newest waiting turn of the longest backlog, if that is longer than what `user` would have with one more.
    pub fn evict_for(&mut self, user: UserId) -> Option<Job> {
        let own = self.places_of(user) + 1;
        let (longest, _) = self
            .users
            .iter()
            .filter(|(_, backlog)| backlog.jobs.len() > own)
            .max_by_key(|(_, backlog)| backlog.jobs.len())?;
        let longest = *longest;
        let job = self.users.get_mut(&longest)?.jobs.pop_back()?;
        self.after_removal(longest);
        Some(job)
    }

    pub fn take_all(&mut self) -> Vec<Job> {
        let users: Vec<UserId> = self.order.iter().map(|(_, user)| *user).collect();
        let mut jobs = Vec::with_capacity(self.waiting);
        for user in users {
            while let Some(job) = self.users.get_mut(&user).and_then(|backlog| backlog.jobs.pop_front()) {
                jobs.push(job);
                self.after_removal(user);
            }
        }
        jobs
    }

    fn after_removal(&mut self, user: UserId) {
        if let Some(backlog) = self.users.get(&user)
            && backlog.jobs.is_empty()
        {
            self.order.remove(&(backlog.virtual_time, user));
        }
        self.waiting -= 1;
        self.release(user);
    }

    /// Every waiting turn with its place in line, if all turns cost the same: 1 is next.
    pub fn positions(&self) -> impl Iterator<Item = (&Job, usize)> {
        let mut line: Vec<(u64, UserId, &Job)> = self
            .order
            .iter()
            .filter_map(|(start, user)| Some((*start, *user, &self.users.get(user)?.jobs)))
            .flat_map(|(start, user, jobs)| {
                jobs.iter().enumerate().map(move |(ahead, job)| (start + CHARGE * ahead as u64, user, job))
            })
            .collect();
        line.sort_by_key(|(start, user, _)| (*start, *user));
        line.into_iter().enumerate().map(|(index, (_, _, job))| (job, index + 1))
    }
}
