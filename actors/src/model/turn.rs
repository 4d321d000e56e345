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
    id::{TurnId, UserId},
    limits::Priority,
    model_name::ModelName,
    rendezvous::Affinity,
    reply::{FailureCode, Timings, Usage, UsageSource},
    turn::StoredReply,
};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{embedding::Embedding, upstream::Upstream, waiting_list::Cost};
use crate::{
    reply::{End, ReplyWriter},
    trace::{Carrier, Span, names},
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
    /// The server that failed it before it said anything, if one did.
    pub failed_at: Option<FailedTry>,
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
    Chat(Box<ChatRequest>),
    Embed(Embedding),
}

impl Work {
    pub fn model(&self) -> &ModelName {
        match self {
            Self::Chat(request) => &request.model,
            Self::Embed(embedding) => embedding.model(),
        }
    }

    /// Its name in traces.
    pub const fn operation(&self) -> &'static str {
        match self {
            Self::Chat(_) => names::CHAT,
            Self::Embed(_) => names::EMBEDDINGS,
        }
    }

    /// About how much memory it takes while it waits.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Chat(request) => request.memory_bytes(),
            Self::Embed(embedding) => embedding.memory_bytes(),
        }
    }

    pub fn estimated_prompt_tokens(&self) -> u32 {
        match self {
            Self::Chat(request) => request.estimated_prompt_tokens(),
            Self::Embed(embedding) => embedding.estimated_tokens(),
        }
    }

    /// Forgets what a server did of it, for another begins anew.
    pub fn start_over(&self) {
        match self {
            // Of a chat nothing was said yet.
            Self::Chat(_) => {}
            Self::Embed(embedding) => embedding.start_over(),
        }
    }
}

/// A try that came to nothing: where, and how the turn ends if there is no other.
pub(super) struct FailedTry {
    pub server: Arc<Upstream>,
    pub end: End,
}

impl Job {
    /// What it prefers a server by: its conversation, so that the server still has it in its cache, or its user and model.
    pub fn affinity(&self) -> Affinity {
        match self.stored {
            Some(stored) => Affinity::of(&[stored.conversation.as_uuid().as_bytes()]),
            None => {
                let model = self.work.model().canonical();
                Affinity::of(&[self.user.as_uuid().as_bytes(), model.as_str().as_bytes()])
            }
        }
    }

    /// Whether nobody waits for it any more.
    pub fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Ends it as the server did that failed it.
    pub fn end_as_failed(self) {
        let end = self.failed_at.map_or(End::Interrupted(FailureCode::Internal), |failed| failed.end);
        self.writer.end(end);
    }
}

/// When a slot took the turn, and when its model was loaded there.
#[derive(Clone, Copy, Default)]
struct Attempt {
    taken: Option<Instant>,
    loaded: Option<Instant>,
}

/// What is measured on the way; shared with the settlement, which outlives the worker.
pub(super) struct Progress {
    admitted: Instant,
    /// The try under way, or the last one.
    attempt: Mutex<Attempt>,
    /// Whether a model server was sent the prompt.
    asked: AtomicBool,
    first_token: OnceLock<Instant>,
    /// Pieces received: about one per token on every server we know.
    pieces: AtomicU32,
    /// The server's own words at the end: its counts, if it gave any, and how long it loaded.
    finished: OnceLock<(Option<Usage>, Duration)>,
    /// What was spent so far, where that is known on the way.
    spent: Mutex<Option<Usage>>,
    /// For turns whose server never got to count its tokens.
    prompt_estimate: u32,
}

impl Progress {
    pub fn new(prompt_estimate: u32) -> Self {
        Self {
            admitted: Instant::now(),
            attempt: Mutex::default(),
            asked: AtomicBool::new(false),
            first_token: OnceLock::new(),
            pieces: AtomicU32::new(0),
            finished: OnceLock::new(),
            spent: Mutex::default(),
            prompt_estimate,
        }
    }

    /// A slot has it; what an earlier one took of its time counts as waiting.
    pub fn taken(&self) {
        *self.attempt.lock() = Attempt { taken: Some(Instant::now()), loaded: None };
    }

    /// It waits again.
    pub fn put_back(&self) {
        *self.attempt.lock() = Attempt::default();
    }

    pub fn asked(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    pub fn loaded(&self) {
        self.attempt.lock().loaded.get_or_insert_with(Instant::now);
    }

    pub fn received(&self, pieces: u32) {
        let _ = self.first_token.get_or_init(Instant::now);
        self.pieces.fetch_add(pieces, Ordering::Relaxed);
    }

    /// What the turn took so far while it had a slot. Loading its model is not counted: it is the first turn's bad luck and
    /// tells nothing about the next one.
    pub fn cost(&self) -> Cost {
        let timings = self.timings();
        let taken = self.attempt.lock().taken;
        let in_slot = taken.as_ref().map_or(Duration::ZERO, Instant::elapsed);
        Cost {
            tokens: u64::from(self.usage().total_tokens()),
            service_time: in_slot.saturating_sub(timings.load),
            first_token: timings.first_token.map(|first| first.saturating_sub(timings.load)),
        }
    }

    /// Says what all that was asked so far costs, should no more be asked.
    pub fn spends(&self, so_far: Usage) {
        *self.spent.lock() = Some(so_far);
    }

    pub fn finished(&self, usage: Option<Usage>, load: Duration) {
        let _ = self.finished.set((usage, load));
    }

    pub fn timings(&self) -> Timings {
        let Attempt { taken, loaded } = *self.attempt.lock();
        let ours = match (taken, loaded) {
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
        reported.or_else(|| *self.spent.lock()).unwrap_or_else(|| match self.pieces.load(Ordering::Relaxed) {
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
