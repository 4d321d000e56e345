//! A turn inside the room: what a queue place and a worker hold of it.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use domain::{
    chat::ChatRequest,
    id::{TurnId, UserId},
    reply::{Timings, Usage, UsageSource},
    turn::StoredReply,
};
use std::sync::Arc;
use tokio::time::Instant;

use crate::reply::ReplyWriter;

/// A turn that waits for a slot, or has one. Dropping it ends the turn as interrupted.
pub(super) struct Job {
    pub turn: TurnId,
    pub user: UserId,
    pub request: ChatRequest,
    /// Where checkpoints go; `None` when nothing is stored.
    pub stored: Option<StoredReply>,
    pub progress: Arc<Progress>,
    pub writer: ReplyWriter,
}

/// What is measured on the way; shared with the settlement, which outlives the worker.
pub(super) struct Progress {
    admitted: Instant,
    taken: OnceLock<Instant>,
    loaded: OnceLock<Instant>,
    first_token: OnceLock<Instant>,
    /// Pieces received: about one per token on every server we know.
    pieces: AtomicU32,
    /// The server's own words at the end: its counts, if it gave any, and how long it loaded.
    finished: OnceLock<(Option<Usage>, Duration)>,
    /// Prompt tokens by rule of thumb, for turns whose server never got to count them.
    prompt_estimate: u32,
}

impl Progress {
    /// Bytes of prompt per token, near enough for English text and code.
    const BYTES_PER_TOKEN: usize = 4;

    pub fn new(request: &ChatRequest) -> Self {
        let bytes: usize = request.messages.iter().map(|message| message.content.len()).sum();
        Self {
            admitted: Instant::now(),
            taken: OnceLock::new(),
            loaded: OnceLock::new(),
            first_token: OnceLock::new(),
            pieces: AtomicU32::new(0),
            finished: OnceLock::new(),
            prompt_estimate: u32::try_from(bytes / Self::BYTES_PER_TOKEN).unwrap_or(u32::MAX).max(1),
        }
    }

    pub fn taken(&self) {
        let _ = self.taken.set(Instant::now());
    }

    pub fn loaded(&self) {
        let _ = self.loaded.set(Instant::now());
    }

    pub fn received(&self, pieces: u32) {
        let _ = self.first_token.get_or_init(Instant::now);
        self.pieces.fetch_add(pieces, Ordering::Relaxed);
    }

    /// Time in a slot so far; zero for a turn that never had one.
    pub fn service_time(&self) -> Duration {
        self.taken.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    pub fn finished(&self, usage: Option<Usage>, load: Duration) {
        let _ = self.finished.set((usage, load));
    }

    pub fn timings(&self) -> Timings {
        let taken = self.taken.get().copied();
        let ours = match (taken, self.loaded.get()) {
            (Some(taken), Some(loaded)) => loaded.duration_since(taken),
            _ => Duration::ZERO,
        };
        Timings {
            queued: taken
                .map_or_else(|| self.admitted.elapsed(), |taken| taken.duration_since(self.admitted)),
            load: ours.max(self.finished.get().map_or(Duration::ZERO, |(_, load)| *load)),
            first_token: taken
                .and_then(|taken| self.first_token.get().map(|first| first.duration_since(taken))),
            total: self.admitted.elapsed(),
        }
    }

    /// Counts by the server's word where there is one, else by what we saw.
    pub fn usage(&self) -> Usage {
        let reported = self.finished.get().and_then(|(usage, _)| *usage);
        reported.unwrap_or_else(|| match self.pieces.load(Ordering::Relaxed) {
            0 if self.taken.get().is_none() => Usage::default(),
            0 => Usage {
                prompt_tokens: self.prompt_estimate,
                completion_tokens: 0,
                source: UsageSource::Estimated,
            },
            pieces => Usage {
                prompt_tokens: self.prompt_estimate,
                completion_tokens: pieces,
                source: UsageSource::Counted,
            },
        })
    }
}
