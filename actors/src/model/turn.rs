//! A turn inside the room: what a queue place and a worker hold of it.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use domain::{
    chat::ChatRequest,
    embedding::EmbedRequest,
    id::{TurnId, UserId},
    limits::Priority,
    reply::{Timings, Usage, UsageSource},
    turn::StoredReply,
};
use std::sync::Arc;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::waiting_list::Cost;
use crate::{
    reply::ReplyWriter,
    trace::{Carrier, Span},
};

/// A turn that waits for a slot, or has one. Dropping it ends the turn as interrupted.
pub(super) struct Job {
    pub turn: TurnId,
    pub user: UserId,
    pub priority: Priority,
    /// Nobody waits for it any more then.
    pub deadline: Option<Instant>,
    /// How many turns of its user may run at once, this one included.
    pub streams: u32,
    pub work: Work,
    /// The request's share of the memory for all prompts.
    pub _memory: OwnedSemaphorePermit,
    /// Where checkpoints go; `None` when nothing is stored.
    pub stored: Option<StoredReply>,
    pub progress: Arc<Progress>,
    pub writer: ReplyWriter,
    /// The request that asked for it.
    pub carrier: Carrier,
    /// Ends when a worker begins with it.
    pub waiting: Span,
}

/// What a model server is to do.
pub(super) enum Work {
    Chat(ChatRequest),
    Embed(Embedding),
}

/// Texts to be turned into vectors, and where these go.
pub(super) struct Embedding {
    pub request: EmbedRequest,
    vectors: Arc<OnceLock<Vec<Vec<f32>>>>,
}

/// Where the vectors of an embedding are when its turn is complete.
pub(super) struct Vectors(Arc<OnceLock<Vec<Vec<f32>>>>);

impl Embedding {
    pub fn new(request: EmbedRequest) -> (Self, Vectors) {
        let vectors = Arc::default();
        (Self { request, vectors: Arc::clone(&vectors) }, Vectors(vectors))
    }

    /// Hands the vectors over; the turn must end as complete now.
    pub fn made(&self, vectors: Vec<Vec<f32>>) {
        let _ = self.vectors.set(vectors);
    }
}

impl Vectors {
    /// Those that were handed over; none before that.
    pub fn take(mut self) -> Vec<Vec<f32>> {
        Arc::get_mut(&mut self.0)
            .and_then(OnceLock::take)
            .or_else(|| self.0.get().cloned())
            .unwrap_or_default()
    }
}

impl Work {
    /// About how much memory it takes while it waits.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Chat(request) => request.memory_bytes(),
            Self::Embed(embedding) => embedding.request.memory_bytes(),
        }
    }

    pub fn estimated_prompt_tokens(&self) -> u32 {
        match self {
            Self::Chat(request) => request.estimated_prompt_tokens(),
            Self::Embed(embedding) => embedding.request.estimated_tokens(),
        }
    }
}

/// What is measured on the way; shared with the settlement, which outlives the worker.
pub(super) struct Progress {
    admitted: Instant,
    taken: OnceLock<Instant>,
    /// Whether a model server was sent the prompt.
    asked: AtomicBool,
    loaded: OnceLock<Instant>,
    first_token: OnceLock<Instant>,
    /// Pieces received: about one per token on every server we know.
    pieces: AtomicU32,
    /// The server's own words at the end: its counts, if it gave any, and how long it loaded.
    finished: OnceLock<(Option<Usage>, Duration)>,
    /// For turns whose server never got to count its tokens.
    prompt_estimate: u32,
}

impl Progress {
    pub fn new(prompt_estimate: u32) -> Self {
        Self {
            admitted: Instant::now(),
            taken: OnceLock::new(),
            asked: AtomicBool::new(false),
            loaded: OnceLock::new(),
            first_token: OnceLock::new(),
            pieces: AtomicU32::new(0),
            finished: OnceLock::new(),
            prompt_estimate,
        }
    }

    pub fn taken(&self) {
        let _ = self.taken.set(Instant::now());
    }

    pub fn asked(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    pub fn loaded(&self) {
        let _ = self.loaded.set(Instant::now());
    }

    pub fn received(&self, pieces: u32) {
        let _ = self.first_token.get_or_init(Instant::now);
        self.pieces.fetch_add(pieces, Ordering::Relaxed);
    }

    /// What the turn took so far while it had a slot. Loading its model is not counted: it is the first turn's bad luck and
    /// tells nothing about the next one.
    pub fn cost(&self) -> Cost {
        let timings = self.timings();
        let in_slot = self.taken.get().map_or(Duration::ZERO, Instant::elapsed);
        Cost {
            tokens: u64::from(self.usage().total_tokens()),
            service_time: in_slot.saturating_sub(timings.load),
            first_token: timings.first_token.map(|first| first.saturating_sub(timings.load)),
        }
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
            0 if !self.asked.load(Ordering::Relaxed) => Usage::default(),
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
