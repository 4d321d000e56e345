//! What waits in a lane, and which of it is due.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::Job;
use crate::db::metrics::Kept;

/// The most changes in one transaction.
pub(in crate::db) const BATCH_MAX: usize = 256;
/// The most text in one transaction, unless a single change has more.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Above this much waiting text checkpoints are dropped rather than queued.
const WAITING_BYTES_SPARE: usize = 16 * 1024 * 1024;
/// How long after a failure what was kept is tried again.
pub(in crate::db) const RETRY_BACKOFF: Duration = Duration::from_secs(1);

/// What a writer finds when it looks.
pub(in crate::db) enum Next {
    Batch(VecDeque<Job>),
    /// Nothing is due before then.
    At(Instant),
    Idle,
}

pub(super) struct Queue {
    is_open: bool,
    linger: Duration,
    kept_bytes_max: usize,
    urgent: VecDeque<Job>,
    usage: VecDeque<Job>,
    /// When the first of `usage` has waited long enough.
    usage_due: Instant,
    kept: VecDeque<Job>,
    /// When `kept` is tried again.
    kept_due: Instant,
    waiting_bytes: usize,
    kept_bytes: usize,
    shown: Kept,
}

impl Queue {
    pub(super) fn new(linger: Duration, kept_bytes_max: usize, shown: Kept) -> Self {
        let now = Instant::now();
        Self {
            is_open: true,
            linger,
            kept_bytes_max,
            urgent: VecDeque::new(),
            usage: VecDeque::new(),
            usage_due: now,
            kept: VecDeque::new(),
            kept_due: now,
            waiting_bytes: 0,
            kept_bytes: 0,
            shown,
        }
    }

    pub(super) const fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) const fn set_open(&mut self, is_open: bool) {
        self.is_open = is_open;
    }

    pub(super) const fn has_room_to_spare(&self) -> bool {
        self.waiting_bytes < WAITING_BYTES_SPARE
    }

    #[cfg(test)]
    pub(super) fn has_waiting(&self) -> bool {
        !self.urgent.is_empty()
    }

    /// Queues a job; says whether the writer must look now, be it only to set its alarm.
    pub(super) fn push(&mut self, job: Job) -> bool {
        self.waiting_bytes += job.size_bytes();
        if !job.may_linger() {
            self.urgent.push_back(job);
            return true;
        }
        if self.usage.is_empty() {
            self.usage_due = Instant::now() + self.linger;
        }
        self.usage.push_back(job);
        matches!(self.usage.len(), 1 | BATCH_MAX)
    }

    /// Puts jobs before all others, in their order.
    pub(super) fn push_front(&mut self, jobs: Vec<Job>) {
        for job in jobs.into_iter().rev() {
            self.waiting_bytes += job.size_bytes();
            self.urgent.push_front(job);
        }
    }

    pub(super) fn next(&mut self, now: Instant, all: bool) -> Next {
        let mut batch = Batch::default();
        if all || self.kept_due <= now {
            batch.fill(&mut self.kept, &mut self.kept_bytes);
        }
        batch.fill(&mut self.urgent, &mut self.waiting_bytes);
        let has_company = !batch.jobs.is_empty() || self.usage.len() >= BATCH_MAX;
        if all || has_company || self.usage_due <= now {
            batch.fill(&mut self.usage, &mut self.waiting_bytes);
        }
        if !batch.jobs.is_empty() {
            return Next::Batch(batch.jobs);
        }
        let usage = (!self.usage.is_empty()).then_some(self.usage_due);
        let kept = (!self.kept.is_empty()).then_some(self.kept_due);
        usage.into_iter().chain(kept).min().map_or(Next::Idle, Next::At)
    }

    /// Everything but what was already kept.
    pub(super) fn take_waiting(&mut self) -> VecDeque<Job> {
        self.waiting_bytes = 0;
        let mut waiting = std::mem::take(&mut self.urgent);
        waiting.append(&mut self.usage);
        waiting
    }

    pub(super) fn take_kept(&mut self) -> VecDeque<Job> {
        self.kept_bytes = 0;
        std::mem::take(&mut self.kept)
    }

    /// Keeps a settlement for a later try, or hands it back when its text is more than may be kept.
    pub(super) fn keep(&mut self, mut job: Job, now: Instant) -> Option<Job> {
        self.kept_due = now + RETRY_BACKOFF;
        if self.kept_bytes + job.size_bytes() > self.kept_bytes_max {
            return Some(job);
        }
        job.show_kept(&self.shown);
        self.kept_bytes += job.size_bytes();
        self.kept.push_back(job);
        None
    }

    pub(super) const fn all_is_due(&mut self, now: Instant) {
        (self.usage_due, self.kept_due) = (now, now);
    }

    pub(super) const fn kept_is_due(&mut self, now: Instant) {
        self.kept_due = now;
    }
}

#[derive(Default)]
struct Batch {
    jobs: VecDeque<Job>,
    bytes: usize,
}

impl Batch {
    /// Takes from `queue`, in order, what still fits; drops jobs whose caller left.
    fn fill(&mut self, queue: &mut VecDeque<Job>, queue_bytes: &mut usize) {
        while self.jobs.len() < BATCH_MAX
            && let Some(job) = queue.front()
        {
            let size = job.size_bytes();
            let is_abandoned = job.is_abandoned();
            if !is_abandoned && !self.jobs.is_empty() && self.bytes + size > BATCH_BYTES_MAX {
                return;
            }
            *queue_bytes = queue_bytes.saturating_sub(size);
            let Some(job) = queue.pop_front() else { return };
            if !is_abandoned {
                self.bytes += size;
                self.jobs.push_back(job);
            }
        }
    }
}
