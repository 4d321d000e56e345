//! A write lane: the queue of one DbWriter, kept outside it so that what waits survives its death.
//!
//! ```text
//!            ┌ urgent  somebody waits, or must see it soon
//! place ──▶  ├ usage   the ledger's rows of turns that are not stored: may linger for company
//!            └ kept    settlements that neither the database nor the disk took: due again after a backoff
//! ```
//!
//! A settlement that the database is away for goes to the disk ([`Spill`]) and out of the lane; its reader is told that it
//! is stored. Only what the disk does not take stays here.
//!
//! Every job holds a place in the lane's gate until it is dropped, in whichever of the three it lies and while it is in
//! the writer's hand: the lane as a whole is bounded by the gate.

mod job;
mod queue;
mod unsettled;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;
use uuid::Uuid;

use self::queue::Queue;
pub(super) use self::{
    job::{Answer, Job},
    queue::{Next, RETRY_BACKOFF},
    unsettled::Unsettled,
};
use super::{
    DbError, Writing,
    message::{Write, Written},
    metrics::DbMetrics,
    spill::{Frames, Spill},
    writer::WriterMessage,
};
use crate::{
    bell::Bell,
    handle::{Gate, Permit, Slot},
};

pub(super) struct Lane {
    gate: Gate,
    bell: Bell<WriterMessage>,
    queue: Mutex<Queue>,
    /// Shared by all lanes.
    unsettled: Arc<Unsettled>,
    /// Shared by all lanes.
    writing: Writing,
    /// Shared by all lanes.
    spill: Arc<Spill>,
    metrics: DbMetrics,
}

/// All changes of one turn, session or account go to one lane, which keeps their order.
pub(super) fn lane_of(lanes: &[Arc<Lane>], id: Uuid) -> &Lane {
    // UUIDv7 ends in random bits.
    let number = usize::try_from(id.as_u128() % lanes.len() as u128).unwrap_or(0);
    &lanes[number]
}

impl Lane {
    pub(super) fn new(
        gate: Gate,
        linger: Duration,
        kept_bytes: usize,
        unsettled: Arc<Unsettled>,
        writing: Writing,
        spill: Arc<Spill>,
        metrics: DbMetrics,
    ) -> Self {
        let bell = Bell::new(Slot::new(), || WriterMessage::Wake);
        Self {
            gate,
            bell,
            queue: Mutex::new(Queue::new(linger, kept_bytes, metrics.kept.clone())),
            unsettled,
            writing,
            spill,
            metrics,
        }
    }

    pub(super) fn bell(&self) -> &Bell<WriterMessage> {
        &self.bell
    }

    /// Takes a place ahead of the job that will need it; `None` when all places are taken.
    pub(super) fn reserve(&self) -> Option<Permit> {
        self.gate.try_enter()
    }

    /// Queues a change and wakes the writer. A lane that was shut drops it at once.
    pub(super) fn place(&self, mut job: Job) {
        job.count(&self.unsettled);
        let (refused, is_due) = {
            let mut queue = self.queue.lock();
            if queue.is_open() { (None, queue.push(job)) } else { (Some(job), false) }
        };
        if let Some(job) = refused {
            self.lose(job, "the service is stopping");
        }
        if is_due {
            self.bell.ring();
        }
    }

    /// Queues a checkpoint if there is room to spare; a later one covers it.
    pub(super) fn place_checkpoint(&self, write: Write) {
        self.place_if(true, write, &self.metrics.dropped_checkpoints);
    }

    /// Queues the opening of a ledger's row if there is room; the settlement writes the row too.
    pub(super) fn place_open(&self, write: Write) {
        self.place_if(true, write, &self.metrics.dropped_opens);
    }

    /// Queues an audit entry that nobody waits for. Whoever is refused often must not fill the lane for those who are
    /// not: the other half of it stays free.
    pub(super) fn place_note(&self, write: Write) {
        self.place_if(
            self.gate.in_use() < self.gate.capacity().div_ceil(2),
            write,
            &self.metrics.dropped_notes,
        );
    }

    fn place_if(&self, is_welcome: bool, write: Write, dropped: &Counter) {
        let has_room = is_welcome && self.queue.lock().has_room_to_spare();
        match has_room.then(|| self.gate.try_enter()).flatten() {
            Some(permit) => self.place(Job::new(write, Answer::Nobody, permit)),
            None => {
                dropped.inc();
            }
        }
    }

    /// What the writer should do now. With `all`, nothing lingers and nothing waits out a backoff.
    pub(super) fn next(&self, all: bool) -> Next {
        self.queue.lock().next(Instant::now(), all)
    }

    /// Puts back what a dying writer had in hand: what may run twice goes to the head of the queue, what may not is
    /// dropped, and its outcome is unknown.
    pub(super) fn put_back(&self, jobs: impl DoubleEndedIterator<Item = Job>) {
        let (again, unknown): (Vec<_>, Vec<_>) = jobs.partition(|job| job.write.is_repeatable());
        self.queue.lock().push_front(again);
        for job in unknown {
            self.lose(job, "the writer died with the change in hand");
        }
        self.bell.ring();
    }

    /// The database is away: everybody who waits is told, and settlements are kept for its return, on the disk if it takes
    /// them.
    pub(super) async fn away(&self, batch: &mut InHand, error: &DbError) {
        self.writing.failed(error);
        self.spill.database_is_away(error);
        let waiting = self.queue.lock().take_waiting();
        let (ends, others) = batch.jobs.drain(..).partition::<VecDeque<_>, _>(Job::is_settlement);
        batch.jobs = ends;
        for job in others {
            self.give_up(job, error);
        }
        let (ends, others) = waiting.into_iter().partition::<VecDeque<_>, _>(Job::is_settlement);
        batch.jobs.extend(ends);
        for job in others {
            self.give_up(job, &error.not_begun());
        }
        self.to_disk(batch).await;
        while let Some(mut job) = batch.jobs.pop_front() {
            job.tell(Err(error.clone()));
            let refused = self.queue.lock().keep(job, Instant::now());
            if let Some(job) = refused {
                self.give_up(job, &DbError::Overloaded);
            }
        }
    }

    /// Puts settlements on the disk, as many as it takes, and tells whoever waits for them.
    async fn to_disk(&self, ends: &mut InHand) {
        while self.spill.has_disk() {
            let settlements = ends.jobs.iter().filter_map(|job| job.write.as_settlement());
            let frames = Frames::of(settlements, self.spill.room());
            let records = frames.records;
            if records == 0 || !self.spill.keep(frames).await {
                return;
            }
            for job in (0..records).map_while(|_| ends.jobs.pop_front()) {
                job.answer(Ok(Written::Done));
            }
        }
    }

    /// Resolves when the service ends and waits for the database no more.
    pub(super) async fn database_given_up(&self) {
        self.spill.database_given_up().await;
    }

    /// Nothing lingers any more, and what was kept is tried again at once.
    pub(super) fn hurry(&self) {
        self.queue.lock().all_is_due(Instant::now());
        self.bell.ring();
    }

    /// The database answered: what was kept for it is due.
    pub(super) fn is_back(&self) {
        self.writing.succeeded();
        self.spill.database_answers();
        self.queue.lock().kept_is_due(Instant::now());
    }

    /// Answers a change that will not be written, for what the database made of it.
    pub(super) fn give_up(&self, job: Job, error: &DbError) {
        self.count_lost(&job, error);
        job.answer(Err(error.clone()));
    }

    /// Ends a change of which the database says nothing.
    fn lose(&self, job: Job, why: &str) {
        let error = DbError::Unavailable(why.to_owned());
        self.count_lost(&job, &error);
        job.lose(error);
    }

    /// Operators must see the settlements, ledger rows and audit entries among what is not written.
    fn count_lost(&self, job: &Job, error: &DbError) {
        match &job.write {
            // It is still on the disk; who replays it knows where it goes.
            Write::Replay(settlement) if !error.is_away() => self.unsettled.give_up(settlement.turn),
            Write::Settle(settlement) => {
                self.unsettled.give_up(settlement.turn);
                self.metrics.lost_settlements.inc();
                tracing::error!(turn = %settlement.turn, %error, "settlement given up");
            }
            Write::OpenTurn(_) => {
                self.metrics.dropped_opens.inc();
            }
            Write::Note(_) => {
                self.metrics.dropped_notes.inc();
            }
            _ => {}
        }
    }

    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.gate.in_use()
    }

    #[cfg(test)]
    pub(super) fn has_waiting(&self) -> bool {
        self.queue.lock().has_waiting()
    }

    pub(super) fn open(&self) {
        self.queue.lock().set_open(true);
    }

    /// Ends the lane: settlements that still wait go to the disk; whatever it does not take, and what comes later, is refused.
    pub(super) async fn shut(self: &Arc<Self>) {
        let left = {
            let mut queue = self.queue.lock();
            queue.set_open(false);
            let waiting = queue.take_waiting();
            waiting.into_iter().chain(queue.take_kept()).collect::<VecDeque<_>>()
        };
        let (jobs, others) = left.into_iter().partition::<VecDeque<_>, _>(Job::is_settlement);
        let mut ends = InHand { lane: Arc::clone(self), jobs };
        self.to_disk(&mut ends).await;
        for job in others.into_iter().chain(ends.jobs.drain(..)) {
            self.lose(job, "the service is stopping");
        }
    }
}

/// A batch between queue and answer. Dropped with jobs still in it, because its writer was killed or panicked, it puts
/// them back.
pub(super) struct InHand {
    pub(super) lane: Arc<Lane>,
    pub(super) jobs: VecDeque<Job>,
}

impl Drop for InHand {
    fn drop(&mut self) {
        if !self.jobs.is_empty() {
            self.lane.put_back(self.jobs.drain(..));
        }
    }
}
