//! DbWriter: takes what waits in its lane into one transaction, commits, and answers everybody in it.
//!
//! No timer makes batches: one forms while the commit before it runs. Transactions run only here, in the actor's task, so
//! no client that leaves can cut one short (sqlx 4393).
//!
//! # When it breaks
//!
//! See [`InHand`]: a killed writer puts its batch back. When the database is away, all who wait are told at once instead of
//! each paying the connection timeout in turn, and settlements go to the disk; those that it does not take are tried again
//! every second until they are written.

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::{Instant, timeout};

use super::{
    DbError,
    lane::{InHand, Lane, Next},
    message::Write,
    metrics::DbMetrics,
    store::{Applied, Store},
};

/// How often a transaction is begun anew that others came before.
const RACES_MAX: usize = 4;

pub(super) enum WriterMessage {
    /// Look at the lane.
    Wake,
}

pub(super) struct DbWriter;

#[derive(Clone)]
pub(super) struct WriterState {
    lane: Arc<Lane>,
    store: Arc<dyn Store>,
    metrics: DbMetrics,
    /// How long a transaction may take before its connection is given up.
    limit: Duration,
    /// The latest wake-up it set itself.
    alarm: Option<Instant>,
}

impl WriterState {
    pub(super) fn new(lane: Arc<Lane>, store: Arc<dyn Store>, metrics: DbMetrics, limit: Duration) -> Self {
        Self { lane, store, metrics, limit, alarm: None }
    }

    /// Writes a batch and answers it; whether the database was there.
    async fn write(&self, batch: InHand) -> Result<(), DbError> {
        let mut batch = batch;
        let writes: Vec<_> = batch.jobs.iter().map(|job| &job.write).collect();
        let result = self.apply(&writes).await;
        let written = match result {
            Ok(answers) => {
                for answer in answers {
                    let Some(job) = batch.jobs.pop_front() else { break };
                    job.answer(answer);
                }
                Ok(())
            }
            Err(error) if error.is_away() => Err(error),
            Err(_) => self.write_each(&mut batch).await,
        };
        match &written {
            Ok(()) => self.lane.is_back(),
            Err(error) => self.lane.away(&mut batch, error).await,
        }
        written
    }

    /// One transaction per change, so that the one at fault fails alone.
    async fn write_each(&self, batch: &mut InHand) -> Result<(), DbError> {
        while let Some(job) = batch.jobs.front() {
            let result = self.apply(&[&job.write]).await.and_then(|answers| {
                answers.into_iter().next().ok_or_else(|| DbError::Broken("a change without an answer".into()))
            });
            let result = match result {
                Ok(answer) => answer,
                Err(error) if error.is_away() => return Err(error),
                Err(error) => Err(error),
            };
            let Some(job) = batch.jobs.pop_front() else { break };
            match result {
                Err(error @ DbError::Broken(_)) => {
                    tracing::error!(%error, "change refused by the database");
                    self.lane.give_up(job, &error);
                }
                Err(error) => self.lane.give_up(job, &error),
                Ok(answer) => job.answer(Ok(answer)),
            }
        }
        Ok(())
    }

    /// Writes them in one transaction, again when others came first. A change that is always late says nothing of itself,
    /// so in the end it is taken for a database that is away: a settlement must not be lost to others' haste.
    async fn apply(&self, writes: &[&Write]) -> Result<Applied, DbError> {
        for _ in 0..RACES_MAX {
            match self.apply_once(writes).await {
                Err(lost) if lost == DbError::LOST_RACE => {}
                applied => return applied,
            }
        }
        Err(if writes.len() == 1 { DbError::Timeout } else { DbError::LOST_RACE })
    }

    async fn apply_once(&self, writes: &[&Write]) -> Result<Applied, DbError> {
        let started = Instant::now();
        let result = tokio::select! {
            biased;
            result = timeout(self.limit, self.store.apply(writes)) => result.unwrap_or(Err(DbError::Timeout)),
            () = self.lane.database_given_up() => Err(DbError::Unavailable("the service is stopping".into())),
        };
        self.metrics.transaction(&result, writes.len(), started.elapsed());
        result
    }
}

impl Actor for DbWriter {
    type Msg = WriterMessage;
    type State = WriterState;
    type Arguments = WriterState;

    async fn pre_start(
        &self,
        _: ActorRef<WriterMessage>,
        state: WriterState,
    ) -> Result<WriterState, ActorProcessingErr> {
        state.lane.open();
        Ok(state)
    }

    async fn handle(
        &self,
        me: ActorRef<WriterMessage>,
        WriterMessage::Wake: WriterMessage,
        state: &mut WriterState,
    ) -> Result<(), ActorProcessingErr> {
        state.lane.bell().about_to_check();
        match state.lane.next(false) {
            Next::Batch(jobs) => {
                // The failure was told to everybody it concerns; the lane says when to try again.
                let _ = state.write(InHand { lane: Arc::clone(&state.lane), jobs }).await;
                // One batch per message, so that a stop is seen between two of them.
                state.lane.bell().ring();
            }
            Next::At(due) => {
                let now = Instant::now();
                if !state.alarm.is_some_and(|alarm| now < alarm && alarm <= due) {
                    state.alarm = Some(due);
                    me.send_after(due.saturating_duration_since(now), || WriterMessage::Wake);
                }
            }
            Next::Idle => {}
        }
        Ok(())
    }

    /// Writes all that waits, settlements that linger or were kept included, and ends the lane.
    async fn post_stop(
        &self,
        _: ActorRef<WriterMessage>,
        state: &mut WriterState,
    ) -> Result<(), ActorProcessingErr> {
        while let Next::Batch(jobs) = state.lane.next(true) {
            if state.write(InHand { lane: Arc::clone(&state.lane), jobs }).await.is_err() {
                break;
            }
        }
        state.lane.shut().await;
        Ok(())
    }
}
