//! Reading `/api/chat` and `/api/generate`.

use domain::chat::{ChatMessage, ChatRequest, Completion, Role, limits};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::reply::Manner;
use crate::{
    dialects::parts::{
        MessageBody, bounded, format, is_base64, messages, model_name, others_told, sampling, think, tools,
    },
    http::ApiError,
    routes::shapes,
};

/// Other fields are ignored.
#[derive(Deserialize, ToSchema)]
pub(crate) struct OllamaChatBody {
    #[schema(example = "llama3.2")]
    model: String,
    /// None ask for the model to be loaded, which is done for whoever asks it something.
    messages: Option<Vec<MessageBody>>,
    /// `true` unless said otherwise.
    stream: Option<bool>,
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Box<RawValue>>,
    /// `"json"` or a JSON schema.
    #[schema(schema_with = shapes::format)]
    format: Option<Box<RawValue>>,
    /// Sampling options as in `/v1/chat`; others are ignored.
    #[schema(value_type = Option<Object>)]
    options: Option<Box<RawValue>>,
    #[schema(schema_with = shapes::think)]
    think: Option<Box<RawValue>>,
    /// Ignored, but that `0` without a message asks for the model to go, which is not for callers to say.
    #[schema(value_type = Value, required = false)]
    keep_alive: Option<Box<RawValue>>,
    logprobs: Option<bool>,
    #[schema(minimum = 0, maximum = 20)]
    top_logprobs: Option<i64>,
}

/// Other fields are ignored.
#[derive(Deserialize, ToSchema)]
pub(crate) struct OllamaGenerateBody {
    #[schema(example = "llama3.2")]
    model: String,
    prompt: Option<String>,
    /// What follows the gap that the model is to fill.
    suffix: Option<String>,
    system: Option<String>,
    /// Empty: how a model is prompted is not for callers to say; see `raw`.
    template: Option<String>,
    /// The prompt is given to the model as it is.
    raw: Option<bool>,
    images: Option<Vec<String>>,
    /// `true` unless said otherwise.
    stream: Option<bool>,
    #[schema(schema_with = shapes::format)]
    format: Option<Box<RawValue>>,
    #[schema(value_type = Option<Object>)]
    options: Option<Box<RawValue>>,
    #[schema(schema_with = shapes::think)]
    think: Option<Box<RawValue>>,
    #[schema(value_type = Value, required = false)]
    keep_alive: Option<Box<RawValue>>,
    logprobs: Option<bool>,
    #[schema(minimum = 0, maximum = 20)]
    top_logprobs: Option<i64>,
}

/// What a request comes to.
#[derive(Debug)]
pub(crate) enum Asked {
    Turn {
        request: Box<ChatRequest>,
        manner: Manner,
        is_streamed: bool,
    },
    /// A model is to be loaded or, with `true`, to go. Neither is for callers to say.
    Residence {
        model: domain::model_name::ModelName,
        manner: Manner,
        is_to_go: bool,
    },
}

impl OllamaChatBody {
    /// # Errors
    ///
    /// 400 with the field in `param`.
    pub(crate) fn read(self) -> Result<Asked, ApiError> {
        let model = model_name(&self.model)?;
        let sampling = sampling(self.options.as_deref())?;
        let format = format(self.format.as_deref())?;
        let think = think(self.think.as_deref())?;
        let tools = tools(self.tools.as_deref())?;
        let logprobs = logprobs(self.logprobs, self.top_logprobs)?;
        let given = self.messages.unwrap_or_default();
        if given.is_empty() {
            let is_to_go = is_zero(self.keep_alive.as_deref());
            return Ok(Asked::Residence { model, manner: Manner::Chat, is_to_go });
        }
        bounded("messages", given.len(), 1, limits::MESSAGES)?;
        let request = ChatRequest {
            sampling,
            tools,
            format,
            think,
            logprobs,
            ..ChatRequest::new(model, messages(given)?)
        };
        let is_streamed = self.stream.unwrap_or(true);
        Ok(Asked::Turn { request: Box::new(request), manner: Manner::Chat, is_streamed })
    }
}

impl OllamaGenerateBody {
    /// # Errors
    ///
    /// 400 with the field in `param`.
    pub(crate) fn read(self) -> Result<Asked, ApiError> {
        let model = model_name(&self.model)?;
        if self.template.is_some_and(|template| !template.is_empty()) {
            let message = "a template is the operator's to set; send the whole prompt with `raw`";
            return Err(ApiError::invalid(message).at("template"));
        }
        let sampling = sampling(self.options.as_deref())?;
        let format = format(self.format.as_deref())?;
        let think = think(self.think.as_deref())?;
        let logprobs = logprobs(self.logprobs, self.top_logprobs)?;
        let (prompt, images) = (self.prompt.unwrap_or_default(), self.images.unwrap_or_default());
        if prompt.is_empty() && images.is_empty() {
            let is_to_go = is_zero(self.keep_alive.as_deref());
            return Ok(Asked::Residence { model, manner: Manner::Generate, is_to_go });
        }
        bounded("images", images.len(), 0, limits::IMAGES)?;
        if images.iter().any(|image| !is_base64(image)) {
            let error = ApiError::invalid("an image is standard base64 without a `data:` prefix");
            return Err(error.at("images"));
        }
        let raw = self.raw.unwrap_or(false);
        let system = self.system.filter(|text| !text.is_empty());
        if raw && system.is_some() {
            return Err(ApiError::invalid("a raw prompt has no system prompt beside it").at("system"));
        }
        let suffix = self.suffix.filter(|text| !text.is_empty());
        let system = system.map(|text| ChatMessage::text(Role::System, text));
        let prompt = ChatMessage { images, ..ChatMessage::text(Role::User, prompt) };
        let request = ChatRequest {
            sampling,
            format,
            think,
            logprobs,
            completion: Some(Completion { suffix, raw }),
            ..ChatRequest::new(model, system.into_iter().chain([prompt]).collect())
        };
        let is_streamed = self.stream.unwrap_or(true);
        Ok(Asked::Turn { request: Box::new(request), manner: Manner::Generate, is_streamed })
    }
}

fn logprobs(wanted: Option<bool>, others: Option<i64>) -> Result<Option<u8>, ApiError> {
    let others = others.map(|count| others_told(count, "top_logprobs")).transpose()?;
    Ok(wanted.unwrap_or(false).then(|| others.unwrap_or(0)))
}

/// As a number or as a duration without a length.
fn is_zero(keep_alive: Option<&RawValue>) -> bool {
    keep_alive.is_some_and(|given| matches!(given.get(), "0" | "0.0" | "\"0\"" | "\"0s\"" | "\"0m\""))
}

#[cfg(test)]
mod tests;
