//! A turn that has ended, told from what the store has of it, in the same words as while it lived.

use std::task::{Context, Poll};

use actors::{
    model::TurnNames,
    reply::{Ending, Event, Outcome},
};
use domain::{
    model_name::ModelName,
    reply::{Answer, FailureCode, FinishReason, Position, Rest},
    turn::{StoredTurn, TurnStatus},
};

use super::stream::Events;
use crate::http::{ApiError, past_failure};

/// The events of a stored answer after a position: all at once, and none twice.
pub(crate) struct Replay {
    answer: Answer,
    from: Position,
    ending: Ending,
}

impl Replay {
    /// # Errors
    ///
    /// 409 when the answer is not kept, 400 when it has no such position.
    pub(crate) fn new(turn: &StoredTurn, answer: Answer, from: Position) -> Result<Self, ApiError> {
        if turn.stored.is_none() {
            return Err(ApiError::answer_not_kept());
        }
        let end = answer.end();
        let has_more =
            from.content >= end.content && from.thinking >= end.thinking && from.tool_calls >= end.tool_calls;
        // A client may have read what came after the last checkpoint before a crash: of that only the end is left to tell.
        let is_ahead = turn.status == TurnStatus::Interrupted && has_more;
        if answer.after(from).is_none() && !is_ahead {
            return Err(ApiError::no_such_position());
        }
        Ok(Self { answer, from, ending: ending_of(turn) })
    }
}

impl Events for Replay {
    fn poll_events(&mut self, _: &mut Context<'_>, take: &mut dyn FnMut(Event<'_>)) -> Poll<bool> {
        take(Event::Started);
        let mut at = self.from;
        if let Some(Rest { content, thinking, tool_calls }) = self.answer.after(self.from) {
            let end = self.answer.end();
            if !thinking.is_empty() {
                at.thinking = end.thinking;
                take(Event::Thinking { text: thinking, end: at });
            }
            if !content.is_empty() {
                at.content = end.content;
                take(Event::Content { text: content, end: at });
            }
            for call in tool_calls {
                at.tool_calls += 1;
                take(Event::ToolCall { call, end: at });
            }
        }
        take(Event::Ended { ending: &self.ending, end: at });
        Poll::Ready(true)
    }
}

/// What a turn is called that the store knows; `None` when its model's name makes no sense any more.
pub(crate) fn names_of(turn: &StoredTurn) -> Option<TurnNames> {
    Some(TurnNames {
        turn: turn.turn,
        conversation: turn.stored.map(|stored| stored.conversation),
        // An answer that is kept nowhere is called after its turn.
        message: turn.stored.map_or(turn.turn.as_uuid().into(), |stored| stored.message),
        model: ModelName::parse(&turn.model).ok()?,
        created_at: turn.created_at,
    })
}

/// How a stored turn ended.
pub(crate) fn ending_of(turn: &StoredTurn) -> Ending {
    let failed = |otherwise| {
        let code = turn.failure.unwrap_or(otherwise);
        Outcome::Failed { code, message: past_failure(code).to_owned(), retry_after: None }
    };
    let outcome = match turn.status {
        TurnStatus::Complete => Outcome::Complete(turn.finish_reason.unwrap_or(FinishReason::Stop)),
        TurnStatus::Cancelled => failed(FailureCode::Cancelled),
        TurnStatus::Failed | TurnStatus::Interrupted | TurnStatus::Streaming => failed(FailureCode::Internal),
    };
    Ending { outcome, usage: turn.usage, timings: turn.timings, stored: turn.stored.map(|_| true) }
}
