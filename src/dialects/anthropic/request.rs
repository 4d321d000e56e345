//! Reading a request.

use actors::model::TurnOptions;
use domain::chat::{ChatRequest, Format, Sampling, Think, limits};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use utoipa::ToSchema;

use super::{
    message::{AnthropicMessage, ContentBlock, messages},
    tools::{AnthropicTool, AnthropicToolChoice, tools},
};
use crate::{
    dialects::{
        parts::{TextOr, answer_tokens, bounded, effort, model_name, within},
        raw::parsed,
    },
    http::ApiError,
};

/// Other fields are ignored.
#[derive(Deserialize, ToSchema)]
pub(crate) struct MessagesRequest {
    #[schema(example = "llama3.2")]
    model: String,
    /// 1 to 1,000.
    #[schema(min_items = 1, max_items = 1000)]
    messages: Vec<AnthropicMessage>,
    #[schema(value_type = Option<String>)]
    system: Option<TextOr<ContentBlock>>,
    #[schema(minimum = 1)]
    max_tokens: i64,
    /// `false` unless said otherwise.
    stream: Option<bool>,
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    #[schema(minimum = 0)]
    top_k: Option<i64>,
    /// At most 16.
    #[schema(max_items = 16)]
    stop_sequences: Option<Vec<String>>,
    thinking: Option<Thinking>,
    output_config: Option<OutputConfig>,
    /// At most 128.
    #[schema(value_type = Option<Vec<AnthropicTool>>)]
    tools: Option<Box<RawValue>>,
    tool_choice: Option<AnthropicToolChoice>,
}

/// How much there is to read: the same without what concerns the answer.
#[derive(Deserialize, ToSchema)]
pub(crate) struct CountTokensRequest {
    #[schema(example = "llama3.2")]
    model: String,
    #[schema(min_items = 1, max_items = 1000)]
    messages: Vec<AnthropicMessage>,
    #[schema(value_type = Option<String>)]
    system: Option<TextOr<ContentBlock>>,
    #[schema(value_type = Option<Vec<AnthropicTool>>)]
    tools: Option<Box<RawValue>>,
    tool_choice: Option<AnthropicToolChoice>,
}

/// Ignored where the model does not think; `budget_tokens` is not kept to.
#[derive(Deserialize, ToSchema)]
struct Thinking {
    #[serde(rename = "type")]
    kind: ThinkingKind,
}

#[derive(Deserialize, ToSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum ThinkingKind {
    Enabled,
    Adaptive,
    Disabled,
}

#[derive(Deserialize, ToSchema)]
struct OutputConfig {
    /// `low`, `medium`, `high`, `xhigh` or `max`.
    effort: Option<String>,
    #[schema(value_type = Option<Object>)]
    format: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct OutputFormat {
    #[serde(rename = "type")]
    kind: OutputFormatKind,
    schema: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum OutputFormatKind {
    JsonSchema,
}

/// A request, and how its answer is wanted.
pub(crate) struct Asked {
    pub(crate) request: ChatRequest,
    pub(crate) options: TurnOptions,
    pub(crate) is_streamed: bool,
}

impl MessagesRequest {
    /// Checks what the types do not say, and says it in the domain's words.
    ///
    /// # Errors
    ///
    /// 400 with the field in `param`.
    pub(crate) fn read(self) -> Result<Asked, ApiError> {
        if self.max_tokens < 1 {
            return Err(ApiError::invalid("this must be an integer from 1 on").at("max_tokens"));
        }
        let top_k = self.top_k.map(|top| {
            u32::try_from(top).map_err(|_| ApiError::invalid("this must be an integer from 0 on").at("top_k"))
        });
        let mut stop = self.stop_sequences.unwrap_or_default();
        stop.retain(|text| !text.is_empty());
        bounded("stop_sequences", stop.len(), 0, limits::STOP_SEQUENCES)?;
        let (tools, tool_choice) = tools(self.tools.as_deref(), self.tool_choice)?;
        let output = self.output_config;
        let request = ChatRequest {
            sampling: Sampling {
                num_predict: Some(answer_tokens(self.max_tokens)),
                temperature: within(self.temperature, 0.0..=2.0, "temperature")?,
                top_p: within(self.top_p, 0.0..=1.0, "top_p")?,
                top_k: top_k.transpose()?,
                stop,
                ..Sampling::default()
            },
            tools,
            tool_choice,
            format: output.as_ref().and_then(|output| output.format.as_deref()).map(format).transpose()?,
            think: think(self.thinking, output.and_then(|output| output.effort))?,
            ..ChatRequest::new(model_name(&self.model)?, messages(self.system, self.messages)?)
        };
        let is_streamed = self.stream.unwrap_or(false);
        Ok(Asked { request, options: TurnOptions::default(), is_streamed })
    }
}

impl CountTokensRequest {
    /// What a model would be given to read.
    ///
    /// # Errors
    ///
    /// As [`MessagesRequest::read`].
    pub(crate) fn read(self) -> Result<ChatRequest, ApiError> {
        let (tools, tool_choice) = tools(self.tools.as_deref(), self.tool_choice)?;
        let messages = messages(self.system, self.messages)?;
        Ok(ChatRequest { tools, tool_choice, ..ChatRequest::new(model_name(&self.model)?, messages) })
    }
}

/// Whether to think, and how hard if that is said.
fn think(thinking: Option<Thinking>, wanted: Option<String>) -> Result<Option<Think>, ApiError> {
    let wanted = wanted.map(|word| effort(&word, "output_config.effort")).transpose()?;
    Ok(match thinking.map(|thinking| thinking.kind) {
        Some(ThinkingKind::Disabled) => Some(Think::Off),
        Some(ThinkingKind::Enabled | ThinkingKind::Adaptive) => Some(wanted.unwrap_or(Think::On)),
        None => wanted,
    })
}

fn format(given: &RawValue) -> Result<Format, ApiError> {
    let OutputFormat { kind: OutputFormatKind::JsonSchema, schema } =
        parsed(given, limits::FORMAT_BYTES, || "output_config.format".to_owned())?;
    Ok(Format::Schema(Value::Object(schema)))
}

#[cfg(test)]
mod tests;
