//! What Ollama's clients and our own write alike: messages, options, a format, and how to think.
//!
//! Whatever may be any JSON stays text until it is known to be small: as a tree it costs tens of times its size.

use domain::chat::{ChatMessage, Format, Role, Sampling, Think, ToolCall, limits};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, value::RawValue};
use utoipa::ToSchema;

use super::{answer_tokens, bounded, check_names, is_base64, stop_list};
use crate::{
    dialects::{
        native::tool_call::GivenToolCall,
        raw::{Allowance, parsed},
    },
    http::ApiError,
};

#[derive(Deserialize, ToSchema)]
pub(crate) struct MessageBody {
    #[schema(value_type = String, example = "user")]
    #[serde(deserialize_with = "role")]
    role: Role,
    /// May be absent where the message is something else, such as tool calls.
    content: Option<String>,
    thinking: Option<String>,
    /// Standard base64, without a `data:` prefix.
    #[serde(default, deserialize_with = "or_none")]
    #[schema(value_type = Option<Vec<String>>)]
    images: Vec<String>,
    #[serde(default, deserialize_with = "or_none")]
    #[schema(value_type = Option<Vec<GivenToolCall>>)]
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

/// In any case, as Ollama reads it.
fn role<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Role, D::Error> {
    let text = String::deserialize(deserializer)?.to_ascii_lowercase();
    Role::parse(&text).ok_or_else(|| serde::de::Error::custom("not a role"))
}

/// `null` is an empty list.
fn or_none<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads messages in their order.
///
/// # Errors
///
/// 400 with the field in `param`.
pub(crate) fn messages(given: Vec<MessageBody>) -> Result<Vec<ChatMessage>, ApiError> {
    check_images(&given)?;
    let mut all_arguments = Allowance::new("messages", limits::ALL_ARGUMENTS_BYTES);
    let read = |(at, message): (usize, MessageBody)| message.into_message(at, &mut all_arguments);
    let messages: Vec<_> = given.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
    check_names(&messages)?;
    Ok(messages)
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

/// `"json"` or a schema.
///
/// # Errors
///
/// 400 when it is neither.
pub(crate) fn format(given: Option<&RawValue>) -> Result<Option<Format>, ApiError> {
    let Some(given) = given else { return Ok(None) };
    match parsed(given, limits::FORMAT_BYTES, || "format".to_owned())? {
        Value::String(text) if text == "json" => Ok(Some(Format::Json)),
        // Some clients say so that they want none.
        Value::String(text) if text.is_empty() => Ok(None),
        schema @ Value::Object(_) => Ok(Some(Format::Schema(schema))),
        _ => Err(ApiError::invalid("`format` is \"json\" or a JSON schema").at("format")),
    }
}

/// Whether to think, or how hard.
///
/// # Errors
///
/// 400 when it says neither.
pub(crate) fn think(given: Option<&RawValue>) -> Result<Option<Think>, ApiError> {
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

/// The options that a caller may set; others are ignored, above all those of a model's runner.
///
/// # Errors
///
/// 400 naming the option that has another type.
pub(crate) fn sampling(given: Option<&RawValue>) -> Result<Sampling, ApiError> {
    let Some(given) = given else { return Ok(Sampling::default()) };
    let read = Options(parsed(given, limits::OPTIONS_BYTES, || "options".to_owned())?);
    let float = |name| read.typed(name, "a number", Value::as_f64);
    Ok(Sampling {
        num_predict: read.typed("num_predict", "an integer", Value::as_i64)?.map(answer_tokens),
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
        let stop = self.typed("stop", "a string or a list of strings", stop_list)?.unwrap_or_default();
        bounded("options.stop", stop.len(), 0, limits::STOP_SEQUENCES)?;
        Ok(stop)
    }
}
