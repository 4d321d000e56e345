//! The text as one object.

use actors::{model::TurnNames, reply::Ending};
use domain::reply::Answer;
use serde::Serialize;
use utoipa::ToSchema;

use super::stream::Encoder;
use crate::{
    dialects::openai::{
        Shape, finish_reason,
        logprobs::TextLogprobs,
        reply::{COMPLETION, Completed},
    },
    http::{ApiError, RequestId},
};

/// How the answers of this path look.
#[derive(Debug)]
pub(crate) struct Completions;

#[derive(Serialize, ToSchema)]
pub(crate) struct CompletionChoice<'a> {
    text: &'a str,
    index: u32,
    /// `null` unless asked for.
    logprobs: Option<TextLogprobs<'a>>,
    /// `stop` or `length`.
    finish_reason: &'static str,
}

impl Shape for Completions {
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
        let finish_reason = finish_reason(ending, false)?;
        let has_logprobs = !answer.logprobs.is_empty();
        let logprobs = has_logprobs.then(|| TextLogprobs::of(&answer.logprobs, &mut 0));
        let choice = CompletionChoice { text: &answer.content, index: 0, logprobs, finish_reason };
        Ok(Completed::new(COMPLETION, names, choice, ending))
    }
}
