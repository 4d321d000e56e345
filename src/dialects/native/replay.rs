//! A turn that has ended, told from what the store has of it.

use std::task::{Context, Poll};

use actors::{
    model::TurnNames,
    reply::{Ending, Event},
};
use domain::{
    model_name::ModelName,
    reply::{Answer, Position, Rest},
    turn::{StoredTurn, TurnStatus},
};

use crate::dialects::Events;
use crate::http::ApiError;

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
        let has_all =
            from.content >= end.content && from.thinking >= end.thinking && from.tool_calls >= end.tool_calls;
        // A client may have read what came after the last checkpoint before a crash: of that only the end is left to tell.
        let is_ahead = turn.status == TurnStatus::Interrupted && has_all;
        if answer.after(from).is_none() && !is_ahead {
            return Err(ApiError::no_such_position());
        }
        Ok(Self { answer, from, ending: Ending::of(turn) })
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
