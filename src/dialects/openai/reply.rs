//! What whole replies to chats and completions have in common.

use actors::{model::TurnNames, reply::Ending};
use domain::id::TurnId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::dialects::native::TimingsView;

/// OpenAI's clients want to see what answered; model servers do not say.
pub(super) const FINGERPRINT: &str = "fp_deepersensor";

/// The names of one kind of reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    id_prefix: &'static str,
    pub(super) whole: &'static str,
    pub(super) chunk: &'static str,
}

pub(super) const CHAT: Kind =
    Kind { id_prefix: "chatcmpl-", whole: "chat.completion", chunk: "chat.completion.chunk" };
pub(super) const COMPLETION: Kind =
    Kind { id_prefix: "cmpl-", whole: "text_completion", chunk: "text_completion" };

impl Kind {
    /// What follows the prefix is the turn's id, by which `/v1/turns` knows it, too.
    pub(super) fn id(self, turn: TurnId) -> String {
        format!("{}{}", self.id_prefix, turn.as_uuid().simple())
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = CompletionUsage)]
pub(crate) struct Usage {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u32,
    /// `reported`, `counted` or `estimated`; a field of ours.
    source: &'static str,
}

impl From<domain::reply::Usage> for Usage {
    fn from(usage: domain::reply::Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.total_tokens(),
            source: usage.source.as_str(),
        }
    }
}

/// A whole reply.
#[derive(Serialize, ToSchema)]
pub(crate) struct Completed<'a, Choice> {
    id: String,
    object: &'static str,
    /// Unix seconds.
    created: i64,
    /// As it was asked for.
    model: &'a str,
    system_fingerprint: &'static str,
    /// One.
    choices: Vec<Choice>,
    usage: Usage,
    /// A field of ours; `first_token_ms` counts from the free slot.
    timings: TimingsView,
    /// A field of ours: `false` when the answer could not be stored; absent when it was not to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<bool>,
}

impl<'a, Choice> Completed<'a, Choice> {
    pub(super) fn new(kind: Kind, names: &'a TurnNames, choice: Choice, ending: &Ending) -> Self {
        Self {
            id: kind.id(names.turn),
            object: kind.whole,
            created: names.created_at.timestamp(),
            model: names.model.as_str(),
            system_fingerprint: FINGERPRINT,
            choices: vec![choice],
            usage: ending.usage.into(),
            timings: ending.timings.into(),
            stored: ending.stored,
        }
    }
}
