//! OpenAI's dialect: `POST /v1/chat/completions`, `/v1/completions`, `/v1/responses` and `/v1/embeddings`.
//!
//! ```text
//! body ─▶ chat | completion ─▶ Asked (domain::ChatRequest)     ReplyReader ─▶ frames ─▶ `data: {…}` until `data: [DONE]`
//! body ─▶ responses ─▶ Asked                                   ReplyReader ─▶ typed events until `response.completed`
//! body ─▶ embedding ─▶ domain::EmbedRequest                    ReplyReader ─▶ Shape::whole ─▶ one JSON object
//! ```
//!
//! What a request says that no model server understands is ignored, as are fields that we do not know. A stream has no `id:` or
//! `retry:`, and but for responses no `event:`, which OpenAI's own libraries fail at; its only other lines are comments.

pub(crate) mod chat;
pub(crate) mod completion;
pub(crate) mod embedding;
mod fields;
mod frames;
mod logprobs;
mod reply;
pub(crate) mod responses;

use actors::{
    model::{TurnNames, TurnOptions},
    reply::{Ending, Outcome},
};
use domain::{
    chat::ChatRequest,
    id::TurnId,
    reply::{Answer, FinishReason},
};
use serde::Serialize;

pub(crate) use self::reply::Completed;

use super::Encode;
use crate::http::{ApiError, RequestId};

/// What a request asks for, and the shape its answer is wanted in.
#[derive(Debug)]
pub(crate) struct Asked<S> {
    pub(crate) request: ChatRequest,
    pub(crate) options: TurnOptions,
    /// The turn after whose answer this one goes on.
    pub(crate) previous: Option<TurnId>,
    pub(crate) manner: Manner,
    pub(crate) shape: S,
}

/// How the answer is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Whole,
    /// As it comes; at its end, if so wished, with what it cost.
    Streamed {
        with_usage: bool,
    },
}

/// How answers look on one of the paths.
pub(crate) trait Shape {
    type Encoder: Encode + 'static;

    /// For an answer that is told as it comes.
    fn encoder(self, names: TurnNames, request_id: RequestId, with_usage: bool) -> Self::Encoder;

    /// For one that is told when it is whole.
    ///
    /// # Errors
    ///
    /// What the turn failed of.
    fn whole<'a>(
        &'a self,
        names: &'a TurnNames,
        answer: &'a Answer,
        ending: &'a Ending,
    ) -> Result<impl Serialize, ApiError>;
}

/// Why the answer ended, in OpenAI's words. Some model servers say only that they stopped where they called tools.
///
/// # Errors
///
/// What the turn failed of.
fn finish_reason(ending: &Ending, has_calls: bool) -> Result<&'static str, ApiError> {
    match &ending.outcome {
        Outcome::Complete(FinishReason::Stop) if has_calls => Ok(FinishReason::ToolCalls.as_str()),
        Outcome::Complete(reason) => Ok(reason.as_str()),
        Outcome::Failed { code, message, retry_after } => {
            Err(ApiError::turn_failed(*code, message, *retry_after))
        }
    }
}
