//! What an answer is made of: its parts, how it ends, what it cost.

use std::{fmt, str::FromStr, time::Duration};

use serde::Serialize;

use crate::chat::ToolCall;

/// How likely a token was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenLogprob {
    pub token: String,
    pub logprob: f64,
    /// Its UTF-8, since a token may be a part of a character.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Vec<u8>>,
    /// The likeliest tokens in its place; theirs are empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top_logprobs: Vec<TokenLogprob>,
}

/// A piece of an answer, as the model server sent it.
#[derive(Debug, Clone, PartialEq)]
pub enum Delta {
    Content(String),
    Thinking(String),
    ToolCall(ToolCall),
    /// Of the tokens of the content before it, only where they were asked for.
    Logprobs(Vec<TokenLogprob>),
}

/// An answer, or as much of it as there is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    pub content: String,
    pub thinking: String,
    pub tool_calls: Vec<ToolCall>,
    /// Empty unless asked for; told to those who read along and never stored.
    pub logprobs: Vec<TokenLogprob>,
}

/// What of an answer lies after a position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rest<'a> {
    pub content: &'a str,
    pub thinking: &'a str,
    pub tool_calls: &'a [ToolCall],
}

impl Answer {
    /// Where it ends.
    pub fn end(&self) -> Position {
        // Bounds on answers keep each far below 4 GiB.
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        Position {
            content: length(self.content.len()),
            thinking: length(self.thinking.len()),
            tool_calls: length(self.tool_calls.len()),
        }
    }

    /// What lies after `from`; `None` when there is no such place, or it lies within a character.
    pub fn after(&self, from: Position) -> Option<Rest<'_>> {
        Some(Rest {
            content: self.content.get(from.content as usize..)?,
            thinking: self.thinking.get(from.thinking as usize..)?,
            tool_calls: self.tool_calls.get(from.tool_calls as usize..)?,
        })
    }
}

/// A place in an answer: how much of each part lies before it.
///
/// It counts bytes and calls, not events, so memory, another instance and the database all resume at the same place
/// whatever was merged on the way. Clients treat its text form (`0`, `120`, `120.40.1`) as opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Position {
    pub content: u32,
    pub thinking: u32,
    pub tool_calls: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.content)?;
        if self.thinking != 0 || self.tool_calls != 0 {
            write!(f, ".{}.{}", self.thinking, self.tool_calls)?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position in an answer")]
pub struct NotAPosition;

impl FromStr for Position {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let mut parts = text.splitn(3, '.').map(|part| part.parse::<u32>().map_err(|_| NotAPosition));
        let content = parts.next().ok_or(NotAPosition)??;
        let Some(thinking) = parts.next().transpose()? else {
            return Ok(Self { content, ..Self::default() });
        };
        let tool_calls = parts.next().ok_or(NotAPosition)??;
        Ok(Self { content, thinking, tool_calls })
    }
}

/// Why the model stopped by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    Stop,
    /// The token limit or the context was full.
    Length,
    ToolCalls,
}

impl FinishReason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Stop, Self::Length, Self::ToolCalls].into_iter().find(|reason| reason.as_str() == text)
    }
}

/// Where token counts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// By the model server, at the end of its answer.
    Reported,
    /// The answer broke off: we counted the pieces that came.
    Counted,
    #[default]
    Estimated,
}

impl UsageSource {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Counted => "counted",
            Self::Estimated => "estimated",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Reported, Self::Counted, Self::Estimated].into_iter().find(|source| source.as_str() == text)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
    pub source: UsageSource,
}

impl Usage {
    pub const fn total_tokens(self) -> u32 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

/// Where a turn's time went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// From admission to a free slot.
    pub queued: Duration,
    /// Loading the model, as far as the turn waited for it.
    pub load: Duration,
    /// From the slot to the first piece of the answer.
    pub first_token: Option<Duration>,
    /// From admission to the end.
    pub total: Duration,
}

/// The stable codes of a turn that did not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The model server refused the request itself; its words are for the caller's request, not a fault.
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    DeadlineExceeded,
    UpstreamError,
    /// The model server's stream ended without its last line.
    UpstreamIncomplete,
    ReplyTooLarge,
    ServerShuttingDown,
    /// The caller left or cancelled.
    Cancelled,
    Internal,
}

impl FailureCode {
    const ALL: [Self; 10] = [
        Self::InvalidRequest,
        Self::ModelNotFound,
        Self::Overloaded,
        Self::DeadlineExceeded,
        Self::UpstreamError,
        Self::UpstreamIncomplete,
        Self::ReplyTooLarge,
        Self::ServerShuttingDown,
        Self::Cancelled,
        Self::Internal,
    ];

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::ModelNotFound => "model_not_found",
            Self::Overloaded => "overloaded",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::UpstreamError => "upstream_error",
            Self::UpstreamIncomplete => "upstream_incomplete",
            Self::ReplyTooLarge => "reply_too_large",
            Self::ServerShuttingDown => "server_shutting_down",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_after_a_position_is_counted_in_each_part() {
        let call = ToolCall { id: "1".into(), name: "now".into(), arguments: serde_json::Value::Null };
        let answer = Answer {
            content: "aéb".into(),
            thinking: "hm".into(),
            tool_calls: vec![call],
            ..Answer::default()
        };
        let at = |content, thinking, tool_calls| Position { content, thinking, tool_calls };
        let rest = answer.after(at(3, 1, 0)).unwrap();
        assert_eq!((rest.content, rest.thinking, rest.tool_calls.len()), ("b", "m", 1));
        let rest = answer.after(answer.end()).unwrap();
        assert_eq!((rest.content, rest.thinking, rest.tool_calls.len()), ("", "", 0));
        for never in [at(2, 0, 0), at(5, 0, 0), at(0, 3, 0), at(0, 0, 2)] {
            assert_eq!(answer.after(never), None, "{never}");
        }
    }

    #[test]
    fn a_position_survives_its_text_form() {
        for (content, thinking, tool_calls) in [(0, 0, 0), (120, 0, 0), (120, 40, 1), (0, 0, 3)] {
            let position = Position { content, thinking, tool_calls };
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        for text in ["", "x", "1.2", "1.2.3.4", "-1", "1..2", "99999999999"] {
            assert_eq!(text.parse::<Position>(), Err(NotAPosition), "{text}");
        }
    }
}
