//! The answer to a chat: as one object, and (without its message) as the last frame of a stream.

use std::time::Duration;

use actors::{
    model::TurnNames,
    reply::{Ending, Outcome},
};
use chrono::{DateTime, Utc};
use domain::{
    id::{ConversationId, MessageId, TurnId},
    reply::{Answer, FinishReason, Timings, Usage},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::tool_call::ToolCallBody;
use crate::http::ApiError;

#[derive(Serialize, ToSchema)]
pub(crate) struct ChatReply<'a> {
    /// The turn's.
    #[schema(value_type = uuid::Uuid)]
    id: TurnId,
    object: &'static str,
    model: &'a str,
    created_at: DateTime<Utc>,
    /// Absent in the `done` event, whose reader has had it in pieces.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<AssistantMessage>,
    done: bool,
    /// `stop`, `length` or `tool_calls`.
    finish_reason: &'static str,
    /// `null` when the chat is not stored.
    #[schema(value_type = Option<uuid::Uuid>)]
    conversation_id: Option<ConversationId>,
    #[schema(value_type = uuid::Uuid)]
    message_id: MessageId,
    usage: UsageView,
    timings: TimingsView,
    /// `false` when the answer could not be stored; absent when it was not to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<bool>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct AssistantMessage {
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    thinking: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCallBody>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct UsageView {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u32,
    /// `reported`, `counted` or `estimated`.
    source: &'static str,
}

/// Where the time went, in milliseconds.
#[derive(Serialize, ToSchema)]
pub(crate) struct TimingsView {
    queued_ms: u64,
    load_ms: u64,
    first_token_ms: Option<u64>,
    total_ms: u64,
}

impl From<Usage> for UsageView {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.total_tokens(),
            source: usage.source.as_str(),
        }
    }
}

impl From<Timings> for TimingsView {
    fn from(timings: Timings) -> Self {
        Self {
            queued_ms: millis(timings.queued),
            load_ms: millis(timings.load),
            first_token_ms: timings.first_token.map(millis),
            total_ms: millis(timings.total),
        }
    }
}

impl<'a> ChatReply<'a> {
    fn new(
        names: &'a TurnNames,
        message: Option<AssistantMessage>,
        finish: FinishReason,
        ending: &Ending,
    ) -> Self {
        Self {
            id: names.turn,
            object: "chat",
            model: names.model.as_str(),
            created_at: names.created_at,
            message,
            done: true,
            finish_reason: finish.as_str(),
            conversation_id: names.conversation,
            message_id: names.message,
            usage: ending.usage.into(),
            timings: ending.timings.into(),
            stored: ending.stored,
        }
    }

    /// The whole answer.
    ///
    /// # Errors
    ///
    /// What the turn failed of.
    pub(crate) fn whole(names: &'a TurnNames, answer: Answer, ending: &Ending) -> Result<Self, ApiError> {
        let finish = finish_reason(ending)?;
        let tool_calls = answer.tool_calls.into_iter().map(ToolCallBody::from).collect();
        let Answer { content, thinking, .. } = answer;
        let message = AssistantMessage { role: "assistant", content, thinking, tool_calls };
        Ok(Self::new(names, Some(message), finish, ending))
    }

    /// The last words of a streamed answer.
    ///
    /// # Errors
    ///
    /// What the turn failed of.
    pub(crate) fn closing(names: &'a TurnNames, ending: &Ending) -> Result<Self, ApiError> {
        Ok(Self::new(names, None, finish_reason(ending)?, ending))
    }
}

/// Why the model stopped.
///
/// # Errors
///
/// What the turn failed of.
pub(crate) fn finish_reason(ending: &Ending) -> Result<FinishReason, ApiError> {
    match &ending.outcome {
        Outcome::Complete(reason) => Ok(*reason),
        Outcome::Failed { code, message, retry_after } => {
            Err(ApiError::turn_failed(*code, message, *retry_after))
        }
    }
}

/// As many milliseconds as fit.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
