//! Which free slot takes which turn, where a model is on several servers.
//!
//! ```text
//! turns that may run, in fair order ─▶ each takes the best free slot that is left ─▶ the worker of that slot comes for it
//! ```
//!
//! The best slot is on a server that holds the model in memory, and among those on the one that the turn's conversation
//! prefers (weighted rendezvous hashing, so nothing is remembered). Slots of servers that take no turns now do not count, and a
//! turn that a server has failed is left to the others as long as one of them takes turns. Where all slots are busy the
//! first that is free takes what is next, wherever it is.
//!
//! Everybody who looks reckons it anew from what is free then, so nothing is assigned that could be lost: a worker takes
//! what falls to its own slot, and wakes those to whose slots the rest falls. One whose worker is just being restarted is left
//! out until it is back.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use domain::{
    id::{TurnId, UserId},
    limits::Priority,
    rendezvous::Affinity,
};
use tokio::time::Instant;

use super::{
    Inner, WaitingList,
    backlog::{Backlogs, CHARGE, Dispatch},
    holds::Holds,
    seating::Post,
};
use crate::model::{turn::Job, upstream::Upstream};

/// A turn and the slot that takes it.
pub(super) struct Pair {
    pub post: usize,
    pub user: UserId,
    pub priority: Priority,
    pub turn: TurnId,
}

/// A server with free slots.
struct Host<'a> {
    upstream: &'a Arc<Upstream>,
    is_loaded: bool,
    /// The last is taken first.
    free: Vec<usize>,
}

impl WaitingList {
    /// Whether a turn that this server has failed finds slots elsewhere, free or not.
    pub fn has_elsewhere(&self, server: &Arc<Upstream>) -> bool {
        let inner = self.inner.lock();
        inner.posts.values().any(|post| post.serves() && !post.server.is_on(server))
    }

    /// Wakes whoever may run after servers have begun or ceased to take turns.
    pub fn look_again(&self) {
        let bells = self.inner.lock().wake(usize::MAX);
        super::ring(bells);
    }
}

impl Inner {
    /// Gives the turn that falls to slot `me`, if one does, and tells to which idle slots others fall. Those whose deadline has
    /// passed are put into `late`.
    pub(super) fn choose(
        &mut self,
        me: usize,
        now: Instant,
        late: &mut Vec<Job>,
    ) -> (Option<Dispatch>, Vec<usize>) {
        let line = self.backlogs.line(&self.holds);
        let gone: Vec<_> = line.filter(|job| job.is_late(now)).map(|job| (job.user, job.turn)).collect();
        late.extend(gone.into_iter().filter_map(|(user, turn)| self.backlogs.withdraw(user, turn)));
        let pairs = self.pairs(Some(me));
        let others =
            pairs.iter().map(|pair| pair.post).filter(|post| self.idle.contains(post) && *post != me);
        let others = others.collect();
        let mine = pairs.iter().find(|pair| pair.post == me);
        let dispatch = mine.and_then(|pair| self.backlogs.give_out(pair.user, pair.priority, pair.turn));
        (dispatch, others)
    }

    /// All turns that may begin now, each with its slot. `me` is a slot whose worker is there, whatever its address says.
    pub(super) fn pairs(&self, me: Option<usize>) -> Vec<Pair> {
        let mut left = self.free();
        let mut hosts = if left > 0 { self.hosts(me) } else { Vec::new() };
        let serving: Vec<&Arc<Upstream>> =
            self.posts.values().filter(|post| post.serves()).map(|post| post.server.host()).collect();
        let is_left_to_others = |job: &Job, host: &Host<'_>| {
            let failed = job.failed_at.as_ref().map(|failed| &failed.server);
            failed.is_some_and(|failed| {
                Arc::ptr_eq(failed, host.upstream)
                    && serving.iter().any(|other| !Arc::ptr_eq(other, host.upstream))
            })
        };
        let mut pairs = Vec::new();
        for job in self.backlogs.line(&self.holds) {
            if left == 0 || hosts.is_empty() {
                break;
            }
            let key = job.affinity();
            let best = best(&hosts, key, |host| !is_left_to_others(job, host));
            let Some(post) = best.and_then(|best| hosts[best].free.pop()) else { continue };
            hosts.retain(|host| !host.free.is_empty());
            left -= 1;
            pairs.push(Pair { post, user: job.user, priority: job.priority, turn: job.turn });
        }
        pairs
    }

    fn hosts(&self, me: Option<usize>) -> Vec<Host<'_>> {
        let is_free = |index: usize, post: &Post| {
            post.serves() && !post.is_busy() && (me == Some(index) || post.has_worker())
        };
        // Whoever is on the way needs no call; of those who are idle the last one goes, as ever.
        let mut free: Vec<_> = self.posts.iter().filter(|(index, post)| is_free(**index, post)).collect();
        free.sort_by_key(|(index, _)| {
            let idle = self.idle.iter().position(|idle| idle == *index);
            (me == Some(**index), idle.is_none(), idle)
        });
        let mut hosts: Vec<Host<'_>> = Vec::new();
        for (index, post) in free {
            if let Some(host) = hosts.iter_mut().find(|host| post.server.is_on(host.upstream)) {
                host.free.push(*index);
            } else {
                let is_loaded = post.server.standing().is_loaded;
                hosts.push(Host { upstream: post.server.host(), is_loaded, free: vec![*index] });
            }
        }
        hosts
    }
}

/// The place of the server that suits the key best among those that `will_do`.
fn best(hosts: &[Host<'_>], key: Affinity, will_do: impl Fn(&Host<'_>) -> bool) -> Option<usize> {
    let suitable = hosts.iter().enumerate().filter(|(_, host)| will_do(host));
    let rated = suitable.map(|(index, host)| (index, host.is_loaded, host.upstream.score(key)));
    let best = rated.max_by(|(_, loaded, score), (_, other_loaded, other)| {
        loaded.cmp(other_loaded).then(score.total_cmp(other))
    });
    best.map(|(index, ..)| index)
}

impl Backlogs {
    /// The turns that may run, in the order in which they go if all cost the same: of users who are due one each.
    pub(super) fn line<'a>(&'a self, holds: &'a Holds) -> impl Iterator<Item = &'a Job> {
        // A turn's order: its class, its virtual time, its user, and how many of the user's go before it.
        let mut heads: BinaryHeap<Reverse<(Priority, u64, UserId, usize)>> = Priority::ALL
            .into_iter()
            .flat_map(|class| self.order(class).map(move |(start, user)| Reverse((class, start, user, 0))))
            .filter(|Reverse((_, _, user, _))| !holds.passes_over(*user))
            .collect();
        std::iter::from_fn(move || {
            let Reverse((class, time, user, ahead)) = heads.pop()?;
            if !holds.contains(user) && self.job(user, class, ahead + 1).is_some() {
                heads.push(Reverse((class, time + CHARGE, user, ahead + 1)));
            }
            self.job(user, class, ahead)
        })
    }
}
