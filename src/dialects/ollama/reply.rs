//! An answer, or a piece of one, as one object.

use std::time::Duration;

use actors::reply::Ending;
use chrono::{DateTime, SecondsFormat, Utc};
use domain::reply::{Answer, FinishReason, TokenLogprob};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    dialects::{native::finish_reason, parts::arguments_object},
    http::ApiError,
};

/// Which of the two paths an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// `/api/chat`: the text is in a `message`.
    Chat,
    /// `/api/generate`: it is the `response`.
    Generate,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct OllamaReply<'a> {
    pub(super) model: &'a str,
    #[serde(serialize_with = "nanoseconds")]
    pub(super) created_at: DateTime<Utc>,
    /// In `/api/chat`.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<OllamaMessage<'a>>,
    /// In `/api/generate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<&'a str>,
    /// In `/api/generate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a str>,
    #[serde(skip_serializing_if = "<[TokenLogprob]>::is_empty")]
    #[schema(value_type = Vec<Object>)]
    logprobs: &'a [TokenLogprob],
    done: bool,
    /// `stop`, `length`, `load` or `unload`.
    #[serde(skip_serializing_if = "Option::is_none")]
    done_reason: Option<&'static str>,
    /// Only at the end.
    #[serde(flatten)]
    #[schema(value_type = Metrics)]
    metrics: Option<Metrics>,
}

#[derive(Serialize, ToSchema)]
struct OllamaMessage<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<OllamaCall<'a>>,
}

#[derive(Serialize, ToSchema)]
struct OllamaCall<'a> {
    id: &'a str,
    function: OllamaFunction<'a>,
}

#[derive(Serialize, ToSchema)]
struct OllamaFunction<'a> {
    index: usize,
    name: &'a str,
    arguments: Map<String, Value>,
}

/// Durations are in nanoseconds.
#[derive(Serialize, ToSchema)]
struct Metrics {
    /// From the request on, waiting included.
    #[schema(required = false)]
    total_duration: u64,
    #[schema(required = false)]
    load_duration: u64,
    #[schema(required = false)]
    prompt_eval_count: u32,
    #[schema(required = false)]
    prompt_eval_duration: u64,
    #[schema(required = false)]
    eval_count: u32,
    #[schema(required = false)]
    eval_duration: u64,
}

impl Metrics {
    fn of(Ending { usage, timings, .. }: &Ending) -> Self {
        let to_first = timings.first_token.unwrap_or_default();
        Self {
            total_duration: nanos(timings.total),
            load_duration: nanos(timings.load),
            prompt_eval_count: usage.prompt_tokens,
            prompt_eval_duration: nanos(to_first.saturating_sub(timings.load)),
            eval_count: usage.completion_tokens,
            eval_duration: nanos(timings.total.saturating_sub(timings.queued).saturating_sub(to_first)),
        }
    }
}

/// As many nanoseconds as fit.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn nanoseconds<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Nanos, true))
}

impl<'a> OllamaReply<'a> {
    /// A piece of an answer: its text, its thoughts.
    pub(super) fn piece(
        model: &'a str,
        created_at: DateTime<Utc>,
        manner: Manner,
        content: &'a str,
        thinking: Option<&'a str>,
    ) -> Self {
        let message = OllamaMessage { role: "assistant", content, thinking, tool_calls: Vec::new() };
        let is_chat = manner == Manner::Chat;
        Self {
            model,
            created_at,
            message: is_chat.then_some(message),
            response: (!is_chat).then_some(content),
            thinking: thinking.filter(|_| !is_chat),
            logprobs: &[],
            done: false,
            done_reason: None,
            metrics: None,
        }
    }

    /// With calls of tools, the first of which is the `nth` of its answer; there are none in `/api/generate`.
    pub(super) fn calling(mut self, calls: &'a [domain::chat::ToolCall], nth: usize) -> Self {
        if let Some(message) = &mut self.message {
            let call = |(at, call): (usize, &'a domain::chat::ToolCall)| OllamaCall {
                id: &call.id,
                function: OllamaFunction {
                    index: nth + at,
                    name: &call.name,
                    arguments: arguments_object(call.arguments.clone()),
                },
            };
            message.tool_calls = calls.iter().enumerate().map(call).collect();
        }
        self
    }

    pub(super) fn with_logprobs(self, logprobs: &'a [TokenLogprob]) -> Self {
        Self { logprobs, ..self }
    }

    /// The last words of an answer.
    ///
    /// # Errors
    ///
    /// What the turn failed of.
    pub(super) fn ended(self, ending: &Ending) -> Result<Self, ApiError> {
        let done_reason = match finish_reason(ending)? {
            FinishReason::Length => "length",
            // Calls of tools do not count as a reason here.
            FinishReason::Stop | FinishReason::ToolCalls => "stop",
        };
        Ok(Self { done: true, done_reason: Some(done_reason), metrics: Some(Metrics::of(ending)), ..self })
    }

    /// The whole answer.
    ///
    /// # Errors
    ///
    /// What the turn failed of.
    pub(crate) fn whole(
        model: &'a str,
        created_at: DateTime<Utc>,
        manner: Manner,
        answer: &'a Answer,
        ending: &Ending,
    ) -> Result<Self, ApiError> {
        let thinking = Some(answer.thinking.as_str()).filter(|text| !text.is_empty());
        let piece = Self::piece(model, created_at, manner, &answer.content, thinking);
        piece.calling(&answer.tool_calls, 0).with_logprobs(&answer.logprobs).ended(ending)
    }

    /// What is said to who wants a model loaded, or to go. Nothing was done about it: a model is loaded when it is asked something,
    /// and goes when another one needs its room.
    pub(crate) fn residence(
        model: &'a str,
        created_at: DateTime<Utc>,
        manner: Manner,
        is_to_go: bool,
    ) -> Self {
        let done_reason = Some(if is_to_go { "unload" } else { "load" });
        Self { done: true, done_reason, ..Self::piece(model, created_at, manner, "", None) }
    }
}
