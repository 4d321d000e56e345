//! OpenAI's JSON: what we send, typed field by field, and the parts of its answers we read.
//!
//! Nothing a caller sent is forwarded as bytes, and nothing that loads, unloads or reshapes a model has a field here.

use std::borrow::Cow;

use domain::{
    chat::{ChatMessage, ChatRequest, Completion, Format, Role, Sampling, Think, ToolChoice},
    reply::TokenLogprob,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value, value::RawValue};

use super::messages::{Message, messages};
use crate::model::provider::{
    UpstreamError,
    answer::{Likelihood, borrowed_text},
    transport::written,
};

/// What a server makes of fields that are not in OpenAI's own book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manners {
    /// OpenAI's own service, which refuses them, and wants the bound on an answer under its newer name.
    OpenAisOwn,
    /// Everybody else: each reads those it knows (vLLM, llama.cpp) and skips the others.
    Compatible,
}

impl Manners {
    pub(super) fn of(host: &str) -> Self {
        let is_at = |domain: &str| {
            host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if is_at("openai.com") || is_at("openai.azure.com") { Self::OpenAisOwn } else { Self::Compatible }
    }
}

/// The body of `POST /chat/completions`, always streamed.
pub(super) fn chat_body(
    model: &str,
    request: &ChatRequest,
    manners: Manners,
) -> Result<Vec<u8>, UpstreamError> {
    let is_compatible = manners == Manners::Compatible;
    let switched = match request.think {
        Some(Think::Off) => Some(false),
        Some(Think::On) => Some(true),
        _ => None,
    };
    let body = ChatBody {
        model,
        messages: messages(&request.messages, manners),
        tools: &request.tools,
        tool_choice: (request.tool_choice == ToolChoice::Required && !request.tools.is_empty())
            .then_some("required"),
        reasoning_effort: match request.think {
            None | Some(Think::Off | Think::On) => None,
            Some(Think::Low) => Some("low"),
            Some(Think::Medium) => Some("medium"),
            // There is no more that all of them know.
            Some(Think::High | Think::Max) => Some("high"),
        },
        // How the templates of vLLM, SGLang and llama.cpp are told.
        chat_template_kwargs: switched
            .filter(|_| is_compatible)
            .map(|enable_thinking| TemplateSwitch { enable_thinking }),
        logprobs: request.logprobs.is_some(),
        top_logprobs: request.logprobs.filter(|top| *top > 0),
        common: Common::of(request, manners),
    };
    written(request, &body)
}

/// The body of `POST /completions`, always streamed.
///
/// # Errors
///
/// [`UpstreamError::Rejected`] for what a text cannot have beside it here.
pub(super) fn completion_body(
    model: &str,
    request: &ChatRequest,
    how: &Completion,
    manners: Manners,
) -> Result<Vec<u8>, UpstreamError> {
    let lacks = |what: &str| UpstreamError::Rejected(format!("this model's server continues no text {what}"));
    if request.messages.iter().any(|message| message.role == Role::System && !message.content.is_empty()) {
        return Err(lacks("under a system prompt"));
    }
    let text: Option<&ChatMessage> = request.messages.iter().rfind(|message| message.role == Role::User);
    if text.is_some_and(|text| !text.images.is_empty()) {
        return Err(lacks("with images"));
    }
    let body = CompletionBody {
        model,
        prompt: text.map_or("", |message| &message.content),
        suffix: how.suffix.as_deref(),
        logprobs: request.logprobs,
        common: Common::of(request, manners),
    };
    written(request, &body)
}

#[derive(Serialize)]
struct ChatBody<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "<[Value]>::is_empty")]
    tools: &'a [Value],
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_template_kwargs: Option<TemplateSwitch>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    logprobs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u8>,
    #[serde(flatten)]
    common: Common<'a>,
}

#[derive(Serialize)]
struct CompletionBody<'a> {
    model: &'a str,
    prompt: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    suffix: Option<&'a str>,
    /// How many likeliest tokens are told for each.
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<u8>,
    #[serde(flatten)]
    common: Common<'a>,
}

#[derive(Serialize)]
struct TemplateSwitch {
    enable_thinking: bool,
}

/// What both ways to ask have in common.
#[derive(Serialize)]
struct Common<'a> {
    stream: bool,
    stream_options: StreamOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    #[serde(flatten)]
    extras: Option<Extras>,
}

/// Sampling that OpenAI's book does not have, under the names of those who do.
#[derive(Serialize)]
struct Extras {
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    typical_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat_last_n: Option<i32>,
    /// llama.cpp's name, then vLLM's.
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repetition_penalty: Option<f64>,
}

impl<'a> Common<'a> {
    fn of(request: &'a ChatRequest, manners: Manners) -> Self {
        let Sampling {
            num_predict,
            seed,
            temperature,
            top_k,
            top_p,
            min_p,
            typical_p,
            repeat_last_n,
            repeat_penalty,
            presence_penalty,
            frequency_penalty,
            ref stop,
        } = request.sampling;
        let is_compatible = manners == Manners::Compatible;
        Self {
            stream: true,
            stream_options: StreamOptions { include_usage: true },
            response_format: request.format.as_ref().map(|format| match format {
                Format::Json => ResponseFormat::JsonObject,
                Format::Schema(schema) => {
                    ResponseFormat::JsonSchema { json_schema: NamedSchema { name: "answer", schema } }
                }
            }),
            max_tokens: num_predict.filter(|_| is_compatible),
            max_completion_tokens: num_predict.filter(|_| !is_compatible),
            seed,
            temperature,
            top_p,
            presence_penalty,
            frequency_penalty,
            stop,
            extras: is_compatible.then_some(Extras {
                top_k,
                min_p,
                typical_p,
                repeat_last_n,
                repeat_penalty,
                repetition_penalty: repeat_penalty,
            }),
        }
    }
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponseFormat<'a> {
    JsonObject,
    JsonSchema { json_schema: NamedSchema<'a> },
}

#[derive(Serialize)]
struct NamedSchema<'a> {
    name: &'static str,
    schema: &'a Value,
}

/// Texts to be turned into vectors.
#[derive(Serialize)]
pub(super) struct EmbedBody<'a> {
    pub(super) model: &'a str,
    pub(super) input: &'a [String],
    pub(super) encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dimensions: Option<u32>,
}

#[derive(Deserialize)]
pub(super) struct EmbedReply {
    pub(super) data: Vec<Vector>,
    #[serde(default)]
    pub(super) usage: Option<Counts>,
}

#[derive(Deserialize)]
pub(super) struct Vector {
    #[serde(default)]
    pub(super) index: Option<usize>,
    pub(super) embedding: Vec<f32>,
}

#[derive(Deserialize)]
pub(super) struct Counts {
    #[serde(default)]
    pub(super) prompt_tokens: Option<Number>,
    #[serde(default)]
    pub(super) completion_tokens: Option<Number>,
}

/// One event of a streamed answer, of either way to ask.
#[derive(Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(borrow, default)]
    pub(super) choices: Option<Vec<ChunkChoice<'a>>>,
    #[serde(default)]
    pub(super) usage: Option<Counts>,
    #[serde(default)]
    pub(super) error: Option<Value>,
}

#[derive(Deserialize)]
pub(super) struct ChunkChoice<'a> {
    #[serde(borrow, default)]
    pub(super) delta: Option<ChunkDelta<'a>>,
    /// What a continued text has in place of a delta.
    #[serde(borrow, default, deserialize_with = "borrowed_text")]
    pub(super) text: Cow<'a, str>,
    #[serde(default)]
    pub(super) logprobs: Option<Logprobs>,
    #[serde(default)]
    pub(super) finish_reason: Option<String>,
}

#[derive(Deserialize, Default)]
pub(super) struct ChunkDelta<'a> {
    #[serde(borrow, default, deserialize_with = "borrowed_text")]
    pub(super) content: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "borrowed_text")]
    pub(super) refusal: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "borrowed_text")]
    pub(super) reasoning_content: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "borrowed_text")]
    pub(super) reasoning: Cow<'a, str>,
    #[serde(default)]
    pub(super) tool_calls: Option<Vec<CallPiece>>,
}

#[derive(Deserialize)]
pub(super) struct CallPiece {
    #[serde(default)]
    pub(super) index: Option<Number>,
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) function: Option<FunctionPiece>,
}

#[derive(Deserialize, Default)]
pub(super) struct FunctionPiece {
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) arguments: Option<Value>,
}

/// Both shapes in which they come: of a chat, and of a continued text.
#[derive(Deserialize)]
pub(super) struct Logprobs {
    #[serde(default)]
    content: Option<Vec<Likelihood>>,
    #[serde(default)]
    tokens: Option<Vec<String>>,
    #[serde(default)]
    token_logprobs: Option<Vec<Option<f64>>>,
    #[serde(default)]
    top_logprobs: Option<Vec<Option<Map<String, Value>>>>,
}

impl From<Logprobs> for Vec<TokenLogprob> {
    fn from(told: Logprobs) -> Self {
        if let Some(content) = told.content {
            return content.into_iter().map(TokenLogprob::from).collect();
        }
        let mut likely = told.token_logprobs.unwrap_or_default().into_iter();
        let mut others = told.top_logprobs.unwrap_or_default().into_iter();
        let one = |token: String, logprob: f64, top_logprobs: Vec<TokenLogprob>| TokenLogprob {
            bytes: Some(token.clone().into_bytes()),
            token,
            logprob,
            top_logprobs,
        };
        let tokens = told.tokens.unwrap_or_default().into_iter();
        tokens
            .map(|token| {
                let others = others.next().flatten().unwrap_or_default().into_iter();
                let others = others
                    .filter_map(|(token, logprob)| Some(one(token, logprob.as_f64()?, Vec::new())))
                    .collect();
                one(token, likely.next().flatten().unwrap_or(0.0), others)
            })
            .collect()
    }
}

/// The list, its models still unread: one that makes no sense must not hide the others.
#[derive(Deserialize)]
pub(super) struct Models {
    #[serde(default)]
    pub(super) data: Option<Vec<Box<RawValue>>>,
}

/// A model in the list, with what some servers add.
#[derive(Deserialize)]
pub(super) struct Model {
    pub(super) id: String,
    #[serde(default)]
    pub(super) created: Option<Number>,
    /// vLLM's.
    #[serde(default)]
    pub(super) max_model_len: Option<Number>,
    /// What routers of hosted models say.
    #[serde(default)]
    pub(super) context_length: Option<Number>,
    /// llama.cpp's.
    #[serde(default)]
    pub(super) meta: Option<Meta>,
}

#[derive(Deserialize, Default)]
pub(super) struct Meta {
    #[serde(default)]
    pub(super) n_ctx_train: Option<Number>,
    #[serde(default)]
    pub(super) n_embd: Option<Number>,
    #[serde(default)]
    pub(super) size: Option<Number>,
}

#[cfg(test)]
mod tests {
    use domain::model_name::ModelName;
    use serde_json::json;

    use super::*;

    fn request() -> ChatRequest {
        ChatRequest::new(
            ModelName::parse("client/spelling").unwrap(),
            vec![ChatMessage::text(Role::User, "hi")],
        )
    }

    fn sent(request: &ChatRequest, manners: Manners) -> Value {
        serde_json::from_slice(&chat_body("m", request, manners).unwrap()).unwrap()
    }

    fn everything() -> ChatRequest {
        let mut request = request();
        request.sampling = Sampling {
            num_predict: Some(9),
            seed: Some(7),
            temperature: Some(0.5),
            top_k: Some(40),
            top_p: Some(0.9),
            min_p: Some(0.1),
            typical_p: Some(0.8),
            repeat_last_n: Some(64),
            repeat_penalty: Some(1.1),
            presence_penalty: Some(0.2),
            frequency_penalty: Some(0.3),
            stop: vec!["\n".to_owned()],
        };
        request.tools = vec![json!({"type": "function", "function": {"name": "f"}})];
        request.tool_choice = ToolChoice::Required;
        request.format = Some(Format::Schema(json!({"type": "object"})));
        request.think = Some(Think::Max);
        request.logprobs = Some(3);
        request
    }

    #[test]
    fn a_plain_prompt_sends_only_what_it_says() {
        for manners in [Manners::Compatible, Manners::OpenAisOwn] {
            assert_eq!(
                sent(&request(), manners),
                json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": true,
                       "stream_options": {"include_usage": true}})
            );
        }
    }

    #[test]
    fn everything_a_request_types_reaches_a_compatible_server() {
        assert_eq!(
            sent(&everything(), Manners::Compatible),
            json!({
                "model": "m", "messages": [{"role": "user", "content": "hi"}],
                "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required",
                "reasoning_effort": "high", "logprobs": true, "top_logprobs": 3,
                "stream": true, "stream_options": {"include_usage": true},
                "response_format": {"type": "json_schema",
                                    "json_schema": {"name": "answer", "schema": {"type": "object"}}},
                "max_tokens": 9, "seed": 7, "temperature": 0.5, "top_p": 0.9, "presence_penalty": 0.2,
                "frequency_penalty": 0.3, "stop": ["\n"], "top_k": 40, "min_p": 0.1, "typical_p": 0.8,
                "repeat_last_n": 64, "repeat_penalty": 1.1, "repetition_penalty": 1.1,
            })
        );
    }

    #[test]
    fn openais_own_service_is_sent_nothing_that_it_would_refuse() {
        let sent = sent(&everything(), Manners::of("api.openai.com"));
        for unknown in [
            "max_tokens",
            "top_k",
            "min_p",
            "typical_p",
            "repeat_last_n",
            "repeat_penalty",
            "repetition_penalty",
        ] {
            assert_eq!(sent.get(unknown), None, "{unknown}");
        }
        assert_eq!((&sent["max_completion_tokens"], &sent["seed"]), (&json!(9), &json!(7)));
        for host in ["openai.com", "mine.openai.azure.com"] {
            assert_eq!(Manners::of(host), Manners::OpenAisOwn, "{host}");
        }
        for host in ["notopenai.com", "openai.com.example", "localhost"] {
            assert_eq!(Manners::of(host), Manners::Compatible, "{host}");
        }
    }

    #[test]
    fn thinking_is_switched_where_that_can_be_said() {
        for (think, switch) in [(Think::Off, false), (Think::On, true)] {
            let request = ChatRequest { think: Some(think), format: Some(Format::Json), ..request() };
            let compatible = sent(&request, Manners::Compatible);
            assert_eq!(compatible["chat_template_kwargs"], json!({"enable_thinking": switch}));
            assert_eq!(compatible["response_format"], json!({"type": "json_object"}));
            let own = sent(&request, Manners::OpenAisOwn);
            assert_eq!((own.get("chat_template_kwargs"), own.get("reasoning_effort")), (None, None));
        }
    }

    #[test]
    fn a_text_is_continued_without_what_it_cannot_have_beside_it() {
        let how = Completion { suffix: Some("}".to_owned()), raw: true };
        let mut request = ChatRequest { logprobs: Some(0), ..request() };
        let body = completion_body("m", &request, &how, Manners::Compatible).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&body).unwrap(),
            json!({"model": "m", "prompt": "hi", "suffix": "}", "logprobs": 0, "stream": true,
                   "stream_options": {"include_usage": true}})
        );
        request.messages[0].images.push("aGk=".to_owned());
        let with_image = completion_body("m", &request, &how, Manners::Compatible);
        assert!(matches!(with_image, Err(UpstreamError::Rejected(text)) if text.contains("images")));
        request.messages =
            vec![ChatMessage::text(Role::System, "be brief"), ChatMessage::text(Role::User, "hi")];
        let with_system = completion_body("m", &request, &how, Manners::Compatible);
        assert!(matches!(with_system, Err(UpstreamError::Rejected(text)) if text.contains("system")));
    }
}
