//! Reading a request.

use domain::chat::{ChatMessage, ChatRequest, Completion, Role};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::reply::Completions;
use crate::{
    dialects::{
        openai::{
            Asked,
            fields::{Drawn, StreamOptions, manner, one_answer, turn_options},
        },
        parts::{TextOr, model_name, others_told},
    },
    http::ApiError,
};

/// Other fields are ignored.
#[derive(Deserialize, ToSchema)]
pub(crate) struct CompletionRequest {
    #[schema(example = "llama3.2")]
    model: String,
    /// One text, which may stand in a list.
    prompt: TextOr<String>,
    /// What follows the gap that is to be filled.
    suffix: Option<String>,
    /// `false` unless said otherwise.
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// The most tokens the answer may have; a negative number is as many as we allow, and so is none.
    max_tokens: Option<i64>,
    seed: Option<i64>,
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    #[schema(minimum = -2, maximum = 2)]
    presence_penalty: Option<f64>,
    #[schema(minimum = -2, maximum = 2)]
    frequency_penalty: Option<f64>,
    /// A string, or a list of at most 16.
    #[schema(value_type = Option<TextOr<String>>)]
    stop: Option<Box<RawValue>>,
    /// How many tokens are told in the place of each.
    #[schema(minimum = 0, maximum = 20)]
    logprobs: Option<i64>,
    /// `false`: the prompt is not told again.
    echo: Option<bool>,
    #[schema(minimum = 1, maximum = 1)]
    best_of: Option<i64>,
    #[schema(minimum = 1, maximum = 1)]
    n: Option<i64>,
    /// Keep the prompt and the answer as a conversation; `false` unless said otherwise.
    store: Option<bool>,
}

impl CompletionRequest {
    /// Checks what the types do not say, and says it in the domain's words.
    ///
    /// # Errors
    ///
    /// 400 with the field in `param`.
    pub(crate) fn read(self) -> Result<Asked<Completions>, ApiError> {
        one_answer(self.n, "n")?;
        one_answer(self.best_of, "best_of")?;
        if self.echo == Some(true) {
            return Err(ApiError::invalid("the prompt is not told again").at("echo"));
        }
        let drawn = Drawn {
            max_tokens: self.max_tokens.map(|count| ("max_tokens", count)),
            seed: self.seed,
            temperature: self.temperature,
            top_p: self.top_p,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            stop: self.stop,
        };
        let messages = vec![ChatMessage::text(Role::User, only(self.prompt)?)];
        let request = ChatRequest {
            sampling: drawn.sampling()?,
            logprobs: self.logprobs.map(|count| others_told(count, "logprobs")).transpose()?,
            completion: Some(Completion { suffix: self.suffix, raw: false }),
            ..ChatRequest::new(model_name(&self.model)?, messages)
        };
        let manner = manner(self.stream, self.stream_options.as_ref());
        let options = turn_options(self.store.unwrap_or(false), manner);
        Ok(Asked { request, options, previous: None, manner, shape: Completions })
    }
}

/// Each prompt would be a turn of its own.
fn only(prompt: TextOr<String>) -> Result<String, ApiError> {
    let one = match prompt {
        TextOr::Text(text) => Some(text),
        TextOr::List(mut texts) => texts.pop().filter(|_| texts.is_empty()),
    };
    // An empty prompt means to load or unload the model, which is not for callers to do.
    one.filter(|text| !text.is_empty())
        .ok_or_else(|| ApiError::invalid("`prompt` is one text that says something").at("prompt"))
}

#[cfg(test)]
mod tests;
