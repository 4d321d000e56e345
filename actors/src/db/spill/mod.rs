//! The spill: ends of turns on the local disk, for as long as the database is away.
//!
//! ```text
//! lane ── keep ──▶ group commit: one write, one fsync ──▶ DATA_DIR/spill/*.spill
//!   ▲                                                            │
//!   └──────────────── SpillReplayer, oldest first ◀──────────────┘
//! ```
//!
//! Whoever waits for a settlement is told that it is stored once it is on the disk. Its record stays there until the database
//! has it; writing it twice is as good as once, so a crash at any point loses nothing and doubles nothing, and it makes no
//! difference whether the sweep finds its turn before. Each file is locked by its process while that lives, so that services
//! may share a disk; what a process leaves is adopted by the next that starts there, or by one that
//! lives, within a minute.
//!
//! The files hold what models answered in the clear, as the database does: they are nobody's but the service's user's (0600).
//!
//! # When it breaks
//!
//! A disk that is full, slow or not writable, or [`SPILL_BYTES_MAX`] reached: settlements are kept in memory, and whoever
//! waits is told that nothing is stored. A damaged file is replayed as far as it can be read and then set aside as
//! `*.unread`, for people. What the database refuses, because it is an older copy of itself, or another, is set aside as
//! `*.refused`, within [`files`]' bound.

mod files;
mod frame;
mod record;
mod replayer;
mod segment;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    task::spawn_blocking,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{files::Files, replayer::Wake};
pub(super) use self::{
    files::Frames,
    replayer::{ReplayerState, SpillReplayer},
};
use super::{DbError, lane::RETRY_BACKOFF, metrics::Spilled};
use crate::{bell::Bell, handle::Slot};

/// What all files of one process may hold.
pub(super) const SPILL_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How long the disk may take before a settlement is kept in memory instead.
const DISK_PATIENCE: Duration = Duration::from_secs(2);

/// Why the disk did not take a settlement.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum SpillError {
    #[error("it holds as much as it may")]
    Full,
    #[error("the disk did not answer in time")]
    Slow,
    #[error("{0}")]
    Disk(Arc<io::Error>),
    #[error("part of it cannot be read; it is set aside as {0}")]
    Damaged(PathBuf),
    #[error("its writer died")]
    Died,
}

impl From<io::Error> for SpillError {
    fn from(error: io::Error) -> Self {
        Self::Disk(Arc::new(error))
    }
}

type Waiting = oneshot::Sender<Result<(), SpillError>>;

/// Shared by all lanes, and outlives them and the replayer.
pub(super) struct Spill {
    /// `None`: nothing is kept on a disk, because this is no service.
    files: Option<Mutex<Files>>,
    bytes_max: u64,
    /// What waits for the files, with who waits for it.
    pending: Mutex<Vec<(Frames, Waiting)>>,
    bell: Bell<Wake>,
    retry: Mutex<Retry>,
    /// Since when there was something, and what became of it.
    spell: Mutex<Option<Spell>>,
    /// Whether the last attempt to keep something failed, so that it is told once.
    is_failing: AtomicBool,
    metrics: Spilled,
    /// From here on nobody waits for the database any more.
    given_up: CancellationToken,
    /// From here on nothing is replayed any more.
    leaving: CancellationToken,
}

/// When the database is asked again.
#[derive(Debug, Clone)]
struct Retry {
    due: Instant,
    /// Why it did not take the last change.
    away: Option<DbError>,
}

/// A time in which ends of turns are on the disk: one line in the log at its beginning, and one at its end.
struct Spell {
    since: Instant,
    turns: usize,
    set_aside: usize,
}

impl Spill {
    /// Keeps its files in `data_dir`.
    pub(super) fn new(data_dir: Option<PathBuf>, bytes_max: u64, metrics: Spilled) -> Self {
        Self {
            files: data_dir.map(|data_dir| Mutex::new(Files::new(data_dir, bytes_max))),
            bytes_max,
            pending: Mutex::default(),
            bell: Bell::new(Slot::new(), || Wake),
            retry: Mutex::new(Retry { due: Instant::now(), away: None }),
            spell: Mutex::default(),
            is_failing: AtomicBool::new(false),
            metrics,
            given_up: CancellationToken::new(),
            leaving: CancellationToken::new(),
        }
    }

    pub(super) const fn bell(&self) -> &Bell<Wake> {
        &self.bell
    }

    /// Whether there is a disk to keep anything on.
    pub(super) const fn has_disk(&self) -> bool {
        self.files.is_some()
    }

    /// How many bytes more it may take, as of its last write.
    pub(super) fn room(&self) -> u64 {
        self.bytes_max.saturating_sub(self.metrics.bytes.get().cast_unsigned())
    }

    /// Puts settlements on the disk; says whether they are there. If not, keep them yourself.
    ///
    /// Dropped before it returns, it may have kept them or not.
    pub(super) async fn keep(self: &Arc<Self>, frames: Frames) -> bool {
        let turns = frames.records;
        let kept = self.commit(frames).await;
        self.tell(&kept, turns);
        if kept.is_ok() {
            if self.holds_more(turns) {
                let away = self.retry().away;
                let cause =
                    away.map_or_else(|| "the service is stopping".to_owned(), |away| away.to_string());
                tracing::warn!(cause, "the database does not take ends of turns: they go to the disk");
            }
            self.bell.ring();
        }
        kept.is_ok()
    }

    /// More is on the disk; says whether there was nothing before.
    fn holds_more(&self, turns: usize) -> bool {
        let mut spell = self.spell.lock();
        let is_first = spell.is_none();
        let begun = || Spell { since: Instant::now(), turns: 0, set_aside: 0 };
        spell.get_or_insert_with(begun).turns += turns;
        is_first
    }

    /// Nothing is on the disk any more.
    fn is_drained(&self) {
        if let Some(Spell { since, turns, set_aside }) = self.spell.lock().take() {
            let for_s = since.elapsed().as_secs();
            tracing::info!(
                turns,
                set_aside,
                for_s,
                "no ends of turns are on the disk any more: the database has them"
            );
        }
    }

    async fn commit(self: &Arc<Self>, frames: Frames) -> Result<(), SpillError> {
        let (done, kept) = oneshot::channel();
        self.pending.lock().push((frames, done));
        let spill = Arc::clone(self);
        // Whoever waits for the files meanwhile is done with by whoever gets them next.
        let writing = spawn_blocking(move || spill.write_pending());
        match timeout(DISK_PATIENCE, kept).await {
            Ok(Ok(kept)) => kept,
            Ok(Err(_)) => {
                Err(writing.await.err().map_or(SpillError::Died, |error| io::Error::from(error).into()))
            }
            Err(_) => Err(SpillError::Slow),
        }
    }

    /// Writes all groups that wait, with one fsync between them.
    fn write_pending(&self) {
        let Some(files) = &self.files else { return };
        let mut files = files.lock();
        let (groups, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut *self.pending.lock()).into_iter().unzip();
        if groups.is_empty() {
            return;
        }
        let done = files.append(&groups);
        self.metrics.bytes.set(files.bytes().cast_signed());
        for ((group, waiting), done) in groups.into_iter().zip(waiting).zip(done) {
            if done.is_ok() {
                self.metrics.settlements.inc_by(group.records as i64);
            }
            // Who waited too long has kept them in memory as well.
            let _ = waiting.send(done);
        }
    }

    /// Whether the disk took what it was given last.
    pub(super) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    fn tell(&self, kept: &Result<(), SpillError>, turns: usize) {
        match kept {
            Ok(()) => {
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("the disk takes ends of turns again");
                }
            }
            Err(error) => {
                self.metrics.failures.inc();
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, turns, "the disk takes no ends of turns: in an outage they are kept in memory");
                }
            }
        }
    }

    /// The database did not take a change.
    pub(super) fn database_is_away(&self, cause: &DbError) {
        *self.retry.lock() = Retry { due: Instant::now() + RETRY_BACKOFF, away: Some(cause.clone()) };
    }

    /// The database took a change: what it missed is due.
    pub(super) fn database_answers(&self) {
        let was_away = {
            let mut retry = self.retry.lock();
            let was_away = retry.away.is_some();
            if was_away {
                *retry = Retry { due: Instant::now(), away: None };
            }
            was_away
        };
        if was_away {
            self.bell.ring();
        }
    }

    fn retry(&self) -> Retry {
        self.retry.lock().clone()
    }

    /// How many settlements are on the disk.
    pub(super) fn settlements(&self) -> u64 {
        u64::try_from(self.metrics.settlements.get()).unwrap_or(0)
    }

    /// The service ends and the database is too slow: what is on its way there goes to the disk instead, if there is one.
    pub(super) fn give_up_database(&self) {
        if self.has_disk() {
            self.given_up.cancel();
        }
    }

    /// Resolves when nobody should wait for the database any more.
    pub(super) async fn database_given_up(&self) {
        self.given_up.cancelled().await;
    }

    /// The service ends: what is on the disk is for the next one.
    pub(super) fn leave(&self) {
        self.leaving.cancel();
    }
}
