//! A request for a chat or a continued text as an OpenAI-compatible server understands it.

use serde_json::{Value, json};

use crate::fake_ollama::ask::{Api, Ask, Refused};
use crate::fake_ollama::json::Members;

/// Fields it knows; another is refused, as OpenAI's own service does it.
const KNOWN: &[&str] = &[
    "model",
    "messages",
    "prompt",
    "suffix",
    "stream",
    "stream_options",
    "tools",
    "tool_choice",
    "response_format",
    "reasoning_effort",
    "chat_template_kwargs",
    "logprobs",
    "top_logprobs",
    "max_tokens",
    "seed",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "stop",
    "top_k",
    "min_p",
    "typical_p",
    "repeat_last_n",
    "repeat_penalty",
    "repetition_penalty",
];

pub(crate) fn parse(api: Api, body: &Members) -> Result<Ask, Refused> {
    let refuse = |message: &str| Err(Refused(400, message.to_owned()));
    if let Some(unknown) = body.names().find(|name| !KNOWN.contains(name)) {
        return refuse(&format!("Unrecognized request argument supplied: {unknown}"));
    }
    let text = |name| body.field(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |name| body.field(name).and_then(Value::as_i64);
    let contents = match api {
        Api::OpenAiText => vec![text("prompt")],
        _ => body
            .field("messages")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .map(content)
            .collect::<Result<Vec<_>, _>>()?,
    };
    if contents.is_empty() {
        return refuse("Invalid 'messages': empty array.");
    }
    if body.field("stream") != Some(&json!(true)) {
        return refuse("this server only streams");
    }
    let logprobs = match api {
        Api::OpenAiText => body.field("logprobs").and_then(Value::as_u64),
        _ => (body.field("logprobs") == Some(&json!(true)))
            .then(|| body.field("top_logprobs").and_then(Value::as_u64).unwrap_or(0)),
    };
    Ok(Ask {
        api,
        model: text("model"),
        words: contents.iter().map(|content| content.split_whitespace().count() as u64).sum(),
        is_empty: false,
        prompt: contents.into_iter().next_back().unwrap_or_default(),
        stream: true,
        keep_alive: None,
        num_predict: number("max_tokens").and_then(|count| u64::try_from(count).ok()),
        seed: number("seed").unwrap_or(-1),
        shape: String::new(),
        wants_tools: body.field("tools").and_then(Value::as_array).is_some_and(|tools| !tools.is_empty()),
        wants_thinking: false,
        wants_insert: !text("suffix").is_empty(),
        raw: api == Api::OpenAiText,
        logprobs,
    })
}

/// A message's text: as it is, or of its parts.
fn content(message: &Value) -> Result<String, Refused> {
    if message["role"] == "tool" && !message["tool_call_id"].is_string() {
        return Err(Refused(400, "Missing required parameter: 'messages[].tool_call_id'.".to_owned()));
    }
    match &message["content"] {
        Value::String(text) => Ok(text.clone()),
        Value::Null if message["tool_calls"].is_array() => Ok(String::new()),
        Value::Array(parts) => {
            let is_seen = |part: &Value| {
                part["image_url"]["url"].as_str().is_some_and(|url| url.starts_with("data:image/"))
            };
            match parts.iter().all(|part| part["type"] == "text" || is_seen(part)) {
                true => Ok(parts.iter().filter_map(|part| part["text"].as_str()).collect()),
                false => Err(Refused(400, "Invalid 'messages[].content': unknown part.".to_owned())),
            }
        }
        _ => Err(Refused(400, "Invalid type for 'messages[].content'.".to_owned())),
    }
}
