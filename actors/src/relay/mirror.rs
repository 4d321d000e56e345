//! A turn of another instance as it is read here: a reply of its own, written by what its owner tells and what the store has.
//!
//! ```text
//! stream in Redis ── pieces ──▶ Mirror (what is new of them) ──▶ reply channel ◀── any number of readers
//! store ─────────── answer ────▶
//! ```
//!
//! Both sources tell prefixes of the same text, kind by kind, so the place that was reached in each kind decides what is new
//! of a piece or an answer, whatever came from where before. Only the order of kinds among one another is the stream's: the
//! store does not know it.

use std::{future::poll_fn, task::Poll, time::Duration};

use domain::{
    reply::{Answer, Delta, FailureCode, Position, Timings, Usage},
    turn::{StoredTurn, TurnStatus},
};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::{
    link::EntryId,
    wire::{Piece, position},
};
use crate::reply::{End, Ending, Notice, Outcome, ReplyWriter};

/// When a reader that found no room for the answer may try again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

pub(super) struct Mirror {
    state: Mutex<State>,
    /// It has ended, or needs the store.
    changed: Notify,
}

struct State {
    /// `None` once it has ended.
    writer: Option<ReplyWriter>,
    at: Position,
    is_started: bool,
    /// The entry behind which the stream is read.
    after: EntryId,
    /// The youngest entry ever read.
    youngest: EntryId,
    heard: Instant,
    was_heard: bool,
    /// Something before the piece that was read last has not been read.
    has_gap: bool,
}

impl Mirror {
    pub(super) fn new(writer: ReplyWriter) -> Self {
        let state = State {
            writer: Some(writer),
            at: Position::default(),
            is_started: false,
            after: EntryId::default(),
            youngest: EntryId::default(),
            heard: Instant::now(),
            was_heard: false,
            has_gap: false,
        };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// The entry of its stream that was read last.
    pub(super) fn after(&self) -> EntryId {
        self.state.lock().after
    }

    /// Takes what an entry of its stream says.
    pub(super) fn hear(&self, id: EntryId, pieces: Vec<Piece>) {
        let mut state = self.state.lock();
        state.after = id;
        if id > state.youngest {
            state.youngest = id;
            state.heard = Instant::now();
            state.was_heard = true;
        }
        state.take(pieces);
        if state.has_gap || state.writer.is_none() {
            self.changed.notify_one();
        }
    }

    /// Takes what the store knows of the turn.
    pub(super) fn look_at(&self, turn: &StoredTurn, answer: &Answer) {
        let mut state = self.state.lock();
        state.fill(answer);
        if turn.status != TurnStatus::Streaming {
            // Of one whose answer is not kept nobody can tell whether all was read.
            let is_lost = turn.status == TurnStatus::Complete && turn.stored.is_none();
            state.end(if is_lost { lost() } else { Ending::of(turn) });
        } else if state.has_gap && turn.stored.is_none() {
            state.end(lost());
        }
        if state.has_gap {
            // What lies between the store's text and the piece is behind us in the stream, if anywhere.
            state.has_gap = false;
            state.after = EntryId::default();
        }
    }

    /// Ends it with what we have to say.
    pub(super) fn end(&self, end: End) {
        self.state.lock().end(unknown(end.into_outcome()));
    }

    /// Reads the stream from its beginning once more: who knows what its numbers count now.
    pub(super) fn read_again(&self) {
        self.state.lock().after = EntryId::default();
    }

    /// For how long its owner has said nothing.
    pub(super) fn silent_for(&self) -> Duration {
        self.state.lock().heard.elapsed()
    }

    pub(super) fn was_heard(&self) -> bool {
        self.state.lock().was_heard
    }

    pub(super) fn has_gap(&self) -> bool {
        self.state.lock().has_gap
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state.lock().writer.is_none()
    }

    /// Whether its last reader has left.
    pub(super) fn is_abandoned(&self) -> bool {
        self.state.lock().writer.as_ref().is_some_and(ReplyWriter::is_cancelled)
    }

    /// Resolves when it has ended or needs the store.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Resolves when nobody reads it any more.
    pub(super) async fn abandoned(&self) {
        poll_fn(|cx| match &self.state.lock().writer {
            Some(writer) => writer.poll_cancelled(cx),
            None => Poll::Pending,
        })
        .await;
    }
}

impl State {
    fn take(&mut self, pieces: Vec<Piece>) {
        let mut deltas = Vec::new();
        let mut is_over = None;
        for piece in pieces {
            match piece {
                Piece::Alive => {}
                Piece::Queued { loading, position, eta_ms } => {
                    let eta = eta_ms.map(Duration::from_millis);
                    if let Some(writer) = self.writer.as_ref().filter(|_| !self.is_started) {
                        writer.notice(Notice { loading, position, eta });
                    }
                }
                Piece::Started => self.start(),
                Piece::Content { at, text } => {
                    let text = self.new_text(self.at.content, at, &text);
                    self.at.content += text.as_ref().map_or(0, |text| text.len() as u32);
                    deltas.extend(text.map(Delta::Content));
                }
                Piece::Thinking { at, text } => {
                    let text = self.new_text(self.at.thinking, at, &text);
                    self.at.thinking += text.as_ref().map_or(0, |text| text.len() as u32);
                    deltas.extend(text.map(Delta::Thinking));
                }
                Piece::ToolCall { at, call } => {
                    self.has_gap |= at > self.at.tool_calls;
                    if at == self.at.tool_calls {
                        self.at.tool_calls += 1;
                        deltas.push(Delta::ToolCall(call));
                    }
                }
                Piece::Ended { end, ending } => {
                    if position(end) == self.at {
                        is_over = ending.ending();
                    }
                    self.has_gap |= is_over.is_none();
                }
            }
        }
        self.push(deltas);
        if let Some(ending) = is_over {
            self.end(ending);
        }
    }

    /// What of a piece at `at` lies behind `reached`.
    fn new_text(&mut self, reached: u32, at: u32, text: &str) -> Option<String> {
        let Some(known) = reached.checked_sub(at) else {
            self.has_gap = true;
            return None;
        };
        text.get(known as usize..).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    fn fill(&mut self, answer: &Answer) {
        let rest = |reached: u32, text: &str| {
            text.get(reached as usize..).filter(|rest| !rest.is_empty()).map(str::to_owned)
        };
        let thinking = rest(self.at.thinking, &answer.thinking);
        let content = rest(self.at.content, &answer.content);
        let calls = answer.tool_calls.get(self.at.tool_calls as usize..).unwrap_or_default();
        self.at.thinking += thinking.as_ref().map_or(0, |text| text.len() as u32);
        self.at.content += content.as_ref().map_or(0, |text| text.len() as u32);
        self.at.tool_calls += calls.len() as u32;
        let calls = calls.iter().cloned().map(Delta::ToolCall);
        let texts = thinking.map(Delta::Thinking).into_iter().chain(content.map(Delta::Content));
        self.push(texts.chain(calls).collect());
    }

    fn push(&mut self, deltas: Vec<Delta>) {
        if deltas.is_empty() {
            return;
        }
        self.start();
        let pushed = self.writer.as_ref().map(|writer| writer.push(deltas));
        if let Some(Err(_)) = pushed {
            self.end(unknown(Outcome::Failed {
                code: FailureCode::Overloaded,
                message: "answers under way leave no room to follow this one; it goes on without you"
                    .to_owned(),
                retry_after: Some(RETRY_AFTER),
            }));
        }
    }

    fn start(&mut self) {
        if !self.is_started {
            self.is_started = true;
            if let Some(writer) = &self.writer {
                writer.started();
            }
        }
    }

    fn end(&mut self, ending: Ending) {
        if let Some(mut writer) = self.writer.take() {
            // Settled elsewhere: its readers only have to be told.
            writer.settle_with(Box::new(move |_, closer| closer.close(ending)));
            writer.end(End::Cancelled);
        }
    }
}

/// The end of an answer that nobody here can read on.
fn lost() -> Ending {
    unknown(Outcome::Failed {
        code: FailureCode::Internal,
        message: "the rest of this answer is not kept, and its instance does not tell it".to_owned(),
        retry_after: None,
    })
}

/// An end of which nothing else is known.
fn unknown(outcome: Outcome) -> Ending {
    Ending { outcome, usage: Usage::default(), timings: Timings::default(), stored: None }
}
