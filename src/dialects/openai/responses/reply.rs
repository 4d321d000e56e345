//! A response: what became of what was asked, as one object.

use actors::{model::TurnNames, reply::Ending};
use domain::{
    chat::ToolCall,
    id::TurnId,
    reply::{Answer, FinishReason},
};
use serde::Serialize;
use std::borrow::Cow;
use utoipa::ToSchema;

use super::{
    item::{Item, ItemStatus, ItemView},
    settings::Settings,
    stream::Encoder,
};
use crate::{
    dialects::{
        native::{TimingsView, finish_reason},
        openai::Shape,
        parts::{arguments_text, call_id},
    },
    http::{ApiError, RequestId},
};

/// How the answers of this path look.
#[derive(Debug)]
pub(crate) struct Responses(pub(super) Settings);

#[derive(Serialize, ToSchema)]
#[schema(as = Response)]
pub(crate) struct ResponseReply<'a> {
    id: String,
    object: &'static str,
    /// Unix seconds.
    created_at: i64,
    /// `in_progress`, `completed`, `incomplete` or `failed`.
    status: &'static str,
    /// Only of one that failed, which is told in streams only.
    error: Option<ResponseFailure<'a>>,
    incomplete_details: Option<Incomplete>,
    /// As it was asked for.
    model: &'a str,
    output: Vec<ItemView<'a>>,
    /// `null` until the end.
    usage: Option<ResponseUsage>,
    #[serde(flatten)]
    settings: &'a Settings,
    /// A field of ours; `first_token_ms` counts from the free slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<TimingsView>,
    /// A field of ours: `false` when the answer could not be stored; absent when it was not to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<bool>,
}

#[derive(Serialize, ToSchema)]
struct ResponseFailure<'a> {
    /// Stable; branch on it.
    code: &'a str,
    /// For people; may change.
    message: &'a str,
}

#[derive(Serialize, ToSchema)]
struct Incomplete {
    reason: &'static str,
}

#[derive(Serialize, ToSchema)]
struct ResponseUsage {
    input_tokens: u32,
    input_tokens_details: InputDetails,
    output_tokens: u32,
    output_tokens_details: OutputDetails,
    total_tokens: u32,
    /// `reported`, `counted` or `estimated`; a field of ours.
    source: &'static str,
}

#[derive(Serialize, ToSchema)]
struct InputDetails {
    /// 0: model servers do not say.
    cached_tokens: u32,
}

#[derive(Serialize, ToSchema)]
struct OutputDetails {
    /// 0: model servers do not say.
    reasoning_tokens: u32,
}

impl From<domain::reply::Usage> for ResponseUsage {
    fn from(usage: domain::reply::Usage) -> Self {
        Self {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputDetails { cached_tokens: 0 },
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputDetails { reasoning_tokens: 0 },
            total_tokens: usage.total_tokens(),
            source: usage.source.as_str(),
        }
    }
}

/// By which a later request may go on from it; what follows the prefix is the turn's id, by which `/v1/turns` knows it, too.
pub(super) fn id_of(turn: TurnId) -> String {
    format!("resp_{}", turn.as_uuid().simple())
}

/// The turn of the response called `id`.
pub(super) fn turn_of(id: &str) -> Option<TurnId> {
    id.strip_prefix("resp_")?.parse().ok()
}

/// The `nth` call of a turn's answer.
pub(super) fn called<'a>(call: &'a ToolCall, turn: TurnId, nth: usize) -> Item<'a> {
    let (call_id, name) = (call_id(call, turn, nth), Cow::Borrowed(call.name.as_str()));
    Item::Call { call_id, name, arguments: arguments_text(call) }
}

impl<'a> ResponseReply<'a> {
    /// One of which nothing is there yet.
    pub(super) fn opening(names: &'a TurnNames, settings: &'a Settings) -> Self {
        Self {
            id: id_of(names.turn),
            object: "response",
            created_at: names.created_at.timestamp(),
            status: "in_progress",
            error: None,
            incomplete_details: None,
            model: names.model.as_str(),
            output: Vec::new(),
            usage: None,
            settings,
            timings: None,
            stored: None,
        }
    }

    /// One that ended by itself.
    pub(super) fn ended(
        names: &'a TurnNames,
        settings: &'a Settings,
        items: &'a [Item<'a>],
        finish: FinishReason,
        ending: &Ending,
    ) -> Self {
        let is_cut = finish == FinishReason::Length;
        Self {
            status: if is_cut { "incomplete" } else { "completed" },
            incomplete_details: is_cut.then_some(Incomplete { reason: "max_output_tokens" }),
            output: views(items, names.turn, is_cut),
            usage: Some(ending.usage.into()),
            timings: Some(ending.timings.into()),
            stored: ending.stored,
            ..Self::opening(names, settings)
        }
    }

    /// One that failed, with what was said before.
    pub(super) fn failed(
        names: &'a TurnNames,
        settings: &'a Settings,
        items: &'a [Item<'a>],
        error: (&'a str, &'a str),
        ending: Option<&Ending>,
    ) -> Self {
        Self {
            status: "failed",
            error: Some(ResponseFailure { code: error.0, message: error.1 }),
            output: views(items, names.turn, true),
            usage: ending.map(|ending| ending.usage.into()),
            timings: ending.map(|ending| ending.timings.into()),
            stored: ending.and_then(|ending| ending.stored),
            ..Self::opening(names, settings)
        }
    }
}

/// All of an answer, the last item of which may have been `cut`. Calls come whole or not at all.
fn views<'a>(items: &'a [Item<'a>], turn: TurnId, is_cut: bool) -> Vec<ItemView<'a>> {
    let view = |(index, item): (usize, &'a Item<'a>)| {
        let is_cut = is_cut && index + 1 == items.len() && !matches!(item, Item::Call { .. });
        item.view(turn, index, if is_cut { ItemStatus::Incomplete } else { ItemStatus::Completed })
    };
    items.iter().enumerate().map(view).collect()
}

/// What an answer is made of: a message even if nothing was said, unless something is to be called.
pub(super) fn items<'a>(answer: &'a Answer, turn: TurnId) -> Vec<Item<'a>> {
    let thoughts = Some(answer.thinking.as_str()).filter(|text| !text.is_empty());
    let thoughts = thoughts.map(|text| Item::Reasoning { text: text.into() });
    let is_told = !answer.content.is_empty() || answer.tool_calls.is_empty();
    let message = is_told.then(|| Item::Message {
        text: answer.content.as_str().into(),
        logprobs: answer.logprobs.as_slice().into(),
    });
    let calls = answer.tool_calls.iter().enumerate().map(|(nth, call)| called(call, turn, nth));
    thoughts.into_iter().chain(message).chain(calls).collect()
}

/// A response with what it is made of.
#[derive(Debug)]
pub(crate) struct Whole<'a> {
    names: &'a TurnNames,
    settings: &'a Settings,
    items: Vec<Item<'a>>,
    finish: FinishReason,
    ending: &'a Ending,
}

impl Serialize for Whole<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { names, settings, items, finish, ending } = self;
        ResponseReply::ended(names, settings, items, *finish, ending).serialize(serializer)
    }
}

impl Shape for Responses {
    type Encoder = Encoder;

    fn encoder(self, names: TurnNames, request_id: RequestId, _with_usage: bool) -> Encoder {
        Encoder::new(names, request_id, self.0)
    }

    fn whole<'a>(
        &'a self,
        names: &'a TurnNames,
        answer: &'a Answer,
        ending: &'a Ending,
    ) -> Result<impl Serialize, ApiError> {
        let finish = finish_reason(ending)?;
        Ok(Whole { names, settings: &self.0, items: items(answer, names.turn), finish, ending })
    }
}
