//! The slots of a list, which may become more or fewer while turns wait and run.
//!
//! A slot that is given up takes no further turn; the one it has runs to its end. Until its worker is gone its index stays
//! taken, since a worker's name follows from it.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use domain::gradient::Gradient;
use ractor::ActorStatus;
use tokio::time::Instant;

use super::{Inner, Limits, WaitingList, ring};
use crate::{
    bell::Bell,
    model::{server::ModelServer, worker::WorkerMessage},
};

/// A slot that a list is given: how its worker is called, and what it talks to.
#[derive(Clone)]
pub(in crate::model) struct Station {
    pub bell: Bell<WorkerMessage>,
    pub server: Arc<ModelServer>,
}

/// One slot as the list sees it.
pub(super) struct Post {
    bell: Bell<WorkerMessage>,
    pub(super) server: Arc<ModelServer>,
    /// Since when it has a turn.
    busy: Option<Instant>,
    tenure: Tenure,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tenure {
    Open,
    /// It takes no more turns. One that it has counts against the limit if others run on the same server.
    Leaving {
        counts: bool,
    },
}

/// A slot to be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) struct Leaving {
    pub index: usize,
    /// Whether the list keeps slots on the same server.
    pub counts: bool,
}

impl Post {
    pub(super) fn new(Station { bell, server }: Station) -> Self {
        Self { bell, server, busy: None, tenure: Tenure::Open }
    }

    /// Whether turns may begin in it, now or when it is free.
    pub(super) fn serves(&self) -> bool {
        self.tenure == Tenure::Open && self.server.takes_turns()
    }

    pub(super) const fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    /// Whether its worker comes when it is called, as far as its address tells.
    pub(super) fn has_worker(&self) -> bool {
        let is_there = |status| matches!(status, ActorStatus::Starting | ActorStatus::Running);
        self.bell.slot().load().is_none_or(|worker| is_there(worker.get_status()))
    }
}

impl WaitingList {
    /// Changes what is let in and how many turns run at once, and wakes whoever may run now. Nobody who waits or runs is
    /// touched.
    pub fn reseat(&self, limits: Limits, new: Vec<(usize, Station)>, leaving: &[Leaving]) {
        let bells = {
            let mut inner = self.inner.lock();
            inner.reseat(limits, new, leaving);
            inner.wake(usize::MAX)
        };
        ring(bells);
    }

    pub fn limits(&self) -> Limits {
        self.inner.lock().limits
    }

    /// The slots that have a turn.
    pub fn busy(&self) -> HashSet<usize> {
        let inner = self.inner.lock();
        inner.posts.iter().filter(|(_, post)| post.busy.is_some()).map(|(index, _)| *index).collect()
    }

    /// So many indices that no slot has, the lowest ones.
    pub fn free_indices(&self, count: usize) -> Vec<usize> {
        let inner = self.inner.lock();
        (0..).filter(|index| !inner.posts.contains_key(index)).take(count).collect()
    }

    /// Resolves when the slot has no turn.
    pub async fn slot_free(&self, index: usize) {
        self.until(|inner| inner.posts.get(&index).is_none_or(|post| post.busy.is_none())).await;
    }

    /// Resolves when every slot that was given up is forgotten.
    pub async fn all_left(&self) {
        self.until(|inner| inner.posts.values().all(|post| post.tenure == Tenure::Open)).await;
    }

    /// The worker of a slot that was given up is gone: its index is free.
    pub fn forget_slot(&self, index: usize) {
        self.inner.lock().posts.remove(&index);
        self.slot_freed.notify_waiters();
    }

    pub(super) async fn until(&self, is_so: impl Fn(&Inner) -> bool) {
        loop {
            let freed = self.slot_freed.notified();
            if is_so(&self.inner.lock()) {
                return;
            }
            freed.await;
        }
    }
}

impl Inner {
    fn reseat(&mut self, limits: Limits, new: Vec<(usize, Station)>, leaving: &[Leaving]) {
        let before = (self.limits.adaptive, self.open_posts());
        self.limits = limits;
        self.promises.resize(limits.places);
        for Leaving { index, counts } in leaving {
            if let Some(post) = self.posts.get_mut(index) {
                post.tenure = Tenure::Leaving { counts: *counts };
            }
            self.idle.retain(|idle| idle != index);
        }
        self.posts.extend(new.into_iter().map(|(index, station)| (index, Post::new(station))));
        self.is_spread = is_spread(&self.posts);
        // What was learnt with another ceiling says little about this one.
        if before != (limits.adaptive, self.open_posts()) {
            let ceiling = u32::try_from(self.open_posts()).unwrap_or(u32::MAX);
            self.gradient = limits.adaptive.then(|| Gradient::new(ceiling));
        }
        self.tell_positions(Instant::now());
    }

    /// Slots that turns may begin in, now or when they are free.
    pub(super) fn serving_posts(&self) -> usize {
        self.posts.values().filter(|post| post.serves()).count()
    }

    pub(super) fn open_posts(&self) -> usize {
        self.posts.values().filter(|post| post.tenure == Tenure::Open).count()
    }

    pub(super) fn is_open(&self, index: usize) -> bool {
        self.posts.get(&index).is_some_and(|post| post.tenure == Tenure::Open)
    }

    /// Whether turns may begin in this slot.
    pub(super) fn is_serving(&self, index: usize) -> bool {
        self.posts.get(&index).is_some_and(Post::serves)
    }

    pub(super) fn take_post(&mut self, index: usize, now: Instant) {
        if let Some(post) = self.posts.get_mut(&index) {
            post.busy = Some(now);
        }
    }

    pub(super) fn leave_post(&mut self, index: usize) {
        if let Some(post) = self.posts.get_mut(&index) {
            post.busy = None;
        }
    }

    pub(super) fn bell(&self, index: usize) -> Option<Bell<WorkerMessage>> {
        self.posts.get(&index).map(|post| post.bell.clone())
    }

    /// Turns in slots, but for those on servers that the list has no more slots on or that take no turns now.
    pub(super) fn running_here(&self) -> usize {
        self.posts.values().filter(|post| post.busy.is_some() && post.counts()).count()
    }

    /// How many turns may begin now.
    pub(super) fn free(&self) -> usize {
        self.limit().saturating_sub(self.running_here())
    }

    pub(super) fn busy_since(&self) -> impl Iterator<Item = Instant> {
        self.posts.values().filter(|post| post.counts()).filter_map(|post| post.busy)
    }
}

impl Post {
    fn counts(&self) -> bool {
        self.tenure != Tenure::Leaving { counts: false } && self.server.takes_turns()
    }
}

/// Whether there are slots on several servers, so that a turn has a choice.
pub(super) fn is_spread(posts: &BTreeMap<usize, Post>) -> bool {
    let mut open = posts.values().filter(|post| post.tenure == Tenure::Open);
    open.next().is_some_and(|first| open.any(|post| !post.server.is_on(first.server.host())))
}
