//! What an answer is made of: thoughts, a message, calls of functions, each with a name of its own.

use std::borrow::Cow;

use domain::{id::TurnId, reply::TokenLogprob};
use serde::Serialize;
use utoipa::ToSchema;

use crate::dialects::openai::logprobs::ChatLogprob;

/// An item, or as much of it as there is.
#[derive(Debug)]
pub(super) enum Item<'a> {
    Reasoning { text: Cow<'a, str> },
    Message { text: Cow<'a, str>, logprobs: Cow<'a, [TokenLogprob]> },
    Call { call_id: Cow<'a, str>, name: Cow<'a, str>, arguments: String },
}

/// How far an item is.
#[derive(Debug, Serialize, ToSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum ItemStatus {
    InProgress,
    Completed,
    /// The answer ended within it.
    Incomplete,
}

#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = ResponseItem)]
pub(super) enum ItemView<'a> {
    Reasoning {
        id: String,
        /// What the model thought, as it thought it.
        summary: Vec<PartView<'a>>,
        /// Always `null`: thoughts are told as they are, and asking again needs them in no other form.
        encrypted_content: Option<&'static str>,
        status: ItemStatus,
    },
    Message {
        id: String,
        status: ItemStatus,
        role: &'static str,
        content: Vec<PartView<'a>>,
    },
    FunctionCall {
        id: String,
        call_id: &'a str,
        name: &'a str,
        /// A JSON object in a string.
        arguments: &'a str,
        status: ItemStatus,
    },
}

#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = ResponsePart)]
pub(super) enum PartView<'a> {
    SummaryText {
        text: &'a str,
    },
    OutputText {
        text: &'a str,
        /// Always empty.
        annotations: &'static [String],
        logprobs: Vec<ChatLogprob<'a>>,
    },
}

impl Item<'_> {
    pub(super) fn into_owned(self) -> Item<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        match self {
            Self::Reasoning { text } => Item::Reasoning { text: owned(text) },
            Self::Message { text, logprobs } => {
                Item::Message { text: owned(text), logprobs: Cow::Owned(logprobs.into_owned()) }
            }
            Self::Call { call_id, name, arguments } => {
                Item::Call { call_id: owned(call_id), name: owned(name), arguments }
            }
        }
    }

    /// What the item at this place of its turn's answer is known by.
    pub(super) fn id(&self, turn: TurnId, index: usize) -> String {
        let prefix = match self {
            Self::Reasoning { .. } => "rs",
            Self::Message { .. } => "msg",
            Self::Call { .. } => "fc",
        };
        format!("{prefix}_{}_{index}", turn.as_uuid().simple())
    }

    /// The item as it stands; one `in_progress` has no words yet.
    pub(super) fn view(&self, turn: TurnId, index: usize, status: ItemStatus) -> ItemView<'_> {
        let id = self.id(turn, index);
        let is_begun = status != ItemStatus::InProgress;
        match self {
            Self::Reasoning { .. } => {
                let summary = self.part().filter(|_| is_begun).into_iter().collect();
                ItemView::Reasoning { id, summary, encrypted_content: None, status }
            }
            Self::Message { .. } => {
                let content = self.part().filter(|_| is_begun).into_iter().collect();
                ItemView::Message { id, status, role: "assistant", content }
            }
            Self::Call { call_id, name, arguments } => {
                let arguments = if is_begun { arguments } else { "" };
                ItemView::FunctionCall { id, call_id, name, arguments, status }
            }
        }
    }

    /// Its words; a call has none.
    pub(super) fn part(&self) -> Option<PartView<'_>> {
        match self {
            Self::Reasoning { text } => Some(PartView::SummaryText { text }),
            Self::Message { text, logprobs } => Some(PartView::output(text, logprobs)),
            Self::Call { .. } => None,
        }
    }
}

impl<'a> PartView<'a> {
    pub(super) fn output(text: &'a str, logprobs: &'a [TokenLogprob]) -> Self {
        let logprobs = logprobs.iter().map(ChatLogprob::from).collect();
        Self::OutputText { text, annotations: &[], logprobs }
    }
}
