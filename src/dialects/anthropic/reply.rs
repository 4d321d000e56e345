//! The answer as one message.

use actors::{model::TurnNames, reply::Ending};
use domain::{
    id::TurnId,
    reply::{Answer, FinishReason, Usage},
};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    dialects::{
        native::finish_reason,
        parts::{arguments_object, call_id},
    },
    http::ApiError,
};

#[derive(Serialize, ToSchema)]
pub(crate) struct MessageReply<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<AnswerBlock<'a>>,
    /// `end_turn`, `max_tokens` or `tool_use`; `null` at the start of a stream.
    stop_reason: Option<&'static str>,
    /// Always `null`: which one it was is not told.
    stop_sequence: Option<&'static str>,
    usage: MessageUsage,
}

#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum AnswerBlock<'a> {
    Thinking {
        thinking: &'a str,
        /// Empty: nothing here vouches for thoughts.
        signature: &'static str,
    },
    Text {
        text: &'a str,
    },
    ToolUse {
        id: String,
        name: &'a str,
        input: Map<String, Value>,
    },
}

#[derive(Serialize, ToSchema)]
pub(super) struct MessageUsage {
    input_tokens: u32,
    output_tokens: u32,
}

/// How much there is to read, by rule of thumb: only the model's own server could count.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenCount {
    pub(crate) input_tokens: u32,
}

impl From<Usage> for MessageUsage {
    fn from(usage: Usage) -> Self {
        Self { input_tokens: usage.prompt_tokens, output_tokens: usage.completion_tokens }
    }
}

impl<'a> MessageReply<'a> {
    /// # Errors
    ///
    /// What the turn failed of.
    pub(crate) fn whole(names: &'a TurnNames, answer: &'a Answer, ending: &Ending) -> Result<Self, ApiError> {
        let stop_reason = Some(stop_reason(finish_reason(ending)?));
        let thinking = Some(answer.thinking.as_str()).filter(|text| !text.is_empty());
        let thinking = thinking.map(|thinking| AnswerBlock::Thinking { thinking, signature: "" });
        let text = Some(answer.content.as_str()).filter(|text| !text.is_empty());
        let text = text.map(|text| AnswerBlock::Text { text });
        let calls = answer.tool_calls.iter().enumerate().map(|(nth, call)| AnswerBlock::ToolUse {
            id: call_id(call, names.turn, nth).into_owned(),
            name: &call.name,
            input: arguments_object(call.arguments.clone()),
        });
        let content = thinking.into_iter().chain(text).chain(calls).collect();
        Ok(Self { content, stop_reason, usage: ending.usage.into(), ..Self::opening(names, 0) })
    }

    /// The beginning of a stream, with an estimate of what there was to read.
    pub(super) fn opening(names: &'a TurnNames, input_tokens: u32) -> Self {
        Self {
            id: id_of(names.turn),
            kind: "message",
            role: "assistant",
            model: names.model.as_str(),
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            usage: MessageUsage { input_tokens, output_tokens: 0 },
        }
    }
}

fn id_of(turn: TurnId) -> String {
    format!("msg_{}", turn.as_uuid().simple())
}

pub(super) const fn stop_reason(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "end_turn",
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
    }
}
