//! Reading a request.

use domain::{
    chat::{ChatRequest, Format, limits},
    id::TurnId,
};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};
use utoipa::ToSchema;

use super::{
    input::{InputItem, messages},
    reply::{Responses, turn_of},
    settings::{ReasoningSettings, Settings, line, line_or},
    tools::{FlatChoice, FlatTool, chosen, tools},
};
use crate::{
    dialects::{
        openai::{
            Asked,
            fields::{Drawn, manner, turn_options},
        },
        parts::{TextOr, bounded, effort, model_name, others_told},
        raw::parsed,
    },
    http::ApiError,
};

/// What `include` says where probabilities are wanted.
const LOGPROBS: &str = "message.output_text.logprobs";

/// Pairs of `metadata`, and the text of all of them.
const METADATA: usize = 16;
const METADATA_BYTES: usize = 16 << 10;

/// Other fields are ignored.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ResponsesRequest {
    #[schema(example = "llama3.2")]
    model: String,
    /// A text, or 1 to 1,000 items.
    #[schema(value_type = TextOr<InputItem>)]
    input: TextOr<InputItem>,
    /// What the model is told before all else.
    instructions: Option<String>,
    /// Go on after this response, which was stored; its instructions hold until others are given.
    previous_response_id: Option<String>,
    /// `false` unless said otherwise.
    stream: Option<bool>,
    /// The most tokens the answer may have, thoughts included.
    #[schema(minimum = 1)]
    max_output_tokens: Option<i64>,
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    #[schema(minimum = 0, maximum = 20)]
    top_logprobs: Option<i64>,
    /// `message.output_text.logprobs`; what else it may name is ignored.
    #[schema(value_type = Option<Vec<String>>)]
    include: Option<Box<RawValue>>,
    /// Functions, at most 128.
    #[schema(value_type = Option<Vec<FlatTool>>)]
    tools: Option<Box<RawValue>>,
    /// To name a function takes the others away; a model server may not know how to make a model call any.
    #[schema(value_type = Option<FlatChoice>)]
    tool_choice: Option<Box<RawValue>>,
    /// Told again, and of no consequence.
    parallel_tool_calls: Option<bool>,
    #[schema(value_type = Option<TextSettings>)]
    text: Option<Box<RawValue>>,
    reasoning: Option<ReasoningWish>,
    /// At most 16 pairs, told again.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Box<RawValue>>,
    /// Keep what is asked and answered as a conversation; `false` unless said otherwise, or a stored one is gone on with.
    store: Option<bool>,
    /// `false`: nothing runs here without somebody who waits.
    background: Option<bool>,
    /// Not here: see `previous_response_id`.
    #[schema(value_type = Option<Object>)]
    conversation: Option<Box<RawValue>>,
    /// Not here.
    #[schema(value_type = Option<Object>)]
    prompt: Option<Box<RawValue>>,
}

#[derive(Deserialize, ToSchema)]
struct ReasoningWish {
    /// `none`, `minimal`, `low`, `medium`, `high` or `xhigh`; ignored where the model does not think.
    effort: Option<String>,
}

#[derive(Deserialize, ToSchema)]
struct TextSettings {
    format: Option<TextFormat>,
}

#[derive(Deserialize, ToSchema)]
struct TextFormat {
    #[serde(rename = "type")]
    kind: TextFormatKind,
    name: Option<String>,
    #[schema(value_type = Option<Object>)]
    schema: Option<Map<String, Value>>,
    strict: Option<bool>,
    description: Option<String>,
}

#[derive(Deserialize, ToSchema, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum TextFormatKind {
    Text,
    JsonObject,
    JsonSchema,
}

impl ResponsesRequest {
    /// Checks what the types do not say, and says it in the domain's words.
    ///
    /// # Errors
    ///
    /// 400 with the field in `param`.
    pub(crate) fn read(self) -> Result<Asked<Responses>, ApiError> {
        self.refuse_what_is_not_here()?;
        let previous_response_id = self.previous_response_id.as_deref().map(previous).transpose()?;
        let drawn = Drawn {
            max_tokens: self.max_output_tokens.map(|count| ("max_output_tokens", count)),
            temperature: self.temperature,
            top_p: self.top_p,
            ..Drawn::default()
        };
        let sampling = drawn.sampling()?;
        let logprobs = logprobs(self.include.as_deref(), self.top_logprobs)?;
        let tools = tools(self.tools.as_deref())?;
        let told_tools = line(&tools);
        let (tools, tool_choice) = chosen(tools, self.tool_choice.as_deref())?;
        let (format, text) = format(self.text.as_deref())?;
        let wished = self.reasoning.and_then(|wish| wish.effort);
        let store = self.store.unwrap_or(previous_response_id.is_some());
        let settings = Settings {
            background: false,
            instructions: None,
            max_output_tokens: sampling.num_predict,
            metadata: metadata(self.metadata.as_deref())?,
            parallel_tool_calls: self.parallel_tool_calls.unwrap_or(true),
            previous_response_id,
            store,
            temperature: sampling.temperature,
            text,
            tool_choice: again(self.tool_choice.as_deref(), &json!("auto")),
            tools: told_tools,
            top_logprobs: logprobs.unwrap_or(0),
            top_p: sampling.top_p,
            truncation: "auto",
            reasoning: ReasoningSettings { effort: wished, summary: None },
        };
        let wished = settings.reasoning.effort.as_deref();
        let request = ChatRequest {
            sampling,
            tools,
            tool_choice,
            format,
            think: wished.map(|word| effort(word, "reasoning.effort")).transpose()?,
            logprobs,
            ..ChatRequest::new(model_name(&self.model)?, messages(self.instructions, self.input)?)
        };
        let manner = manner(self.stream, None);
        let options = turn_options(store, manner);
        Ok(Asked { request, options, previous: previous_response_id, manner, shape: Responses(settings) })
    }

    /// What would be done otherwise than it was meant.
    fn refuse_what_is_not_here(&self) -> Result<(), ApiError> {
        let refused = if self.background == Some(true) {
            ("background", "nothing runs here without somebody who waits: use `stream`")
        } else if self.conversation.is_some() {
            ("conversation", "a response is gone on from by `previous_response_id`")
        } else if self.prompt.is_some() {
            ("prompt", "there are no stored prompts here: say it in `instructions` and `input`")
        } else {
            return Ok(());
        };
        Err(ApiError::invalid(refused.1).at(refused.0))
    }
}

fn previous(id: &str) -> Result<TurnId, ApiError> {
    turn_of(id).ok_or_else(|| ApiError::invalid("this is no response's id").at("previous_response_id"))
}

/// How many other tokens are told in the place of each; `None`: probabilities are not asked for.
fn logprobs(include: Option<&RawValue>, others: Option<i64>) -> Result<Option<u8>, ApiError> {
    let include = include.map(|given| parsed(given, limits::OPTIONS_BYTES, || "include".to_owned()));
    let include: Vec<String> = include.transpose()?.unwrap_or_default();
    let others = others.map(|count| others_told(count, "top_logprobs")).transpose()?;
    Ok(if include.iter().any(|name| name == LOGPROBS) { Some(others.unwrap_or(0)) } else { others })
}

/// The shape of the answer's text, and how it was asked for.
fn format(given: Option<&RawValue>) -> Result<(Option<Format>, Box<RawValue>), ApiError> {
    let given = given.map(|given| parsed(given, limits::FORMAT_BYTES, || "text".to_owned()));
    let given = given.transpose()?.and_then(|text: TextSettings| text.format);
    let plain = || line(&json!({ "format": { "type": "text" } }));
    let Some(TextFormat { kind, name, schema, strict, description }) = given else {
        return Ok((None, plain()));
    };
    Ok(match kind {
        TextFormatKind::Text => (None, plain()),
        TextFormatKind::JsonObject => {
            (Some(Format::Json), line(&json!({ "format": { "type": "json_object" } })))
        }
        TextFormatKind::JsonSchema => {
            let schema = schema
                .ok_or_else(|| ApiError::invalid("a required field is missing").at("text.format.schema"))?;
            let told = json!({ "format": {
                "type": "json_schema", "name": name, "schema": schema, "strict": strict, "description": description,
            } });
            (Some(Format::Schema(Value::Object(schema))), line(&told))
        }
    })
}

fn metadata(given: Option<&RawValue>) -> Result<Box<RawValue>, ApiError> {
    let given = given.map(|given| parsed(given, METADATA_BYTES, || "metadata".to_owned()));
    let pairs: Map<String, Value> = given.transpose()?.unwrap_or_default();
    bounded("metadata", pairs.len(), 0, METADATA)?;
    if !pairs.values().all(Value::is_string) {
        return Err(ApiError::invalid("its values are texts").at("metadata"));
    }
    Ok(line(&pairs))
}

/// What was given once more, or what is usual; it is known to be JSON of no great size.
fn again(given: Option<&RawValue>, usual: &Value) -> Box<RawValue> {
    let given: Option<Value> = given.and_then(|given| serde_json::from_str(given.get()).ok());
    line_or(given.as_ref(), usual)
}

#[cfg(test)]
mod tests;
