//! Ollama's JSON: what we send, typed field by field, and the parts of its answers we read.
//!
//! Nothing a client sent is forwarded as bytes. Go matches keys without regard to case and the last duplicate wins, so an
//! unknown key could otherwise change the model or its residency (ollama-wire §1).
//!
//! Here it is guaranteed that nothing a caller says reloads or evicts a model (§6, hazards 1 and 2): [`ChatBody`] has no
//! `keep_alive` and no `shift`, and its options are a [`Sampling`], which has none of the runner's options (`num_ctx` and
//! its like). So every request finds the model as the gateway's own preload left it.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use domain::chat::{ChatMessage, ChatRequest, Completion, Format, Role, Sampling, Think};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Number, Value, value::RawValue};

use crate::model::provider::{
    UpstreamError,
    answer::{Likelihood, borrowed_text},
    transport::written,
};

/// The body of `POST /api/chat`, always streamed.
pub(super) fn chat_body(model: &str, request: &ChatRequest) -> Result<Vec<u8>, UpstreamError> {
    written(
        request,
        &ChatBody {
            model,
            messages: Messages(&request.messages),
            tools: &request.tools,
            common: Common::of(request),
        },
    )
}

/// The body of `POST /api/generate`, always streamed.
pub(super) fn generate_body(
    model: &str,
    request: &ChatRequest,
    how: &Completion,
) -> Result<Vec<u8>, UpstreamError> {
    let of = |role| request.messages.iter().rfind(|message| message.role == role);
    let prompt = of(Role::User);
    written(
        request,
        &GenerateBody {
            model,
            prompt: prompt.map_or("", |message| &message.content),
            suffix: how.suffix.as_deref(),
            system: of(Role::System).map(|message| message.content.as_str()),
            images: prompt.map_or(&[], |message| &message.images),
            raw: how.raw,
            common: Common::of(request),
        },
    )
}

#[derive(Serialize)]
struct ChatBody<'a> {
    model: &'a str,
    messages: Messages<'a>,
    #[serde(skip_serializing_if = "<[Value]>::is_empty")]
    tools: &'a [Value],
    #[serde(flatten)]
    common: Common<'a>,
}

#[derive(Serialize)]
struct GenerateBody<'a> {
    model: &'a str,
    prompt: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    suffix: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    images: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    raw: bool,
    #[serde(flatten)]
    common: Common<'a>,
}

/// What both ways to ask have in common.
#[derive(Serialize)]
struct Common<'a> {
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<&'a Sampling>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<FormatBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    think: Option<ThinkBody>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    logprobs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u8>,
}

impl<'a> Common<'a> {
    fn of(request: &'a ChatRequest) -> Self {
        Self {
            stream: true,
            options: (request.sampling != Sampling::default()).then_some(&request.sampling),
            format: request.format.as_ref().map(|format| match format {
                Format::Json => FormatBody::Name("json"),
                Format::Schema(schema) => FormatBody::Schema(schema),
            }),
            think: request.think.map(|think| match think {
                Think::Off => ThinkBody::Switch(false),
                Think::On => ThinkBody::Switch(true),
                Think::Low => ThinkBody::Level("low"),
                Think::Medium => ThinkBody::Level("medium"),
                Think::High => ThinkBody::Level("high"),
                Think::Max => ThinkBody::Level("max"),
            }),
            logprobs: request.logprobs.is_some(),
            top_logprobs: request.logprobs.filter(|top| *top > 0),
        }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum FormatBody<'a> {
    Name(&'static str),
    Schema(&'a Value),
}

#[derive(Serialize)]
#[serde(untagged)]
enum ThinkBody {
    Switch(bool),
    Level(&'static str),
}

struct Messages<'a>(&'a [ChatMessage]);

impl Serialize for Messages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|message| {
            MessageBody {
                role: message.role.as_str(),
                content: &message.content,
                thinking: message.thinking.as_deref(),
                images: &message.images,
                tool_calls: message
                    .tool_calls
                    .iter()
                    .enumerate()
                    .map(|(index, call)| CallBody {
                        id: &call.id,
                        function: FunctionBody { index, name: &call.name, arguments: &call.arguments },
                    })
                    .collect(),
                tool_name: message.tool_name.as_deref(),
                tool_call_id: message.tool_call_id.as_deref(),
            }
        }))
    }
}

#[derive(Serialize)]
struct MessageBody<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    images: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

#[derive(Serialize)]
struct CallBody<'a> {
    id: &'a str,
    function: FunctionBody<'a>,
}

#[derive(Serialize)]
struct FunctionBody<'a> {
    index: usize,
    name: &'a str,
    arguments: &'a Value,
}

/// Loads a model and answers when it is loaded.
#[derive(Serialize)]
pub(super) struct PreloadBody<'a> {
    pub(super) model: &'a str,
    pub(super) stream: bool,
}

/// Unloads a model of either kind.
#[derive(Serialize)]
pub(super) struct UnloadBody<'a> {
    pub(super) model: &'a str,
    pub(super) keep_alive: u8,
    pub(super) stream: bool,
}

/// Loads a model that only embeds.
#[derive(Serialize)]
pub(super) struct EmbedPreloadBody<'a> {
    pub(super) model: &'a str,
    pub(super) input: [&'a str; 0],
}

/// Texts to be turned into vectors.
#[derive(Serialize)]
pub(super) struct EmbedBody<'a> {
    pub(super) model: &'a str,
    pub(super) input: &'a [String],
    pub(super) truncate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dimensions: Option<u32>,
}

#[derive(Deserialize)]
pub(super) struct EmbedReply {
    #[serde(default)]
    pub(super) embeddings: Vec<Vec<f32>>,
    #[serde(default)]
    pub(super) prompt_eval_count: Option<Number>,
}

#[derive(Serialize)]
pub(super) struct ShowBody<'a> {
    pub(super) model: &'a str,
}

/// One line of a streamed answer. Counts are [`Number`]s so that a nonsensical one costs the count, not the answer.
#[derive(Deserialize, Default)]
pub(super) struct Line<'a> {
    #[serde(borrow, default)]
    pub(super) message: Option<LineMessage<'a>>,
    /// What `/api/generate` has in place of a message.
    #[serde(borrow, default, deserialize_with = "borrowed_text")]
    pub(super) response: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "borrowed_text")]
    pub(super) thinking: Cow<'a, str>,
    #[serde(default)]
    pub(super) logprobs: Option<Vec<Likelihood>>,
    #[serde(default)]
    pub(super) done: bool,
    #[serde(default)]
    pub(super) done_reason: Option<String>,
    #[serde(default)]
    pub(super) load_duration: Option<Number>,
    #[serde(default)]
    pub(super) prompt_eval_count: Option<Number>,
    #[serde(default)]
    pub(super) eval_count: Option<Number>,
    #[serde(default)]
    pub(super) error: Option<Value>,
}

#[derive(Deserialize, Default)]
pub(super) struct LineMessage<'a> {
    #[serde(borrow, default, deserialize_with = "borrowed_text")]
    pub(super) content: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "borrowed_text")]
    pub(super) thinking: Cow<'a, str>,
    #[serde(default)]
    pub(super) tool_calls: Option<Vec<LineCall>>,
}

#[derive(Deserialize)]
pub(super) struct LineCall {
    #[serde(default)]
    pub(super) id: Option<String>,
    pub(super) function: LineFunction,
}

#[derive(Deserialize)]
pub(super) struct LineFunction {
    pub(super) name: String,
    #[serde(default)]
    pub(super) arguments: Value,
}

/// The list, its models still unread: one that makes no sense must not hide the others.
#[derive(Deserialize)]
pub(super) struct Tags {
    #[serde(default)]
    pub(super) models: Option<Vec<Box<RawValue>>>,
}

#[derive(Deserialize)]
pub(super) struct Tag {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) model: String,
    #[serde(default)]
    pub(super) modified_at: Option<DateTime<Utc>>,
    #[serde(default)]
    pub(super) size: Option<Number>,
    #[serde(default)]
    pub(super) digest: String,
    #[serde(default)]
    pub(super) details: Option<TagDetails>,
    #[serde(default)]
    pub(super) capabilities: Option<Vec<String>>,
    #[serde(default)]
    pub(super) remote_model: Option<String>,
    #[serde(default)]
    pub(super) remote_host: Option<String>,
}

#[derive(Deserialize, Default)]
pub(super) struct TagDetails {
    #[serde(default)]
    pub(super) format: Option<String>,
    #[serde(default)]
    pub(super) families: Option<Vec<String>>,
    #[serde(default)]
    pub(super) embedding_length: Option<u32>,
    #[serde(default)]
    pub(super) family: Option<String>,
    #[serde(default)]
    pub(super) parameter_size: Option<String>,
    #[serde(default)]
    pub(super) quantization_level: Option<String>,
    #[serde(default)]
    pub(super) context_length: Option<u32>,
}

/// The part of `/api/show` that `/api/tags` of older servers lacks.
#[derive(Deserialize)]
pub(super) struct Show {
    #[serde(default)]
    pub(super) capabilities: Option<Vec<String>>,
    #[serde(default)]
    pub(super) model_info: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
pub(super) struct Ps {
    #[serde(default)]
    pub(super) models: Option<Vec<PsModel>>,
}

#[derive(Deserialize)]
pub(super) struct PsModel {
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct Version {
    pub(super) version: String,
}

#[cfg(test)]
mod tests {
    use domain::{chat::ToolCall, model_name::ModelName};
    use serde_json::json;

    use super::*;

    fn request() -> ChatRequest {
        ChatRequest::new(
            ModelName::parse("client/spelling").unwrap(),
            vec![ChatMessage::text(Role::User, "hi")],
        )
    }

    fn sent(request: &ChatRequest) -> Value {
        serde_json::from_slice(&chat_body("m:latest", request).unwrap()).unwrap()
    }

    #[test]
    fn a_plain_prompt_sends_only_what_it_says() {
        assert_eq!(
            sent(&request()),
            json!({"model": "m:latest", "messages": [{"role": "user", "content": "hi"}], "stream": true})
        );
    }

    #[test]
    fn a_text_to_continue_is_sent_with_what_follows_the_gap() {
        let mut request = request();
        request.messages.insert(0, ChatMessage::text(Role::System, "be brief"));
        request.sampling.seed = Some(7);
        let how = Completion { suffix: Some("}".to_owned()), raw: true };
        let sent: Value = serde_json::from_slice(&generate_body("m", &request, &how).unwrap()).unwrap();
        assert_eq!(
            sent,
            json!({"model": "m", "prompt": "hi", "suffix": "}", "system": "be brief", "raw": true, "stream": true,
                   "options": {"seed": 7}})
        );
    }

    #[test]
    fn everything_a_request_types_reaches_the_server() {
        let mut request = request();
        request.messages.push(ChatMessage {
            thinking: Some("hm".to_owned()),
            images: vec!["aGk=".to_owned()],
            tool_calls: vec![ToolCall {
                id: "c1".to_owned(),
                name: "f".to_owned(),
                arguments: json!({"z": 1, "a": 2}),
            }],
            ..ChatMessage::text(Role::Assistant, "")
        });
        request.messages.push(ChatMessage {
            tool_name: Some("f".to_owned()),
            tool_call_id: Some("c1".to_owned()),
            ..ChatMessage::text(Role::Tool, "42")
        });
        request.sampling.temperature = Some(0.5);
        request.sampling.stop = vec!["\n".to_owned()];
        request.tools = vec![json!({"type": "function", "function": {"name": "f"}})];
        request.format = Some(Format::Json);
        request.think = Some(Think::High);
        assert_eq!(
            sent(&request),
            json!({
                "model": "m:latest",
                "messages": [
                    {"role": "user", "content": "hi"},
                    {"role": "assistant", "content": "", "thinking": "hm", "images": ["aGk="], "tool_calls": [
                        {"id": "c1", "function": {"index": 0, "name": "f", "arguments": {"z": 1, "a": 2}}}]},
                    {"role": "tool", "content": "42", "tool_name": "f", "tool_call_id": "c1"},
                ],
                "stream": true,
                "options": {"temperature": 0.5, "stop": ["\n"]},
                "tools": [{"type": "function", "function": {"name": "f"}}],
                "format": "json",
                "think": "high",
            })
        );
        let text = String::from_utf8(chat_body("m", &request).unwrap()).unwrap();
        assert!(text.contains(r#"{"z":1,"a":2}"#), "the order of a call's arguments is kept: {text}");
    }

    #[test]
    fn thinking_is_switched_and_a_schema_is_passed_on() {
        let mut request = request();
        request.think = Some(Think::Off);
        request.format = Some(Format::Schema(json!({"type": "object"})));
        let sent = sent(&request);
        assert_eq!((&sent["think"], &sent["format"]), (&json!(false), &json!({"type": "object"})));
    }
}
