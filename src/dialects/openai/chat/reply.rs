//! The answer as one object.

use actors::{model::TurnNames, reply::Ending};
use domain::{
    chat::ToolCall,
    id::TurnId,
    reply::{Answer, TokenLogprob},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::stream::Encoder;
use crate::{
    dialects::{
        openai::{
            Shape, finish_reason,
            logprobs::ChatLogprobs,
            reply::{CHAT, Completed},
        },
        parts::{arguments_text, call_id},
    },
    http::{ApiError, RequestId},
};

/// How the answers of this path look.
#[derive(Debug)]
pub(crate) struct ChatCompletions;

#[derive(Serialize, ToSchema)]
pub(crate) struct ChatCompletionChoice<'a> {
    index: u32,
    message: ChatCompletionAnswer<'a>,
    /// `null` unless asked for.
    logprobs: Option<ChatLogprobs<'a>>,
    /// `stop`, `length` or `tool_calls`.
    finish_reason: &'static str,
}

#[derive(Serialize, ToSchema)]
struct ChatCompletionAnswer<'a> {
    role: &'static str,
    /// `null` when there is nothing but tool calls.
    content: Option<&'a str>,
    /// Always `null`: refusals are not told apart.
    refusal: Option<&'static str>,
    /// What the model thought before, by both names that clients look for.
    #[serde(skip_serializing_if = "str::is_empty")]
    reasoning: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reasoning_content: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<AnsweredCall<'a>>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct AnsweredCall<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: AnsweredFunction<'a>,
}

#[derive(Serialize, ToSchema)]
struct AnsweredFunction<'a> {
    name: &'a str,
    /// A JSON object in a string.
    arguments: String,
}

impl<'a> AnsweredCall<'a> {
    /// The `nth` call of the turn's answer.
    pub(super) fn new(call: &'a ToolCall, turn: TurnId, nth: usize) -> Self {
        Self {
            id: call_id(call, turn, nth).into_owned(),
            kind: "function",
            function: AnsweredFunction { name: &call.name, arguments: arguments_text(call) },
        }
    }
}

/// Where none were asked for there are none to tell.
fn told(tokens: &[TokenLogprob]) -> Option<ChatLogprobs<'_>> {
    (!tokens.is_empty()).then(|| ChatLogprobs::of(tokens))
}

impl Shape for ChatCompletions {
    type Encoder = Encoder;

    fn encoder(self, names: TurnNames, request_id: RequestId, with_usage: bool) -> Encoder {
        Encoder::new(names, request_id, with_usage)
    }

    fn whole<'a>(
        &'a self,
        names: &'a TurnNames,
        answer: &'a Answer,
        ending: &'a Ending,
    ) -> Result<impl Serialize, ApiError> {
        let finish_reason = finish_reason(ending, !answer.tool_calls.is_empty())?;
        let calls = answer.tool_calls.iter().enumerate();
        let message = ChatCompletionAnswer {
            role: "assistant",
            content: Some(answer.content.as_str())
                .filter(|text| !text.is_empty() || answer.tool_calls.is_empty()),
            refusal: None,
            reasoning: &answer.thinking,
            reasoning_content: &answer.thinking,
            tool_calls: calls.map(|(nth, call)| AnsweredCall::new(call, names.turn, nth)).collect(),
        };
        let choice =
            ChatCompletionChoice { index: 0, message, logprobs: told(&answer.logprobs), finish_reason };
        Ok(Completed::new(CHAT, names, choice, ending))
    }
}
