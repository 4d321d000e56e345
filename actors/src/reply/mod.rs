//! The reply channel: how tokens reach clients.
//!
//! ```text
//! ModelWorker ── push ──▶ log (text, segments, calls) ◀── cursor ── ReplyReader ⇒ dialect encoder ⇒ client
//!      └─ end / drop ──▶ settlement ── close ──▶ the one terminal event
//! ```
//!
//! One turn has one channel: an append-only log with one writer and any number of readers. The writer never waits for a
//! reader: a slow client falls behind in the log, never on the model server's socket. One lock and one wake per upstream
//! *read*; a reader that is behind gets everything that is ready, adjacent deltas merged, without a copy.
//!
//! # Bounds
//!
//! A log holds at most `reply_bytes_max`; all logs together at most the [`ReplyBudget`]. A push beyond either is refused,
//! and the turn ends as `reply_too_large` with its text kept. It has at most [`READERS_MAX`] readers at once.
//!
//! # When it breaks
//!
//! Dropping a writer that gave no outcome (a panic, a kill) hands the turn over as interrupted, with the text so far.
//! Dropping a closer that wrote no terminal event writes one. So every reader sees exactly one end, whatever dies.

mod budget;
mod kept;
mod log;
mod past;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::time::Duration;

use domain::{
    chat::ToolCall,
    reply::{FailureCode, FinishReason, Position, Timings, TokenLogprob, Usage},
};

pub use self::{
    budget::ReplyBudget,
    kept::{AttachError, ReplyLog},
    log::ReplyFull,
    past::past_failure,
    reader::ReplyReader,
    writer::{End, OnEnd, ReplyCloser, ReplyWriter},
};

/// Readers that one turn has at once.
const READERS_MAX: usize = 64;

/// What a reader is told, in order. Borrowed from the log: encode it, do not keep it.
#[derive(Debug)]
pub enum Event<'a> {
    /// The turn waits, for a slot or for its model to be loaded. Told on change; the latest wins.
    Queued(Notice),
    /// A slot took the turn and the model server was called.
    Started,
    Content {
        text: &'a str,
        end: Position,
    },
    Thinking {
        text: &'a str,
        end: Position,
    },
    ToolCall {
        call: &'a ToolCall,
        end: Position,
    },
    /// Of the content told before. They have no position: whoever comes is told them from the start.
    Logprobs {
        tokens: &'a [TokenLogprob],
    },
    /// The one terminal event.
    Ended {
        ending: &'a Ending,
        end: Position,
    },
}

/// Where a waiting turn stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// It has a slot, and its model is being loaded.
    pub loading: bool,
    /// 1 is next; 0 while loading.
    pub position: u32,
    pub eta: Option<Duration>,
}

impl Notice {
    /// Whether its readers should be told, who know `before`: an expectation alone is no news while a turn waits.
    pub(crate) fn is_news_after(&self, before: Option<Notice>) -> bool {
        before.is_none_or(|before| {
            *self != before && (self.loading || before.loading || self.position != before.position)
        })
    }
}

/// How the turn ended, as its readers are told.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    pub outcome: Outcome,
    pub usage: Usage,
    pub timings: Timings,
    /// Whether the store has it: `Some(false)` when a stored turn could not be committed, `None` when it is not to be stored.
    pub stored: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Complete(FinishReason),
    /// `message` is safe to show to the caller.
    Failed {
        code: FailureCode,
        message: String,
        /// When another try should find room, where that is known.
        retry_after: Option<Duration>,
    },
}

/// What happens to the turn when its last reader leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDisconnect {
    /// It ends at once, wherever it is: queued, loading, before the first token or mid-stream.
    #[default]
    Cancel,
    /// It runs to its end.
    Continue,
}

/// Opens the channel of one turn, with its first reader.
pub fn channel(
    budget: &ReplyBudget,
    bytes_max: usize,
    on_disconnect: OnDisconnect,
) -> (ReplyWriter, ReplyReader) {
    let shared = log::Shared::new(budget.clone(), bytes_max, on_disconnect);
    let reader = ReplyReader::first(shared.clone());
    (ReplyWriter::new(shared), reader)
}
