//! SpillReplayer: gives the database what it missed, from the oldest on, beside what is written now.
//!
//! A few records at a time go through the lanes like any other change, and the next ones only after these are committed: so
//! a long outage holds nobody up. While the database is away it is asked with one record each second.
//!
//! # When it breaks
//!
//! Its successor begins with the oldest file again, behind what was committed of it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use domain::turn::Settlement;
use futures_util::future::join_all;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{sync::oneshot, task::spawn_blocking, time::Instant};

use super::{Files, Retry, Spill, SpillError};
use crate::db::{
    DbError,
    lane::{Answer, Job, Lane, lane_of},
    message::Write,
    metrics::Spilled,
};

/// The most settlements on their way from the disk to the database.
pub(super) const REPLAYED_AT_ONCE: usize = 64;
/// And the most text of them, unless a single one has more.
const REPLAYED_BYTES: usize = 1024 * 1024;
/// How often it is looked for what processes left that shared the disk and are gone.
const ADOPT_EVERY: Duration = Duration::from_secs(60);

pub(in crate::db) struct SpillReplayer;

/// Look whether something is due.
pub(in crate::db) struct Wake;

#[derive(Clone)]
pub(in crate::db) struct ReplayerState {
    spill: Arc<Spill>,
    lanes: Arc<[Arc<Lane>]>,
    /// What is left of the oldest file.
    left: Option<VecDeque<Settlement>>,
    /// When it looked for what others left.
    adopted: Option<Instant>,
    /// The latest wake-up it set itself.
    alarm: Option<Instant>,
}

/// What became of a few records.
enum Step {
    /// The database has them.
    Written,
    /// The database is away, or busy: not now.
    NotNow,
    /// There is nothing on the disk.
    Nothing,
}

impl ReplayerState {
    pub(in crate::db) fn new(spill: Arc<Spill>, lanes: Arc<[Arc<Lane>]>) -> Self {
        Self { spill, lanes, left: None, adopted: None, alarm: None }
    }

    /// Takes over what other processes left, and says early what would only show in an outage.
    async fn adopt(&mut self) {
        self.adopted = Some(Instant::now());
        let tried = self.spill.on_disk(|files| files.try_out()).await;
        self.spill.tell(&tried.unwrap_or(Ok(())).map_err(SpillError::from), 0);
        let Spilled { settlements, failures, .. } = self.spill.metrics.clone();
        let spill = Arc::clone(&self.spill);
        let work = move |files: &mut Files| {
            let (records, looked) = files.adopt();
            if records > 0 {
                spill.holds_more(records);
            }
            settlements.inc_by(records as i64);
            if let Err(error) = looked {
                failures.inc();
                tracing::error!(%error, "not all ends of turns that were left on the disk can be looked at");
            }
        };
        self.spill.on_disk(work).await;
    }

    /// Has itself woken then, unless it will be before.
    fn wake_at(&mut self, me: &ActorRef<Wake>, due: Instant) {
        let now = Instant::now();
        if !self.alarm.is_some_and(|alarm| now < alarm && alarm <= due) {
            self.alarm = Some(due);
            me.send_after(due.saturating_duration_since(now), || Wake);
        }
    }

    async fn step(&mut self, is_back: bool) -> Step {
        let left = match &mut self.left {
            Some(left) => left,
            left => match self.spill.oldest().await {
                Some(oldest) => left.insert(oldest),
                None => return Step::Nothing,
            },
        };
        if left.is_empty() {
            self.left = None;
            self.spill.done_with_oldest().await;
            return Step::Written;
        }
        let at_once = if is_back { REPLAYED_AT_ONCE } else { 1 };
        let (mut placed, mut bytes) = (Vec::new(), 0);
        for settlement in left.iter().take(at_once) {
            let lane = lane_of(&self.lanes, settlement.turn.as_uuid());
            let write = Write::Replay(Box::new(settlement.clone()));
            let Some(permit) = lane.reserve() else { break };
            let (caller, answer) = oneshot::channel();
            let job = Job::new(write, Answer::Caller(caller), permit);
            bytes += job.size_bytes();
            lane.place(job);
            placed.push(answer);
            if bytes >= REPLAYED_BYTES {
                break;
            }
        }
        let records = placed.len();
        let answers = tokio::select! {
            answers = join_all(placed) => answers,
            () = self.spill.leaving.cancelled() => return Step::NotNow,
        };
        // What the database refuses it will always refuse.
        let mut refused = Vec::new();
        for (settlement, answer) in left.iter().zip(&answers) {
            match answer {
                Ok(Ok(_)) => {}
                Ok(Err(error)) if !error.is_away() => refused.push(settlement.clone()),
                Ok(Err(_)) | Err(_) => return Step::NotNow,
            }
        }
        if records == 0 {
            return Step::NotNow;
        }
        if !refused.is_empty() {
            self.spill.set_aside(refused).await;
        }
        left.drain(..records);
        self.spill.replayed(records).await;
        Step::Written
    }
}

impl Spill {
    /// Works with the files on the blocking pool; `None` if there are none, or the work died.
    async fn on_disk<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Files) -> T + Send + 'static,
    ) -> Option<T> {
        let spill = Arc::clone(self);
        let done = spawn_blocking(move || {
            let mut files = spill.files.as_ref()?.lock();
            let done = work(&mut files);
            spill.metrics.bytes.set(files.bytes().cast_signed());
            Some(done)
        });
        done.await.ok().flatten()
    }

    async fn oldest(self: &Arc<Self>) -> Option<VecDeque<Settlement>> {
        match self.on_disk(Files::oldest).await?? {
            Ok(settlements) => Some(settlements),
            Err(error) => {
                tracing::error!(%error, "ends of turns on the disk cannot be read");
                self.on_disk(Files::cannot_read_oldest).await;
                Some(VecDeque::new())
            }
        }
    }

    async fn set_aside(self: &Arc<Self>, refused: Vec<Settlement>) {
        let turns = refused.len();
        let kept = self.on_disk(move |files| files.set_aside(&refused)).await;
        match kept.unwrap_or(Err(SpillError::Died)) {
            Ok(path) => {
                self.metrics.set_aside.inc_by(turns as u64);
                if let Some(spell) = &mut *self.spell.lock() {
                    spell.set_aside += turns;
                }
                let path = path.display().to_string();
                tracing::error!(
                    turns,
                    path,
                    "the database does not know these turns: their ends are set aside"
                );
            }
            Err(error) => {
                self.metrics.lost.inc_by(turns as u64);
                tracing::error!(turns, %error, "ends of turns that the database does not know could not be set aside");
            }
        }
    }

    async fn replayed(self: &Arc<Self>, records: usize) {
        let shown = self.metrics.settlements.clone();
        // Both or neither, also when whoever asks is killed meanwhile.
        let both = move |files: &mut Files| {
            files.replayed(records);
            shown.dec_by(records as i64);
        };
        self.on_disk(both).await;
    }

    async fn done_with_oldest(self: &Arc<Self>) {
        let Spilled { settlements, failures, .. } = self.metrics.clone();
        let work = move |files: &mut Files| {
            let (left, gone) = files.done_with_oldest();
            settlements.dec_by(left as i64);
            if let Err(error) = gone {
                failures.inc();
                tracing::error!(%error, turns = left, "a file of ends of turns is still there");
            }
        };
        self.on_disk(work).await;
    }
}

impl Actor for SpillReplayer {
    type Msg = Wake;
    type State = ReplayerState;
    type Arguments = ReplayerState;

    async fn pre_start(
        &self,
        _: ActorRef<Wake>,
        state: ReplayerState,
    ) -> Result<ReplayerState, ActorProcessingErr> {
        Ok(state)
    }

    async fn handle(
        &self,
        me: ActorRef<Wake>,
        Wake: Wake,
        state: &mut ReplayerState,
    ) -> Result<(), ActorProcessingErr> {
        state.spill.bell().about_to_check();
        if state.adopted.is_none_or(|adopted| adopted.elapsed() >= ADOPT_EVERY) {
            state.adopt().await;
        }
        let Retry { due, away } = state.spill.retry();
        if due > Instant::now() {
            state.wake_at(&me, due);
            return Ok(());
        }
        match state.step(away.is_none()).await {
            // One step per message, so that a stop is seen between two of them.
            Step::Written => state.spill.bell().ring(),
            Step::NotNow if state.spill.leaving.is_cancelled() => {}
            Step::NotNow => {
                let cause = away.unwrap_or(DbError::Overloaded);
                state.spill.database_is_away(&cause);
                state.spill.bell().ring();
            }
            Step::Nothing => {
                state.spill.is_drained();
                state.wake_at(&me, Instant::now() + ADOPT_EVERY);
            }
        }
        Ok(())
    }
}
