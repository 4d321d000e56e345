//! Reading a chat request.
//!
//! Fields we do not know are ignored. So are `keep_alive` and the options that configure a model's runner (`num_ctx`,
//! `num_gpu`, …): changing one of these reloads the model for everybody, so they are the operator's to set.
//!
//! Whatever may be any JSON stays text until it is known to be small: as a tree it costs tens of times its size.

use actors::model::TurnOptions;
use domain::{
    chat::{ChatMessage, ChatRequest, Format, Role, Sampling, Think, ToolCall, limits},
    id::ConversationId,
    limits::Priority,
    model_name::ModelName,
    turn::Claim,
};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    raw::{Allowance, parsed},
    tool_call::{GivenToolCall, ToolCallBody},
};
use crate::http::ApiError;

#[derive(Deserialize, ToSchema)]
pub(crate) struct ChatBody {
    #[schema(example = "llama3.2")]
    model: String,
    /// 1 to 1,000; in a conversation, only what is new. None where `parent_id` names a message of a user or a tool, which then
    /// gets another answer.
    messages: Vec<MessageBody>,
    /// Continues this conversation.
    #[schema(value_type = Option<uuid::Uuid>)]
    conversation_id: Option<ConversationId>,
    /// The message of the conversation that the new ones follow, or the conversation's own id for another beginning. The
    /// model sees what leads there, and nothing of other branches. The newest message if it is left out.
    parent_id: Option<Uuid>,
    /// Keep the messages and the answer; `true` unless said otherwise.
    store: Option<bool>,
    /// `cancel`, or with an `Idempotency-Key` `continue`, unless said otherwise.
    on_disconnect: Option<OnDisconnect>,
    /// `interactive`, which is what is meant if nothing is said, or `batch`: served when nobody else waits.
    #[schema(value_type = Option<String>)]
    priority: Option<Priority>,
    /// Sampling options: `num_predict seed temperature top_k top_p min_p typical_p repeat_last_n repeat_penalty
    /// presence_penalty frequency_penalty stop`. Others are ignored.
    #[schema(value_type = Option<Object>)]
    options: Option<Box<RawValue>>,
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Box<RawValue>>,
    /// `"json"` or a JSON schema.
    #[schema(value_type = Option<Object>)]
    format: Option<Box<RawValue>>,
    /// `true`, `false`, `"low"`, `"medium"`, `"high"` or `"max"`.
    #[schema(value_type = Option<bool>)]
    think: Option<Box<RawValue>>,
}

/// What becomes of a turn whose client leaves.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
enum OnDisconnect {
    /// It ends at once.
    Cancel,
    /// It runs to its end and is stored.
    Continue,
}

#[derive(Deserialize, ToSchema)]
struct MessageBody {
    #[schema(value_type = String, example = "user")]
    role: Role,
    /// May be absent where the message is something else, such as tool calls.
    content: Option<String>,
    thinking: Option<String>,
    /// Standard base64, without a `data:` prefix.
    #[serde(default)]
    images: Vec<String>,
    #[serde(default)]
    #[schema(value_type = Vec<ToolCallBody>)]
    tool_calls: Vec<GivenToolCall>,
    tool_name: Option<String>,
    tool_call_id: Option<String>,
}

impl MessageBody {
    /// `at` is its place among the messages.
    fn into_message(self, at: usize, all_arguments: &mut Allowance) -> Result<ChatMessage, ApiError> {
        let tool_calls = self.tool_calls.into_iter().enumerate().map(|(nth, call)| {
            let param = || format!("messages[{at}].tool_calls[{nth}].function.arguments");
            let arguments = call.function.arguments.as_deref();
            let arguments = arguments.map_or(Ok(Map::new()), |given| {
                all_arguments.take(given)?;
                parsed(given, limits::ARGUMENTS_BYTES, param)
            })?;
            Ok(ToolCall { id: call.id, name: call.function.name, arguments: Value::Object(arguments) })
        });
        Ok(ChatMessage {
            role: self.role,
            content: self.content.unwrap_or_default(),
            thinking: self.thinking,
            images: self.images,
            tool_calls: tool_calls.collect::<Result<_, ApiError>>()?,
            tool_name: self.tool_name,
            tool_call_id: self.tool_call_id,
        })
    }
}

impl ChatBody {
    /// Checks what the types do not say, and says it in the domain's words; `claim` is what the request's `Idempotency-Key`
    /// stands for.
    ///
    /// # Errors
    ///
    /// 400 with the field in `param`.
    pub(crate) fn into_request(self, claim: Option<Claim>) -> Result<(ChatRequest, TurnOptions), ApiError> {
        let model = ModelName::parse(&self.model)
            .map_err(|_| ApiError::invalid("this is not a model name").at("model"))?;
        if self.parent_id.is_some() && self.conversation_id.is_none() {
            let message = "a message is followed in its conversation: name that one in `conversation_id`";
            return Err(ApiError::invalid(message).at("parent_id"));
        }
        let least = usize::from(self.parent_id.is_none());
        bounded("messages", self.messages.len(), least, limits::MESSAGES)?;
        check_images(&self.messages)?;
        let mut all_arguments = Allowance::new("messages", limits::ALL_ARGUMENTS_BYTES);
        let messages = self.messages.into_iter().enumerate();
        let messages = messages.map(|(at, message)| message.into_message(at, &mut all_arguments));
        let request = ChatRequest {
            model,
            messages: messages.collect::<Result<_, _>>()?,
            sampling: sampling(self.options.as_deref())?,
            tools: tools(self.tools.as_deref())?,
            format: format(self.format.as_deref())?,
            think: think(self.think.as_deref())?,
        };
        let store = self.store.unwrap_or(true);
        // Whoever sends a key means to ask again, which is how such an answer is read.
        let continue_on_disconnect = match self.on_disconnect {
            Some(wish) => wish == OnDisconnect::Continue,
            None => claim.is_some(),
        };
        if continue_on_disconnect && !store && claim.is_none() {
            let message = "an answer that is not stored cannot be read by a client that left";
            return Err(ApiError::invalid(message).at("on_disconnect"));
        }
        let options = TurnOptions {
            conversation: self.conversation_id,
            parent: self.parent_id,
            store,
            continue_on_disconnect,
            claim,
            is_streamed: false,
            priority: self.priority.unwrap_or_default(),
            deadline: None,
        };
        Ok((request, options))
    }
}

fn bounded(param: &'static str, count: usize, least: usize, most: usize) -> Result<(), ApiError> {
    if (least..=most).contains(&count) {
        return Ok(());
    }
    Err(ApiError::invalid(format!("`{param}` must have {least} to {most} entries, not {count}")).at(param))
}

fn check_images(messages: &[MessageBody]) -> Result<(), ApiError> {
    bounded("images", messages.iter().map(|message| message.images.len()).sum(), 0, limits::IMAGES)?;
    for (at, message) in messages.iter().enumerate() {
        if message.images.iter().any(|image| !is_base64(image)) {
            let error = ApiError::invalid("an image is standard base64 without a `data:` prefix");
            return Err(error.at(format!("messages[{at}].images")));
        }
    }
    Ok(())
}

fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    !digits.is_empty()
        && text.len() - digits.len() <= 2
        && text.len().is_multiple_of(4)
        && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

fn tools(given: Option<&RawValue>) -> Result<Vec<Value>, ApiError> {
    let Some(given) = given else { return Ok(Vec::new()) };
    let tools: Vec<&RawValue> = parsed(given, limits::TOOLS_BYTES, || "tools".to_owned())?;
    bounded("tools", tools.len(), 0, limits::TOOLS)?;
    let tool = |(at, tool): (usize, &RawValue)| {
        parsed(tool, limits::TOOL_BYTES, || format!("tools[{at}]")).map(Value::Object)
    };
    tools.into_iter().enumerate().map(tool).collect()
}

fn format(given: Option<&RawValue>) -> Result<Option<Format>, ApiError> {
    let Some(given) = given else { return Ok(None) };
    match parsed(given, limits::FORMAT_BYTES, || "format".to_owned())? {
        Value::String(text) if text == "json" => Ok(Some(Format::Json)),
        schema @ Value::Object(_) => Ok(Some(Format::Schema(schema))),
        _ => Err(ApiError::invalid("`format` is \"json\" or a JSON schema").at("format")),
    }
}

fn think(given: Option<&RawValue>) -> Result<Option<Think>, ApiError> {
    // Each way to think has one common spelling, so there is nothing to parse.
    let think = match given.map(RawValue::get) {
        None => return Ok(None),
        Some("false") => Think::Off,
        Some("true") => Think::On,
        Some("\"low\"") => Think::Low,
        Some("\"medium\"") => Think::Medium,
        Some("\"high\"") => Think::High,
        Some("\"max\"") => Think::Max,
        Some(_) => return Err(not_a_way_to_think()),
    };
    Ok(Some(think))
}

fn not_a_way_to_think() -> ApiError {
    ApiError::invalid("`think` is true, false, \"low\", \"medium\", \"high\" or \"max\"").at("think")
}

fn sampling(given: Option<&RawValue>) -> Result<Sampling, ApiError> {
    let Some(given) = given else { return Ok(Sampling::default()) };
    let read = Options(parsed(given, limits::OPTIONS_BYTES, || "options".to_owned())?);
    let float = |name| read.typed(name, "a number", Value::as_f64);
    // A negative number means "until it stops" to Ollama; here even that has an end.
    let num_predict = read.typed("num_predict", "an integer", Value::as_i64)?;
    let num_predict = num_predict
        .map(|count| u32::try_from(count).map_or(limits::NUM_PREDICT, |n| n.min(limits::NUM_PREDICT)));
    Ok(Sampling {
        num_predict,
        seed: read.typed("seed", "an integer", Value::as_i64)?,
        temperature: float("temperature")?,
        top_k: read.typed("top_k", "an integer from 0 on", |value| value.as_u64()?.try_into().ok())?,
        top_p: float("top_p")?,
        min_p: float("min_p")?,
        typical_p: float("typical_p")?,
        repeat_last_n: read.typed("repeat_last_n", "an integer", |value| value.as_i64()?.try_into().ok())?,
        repeat_penalty: float("repeat_penalty")?,
        presence_penalty: float("presence_penalty")?,
        frequency_penalty: float("frequency_penalty")?,
        stop: read.stop()?,
    })
}

struct Options(Map<String, Value>);

impl Options {
    /// An option that is absent or `null` is left to the model.
    fn typed<T>(
        &self,
        name: &'static str,
        wanted: &'static str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(value) {
                Some(value) => Ok(Some(value)),
                None => {
                    Err(ApiError::invalid(format!("this must be {wanted}")).at(format!("options.{name}")))
                }
            },
        }
    }

    fn stop(&self) -> Result<Vec<String>, ApiError> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let many = |value: &Value| match value {
            Value::Array(items) => items.iter().map(text).collect::<Option<Vec<_>>>(),
            one => text(one).map(|one| vec![one]),
        };
        let stop = self.typed("stop", "a string or a list of strings", many)?.unwrap_or_default();
        bounded("options.stop", stop.len(), 0, limits::STOP_SEQUENCES)?;
        Ok(stop)
    }
}

#[cfg(test)]
mod tests;
