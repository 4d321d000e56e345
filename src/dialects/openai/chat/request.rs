//! Reading a request.

use domain::chat::{ChatRequest, Format, Think, limits};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use utoipa::ToSchema;

use super::{
    choice::{ToolChoiceBody, chosen},
    message::{ChatCompletionMessage, messages},
    reply::ChatCompletions,
};
use crate::{
    dialects::{
        openai::{
            Asked,
            fields::{Drawn, StreamOptions, manner, one_answer, turn_options},
        },
        parts::{TextOr, choose, effort, model_name, others_told, tools},
        raw::parsed,
    },
    http::ApiError,
};

/// Other fields are ignored.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ChatCompletionRequest {
    #[schema(example = "llama3.2")]
    model: String,
    /// 1 to 1,000.
    #[schema(min_items = 1, max_items = 1000)]
    messages: Vec<ChatCompletionMessage>,
    /// `false` unless said otherwise.
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// The most tokens the answer may have, thoughts included; a negative number is as many as we allow.
    max_completion_tokens: Option<i64>,
    /// The same by its older name; the newer one counts.
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
    /// Function definitions: `{"type":"function","function":{"name","description","parameters"}}`, at most 128.
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Box<RawValue>>,
    /// To name a function takes the others away; a model server may not know how to make a model call any.
    #[schema(value_type = Option<ToolChoiceBody>)]
    tool_choice: Option<Box<RawValue>>,
    #[schema(value_type = Option<ResponseFormat>)]
    response_format: Option<Box<RawValue>>,
    /// `none`, `minimal`, `low`, `medium`, `high` or `xhigh`; ignored where the model does not think.
    reasoning_effort: Option<String>,
    reasoning: Option<Reasoning>,
    logprobs: Option<bool>,
    #[schema(minimum = 0, maximum = 20)]
    top_logprobs: Option<i64>,
    /// 1: ask again for another answer.
    #[schema(minimum = 1, maximum = 1)]
    n: Option<i64>,
    /// Keep the messages and the answer as a conversation; `false` unless said otherwise.
    store: Option<bool>,
}

/// Another way to say `reasoning_effort`, which counts.
#[derive(Deserialize, ToSchema)]
struct Reasoning {
    effort: Option<String>,
}

#[derive(Deserialize, ToSchema)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: ResponseFormatKind,
    json_schema: Option<JsonSchemaFormat>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ResponseFormatKind {
    Text,
    JsonObject,
    JsonSchema,
}

#[derive(Deserialize, ToSchema)]
struct JsonSchemaFormat {
    #[schema(value_type = Option<Object>)]
    schema: Option<Map<String, Value>>,
}

impl ChatCompletionRequest {
    /// Checks what the types do not say, and says it in the domain's words.
    ///
    /// # Errors
    ///
    /// 400 with the field in `param`.
    pub(crate) fn read(self) -> Result<Asked<ChatCompletions>, ApiError> {
        one_answer(self.n, "n")?;
        let newer = self.max_completion_tokens.map(|count| ("max_completion_tokens", count));
        let drawn = Drawn {
            max_tokens: newer.or(self.max_tokens.map(|count| ("max_tokens", count))),
            seed: self.seed,
            temperature: self.temperature,
            top_p: self.top_p,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            stop: self.stop,
        };
        let choice = chosen(self.tool_choice.as_deref())?;
        let (tools, tool_choice) = choose(choice, tools(self.tools.as_deref())?, "tool_choice")?;
        let logprobs = match self.top_logprobs.map(|count| others_told(count, "top_logprobs")).transpose()? {
            others if self.logprobs == Some(true) => Some(others.unwrap_or(0)),
            _ => None,
        };
        let request = ChatRequest {
            sampling: drawn.sampling()?,
            tools,
            tool_choice,
            format: format(self.response_format.as_deref())?,
            think: think(self.reasoning_effort.as_deref(), self.reasoning.as_ref())?,
            logprobs,
            ..ChatRequest::new(model_name(&self.model)?, messages(self.messages)?)
        };
        let manner = manner(self.stream, self.stream_options.as_ref());
        let options = turn_options(self.store.unwrap_or(false), manner);
        Ok(Asked { request, options, previous: None, manner, shape: ChatCompletions })
    }
}

fn format(given: Option<&RawValue>) -> Result<Option<Format>, ApiError> {
    let Some(given) = given else { return Ok(None) };
    let given: ResponseFormat = parsed(given, limits::FORMAT_BYTES, || "response_format".to_owned())?;
    match given.kind {
        ResponseFormatKind::Text => Ok(None),
        ResponseFormatKind::JsonObject => Ok(Some(Format::Json)),
        ResponseFormatKind::JsonSchema => {
            let schema = given.json_schema.and_then(|given| given.schema).ok_or_else(|| {
                ApiError::invalid("a required field is missing").at("response_format.json_schema.schema")
            })?;
            Ok(Some(Format::Schema(Value::Object(schema))))
        }
    }
}

fn think(word: Option<&str>, reasoning: Option<&Reasoning>) -> Result<Option<Think>, ApiError> {
    if let Some(word) = word {
        return effort(word, "reasoning_effort").map(Some);
    }
    let word = reasoning.and_then(|reasoning| reasoning.effort.as_deref());
    word.map(|word| effort(word, "reasoning.effort")).transpose()
}

#[cfg(test)]
mod tests;
