//! A chat or generate request as Ollama understands it.

use std::time::Duration;

use serde_json::Value;

use super::json::{self, Members};
use super::scheduler::KeepAlive;
use super::script::error_body;
use crate::fake_openai;

/// Options whose change reloads the model.
const RUNNER_OPTIONS: [&str; 7] =
    ["num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict"];
const INTEGER_OPTIONS: [&str; 6] = ["num_ctx", "num_batch", "num_gpu", "num_predict", "seed", "top_k"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    Chat,
    Generate,
    OpenAiChat,
    OpenAiText,
}

impl Api {
    pub(crate) fn is_openai(self) -> bool {
        matches!(self, Self::OpenAiChat | Self::OpenAiText)
    }

    /// A refusal in this dialect: status and body.
    pub(crate) fn refusal(self, status: u16, message: &str) -> (u16, String) {
        match self.is_openai() {
            // What is a full queue there is a limit of the account here.
            true if status == 503 => (429, fake_openai::routes::error_body(429, message)),
            true => (status, fake_openai::routes::error_body(status, message)),
            false => (status, error_body(message)),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) api: Api,
    /// As the request spells it.
    pub(crate) model: String,
    /// The last message's content, or the prompt.
    pub(crate) prompt: String,
    /// Words of all messages.
    pub(crate) words: u64,
    /// No messages or an empty prompt: load or unload only.
    pub(crate) is_empty: bool,
    pub(crate) stream: bool,
    pub(crate) keep_alive: Option<KeepAlive>,
    pub(crate) num_predict: Option<u64>,
    pub(crate) seed: i64,
    /// The runner options, as one comparable text.
    pub(crate) shape: String,
    pub(crate) wants_tools: bool,
    pub(crate) wants_thinking: bool,
    pub(crate) wants_insert: bool,
    pub(crate) raw: bool,
    /// How many other tokens are told beside each, if any probability is.
    pub(crate) logprobs: Option<u64>,
}

/// A request that is refused: status and message.
pub(crate) struct Refused(pub(crate) u16, pub(crate) String);

impl Ask {
    pub(crate) fn parse(api: Api, body: &Members) -> Result<Self, Refused> {
        if api.is_openai() {
            return fake_openai::ask::parse(api, body);
        }
        let text = |name| body.field(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let flag = |name| body.field(name).and_then(Value::as_bool);
        let options = body.field("options").cloned().unwrap_or_default();
        for name in INTEGER_OPTIONS {
            if json::field(&options, name).is_some_and(|value| !value.is_number()) {
                return Err(Refused(500, format!("option \"{name}\" must be of type integer")));
            }
        }
        if body.field("top_logprobs").and_then(Value::as_u64).is_some_and(|count| count > 20) {
            return Err(Refused(400, "top_logprobs must be between 0 and 20".to_owned()));
        }
        let raw = api == Api::Generate && flag("raw") == Some(true);
        if raw && ["template", "system", "context"].iter().any(|name| !is_empty(body.field(name))) {
            let message = "raw mode does not support template, system, or context";
            return Err(Refused(400, message.to_owned()));
        }
        let number = |name| json::field(&options, name).and_then(Value::as_i64);
        let contents: Vec<String> = match api {
            Api::Generate => Some(text("prompt")).into_iter().filter(|prompt| !prompt.is_empty()).collect(),
            _ => body
                .field("messages")
                .and_then(Value::as_array)
                .map(|messages| messages.iter().map(content).collect())
                .unwrap_or_default(),
        };
        let shape = RUNNER_OPTIONS.iter().filter_map(|name| Some((name, json::field(&options, name)?)));
        let mut shape: Vec<_> = shape.map(|(name, value)| format!("{name}={value}")).collect();
        shape.extend(flag("shift").map(|shift| format!("shift={shift}")));
        Ok(Self {
            api,
            model: text("model"),
            words: contents.iter().map(|content| content.split_whitespace().count() as u64).sum(),
            is_empty: contents.is_empty(),
            prompt: contents.into_iter().next_back().unwrap_or_default(),
            stream: flag("stream").unwrap_or(true),
            keep_alive: body.field("keep_alive").map(keep_alive).transpose()?,
            num_predict: number("num_predict").and_then(|count| u64::try_from(count).ok()),
            seed: number("seed").unwrap_or(-1),
            shape: shape.join(","),
            wants_tools: body.field("tools").and_then(Value::as_array).is_some_and(|tools| !tools.is_empty()),
            wants_thinking: body.field("think").is_some_and(|think| think != &Value::Bool(false)),
            wants_insert: api == Api::Generate && !is_empty(body.field("suffix")),
            raw,
            logprobs: (flag("logprobs") == Some(true))
                .then(|| body.field("top_logprobs").and_then(Value::as_u64).unwrap_or(0)),
        })
    }
}

/// Whether Go finds nothing there.
fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

fn content(message: &Value) -> String {
    json::field(message, "content").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Seconds as a number, or a Go duration; negative is for ever.
pub(crate) fn keep_alive(value: &Value) -> Result<KeepAlive, Refused> {
    let invalid = || Refused(400, format!("time: invalid duration {value}"));
    let seconds = match value {
        Value::Number(number) => number.as_f64().ok_or_else(invalid)?,
        Value::String(text) => go_duration(text).ok_or_else(invalid)?,
        _ => return Err(invalid()),
    };
    // What is negative, or centuries away, never comes.
    Ok(Duration::try_from_secs_f64(seconds).ok().filter(|wait| wait.as_secs() < u64::from(u32::MAX)))
}

fn go_duration(text: &str) -> Option<f64> {
    let (sign, mut rest) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let amount: f64 = rest[..digits].parse().ok()?;
        let units = [("ms", 0.001), ("us", 1e-6), ("ns", 1e-9), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let Some((unit, scale)) = units.iter().find(|(unit, _)| rest[digits..].starts_with(unit)) else {
            return (rest == "0").then_some(0.0);
        };
        seconds += amount * scale;
        rest = &rest[digits + unit.len()..];
    }
    Some(sign * seconds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keep_alive_is_seconds_or_a_go_duration() {
        let parsed = |value| keep_alive(&value).ok().unwrap();
        assert_eq!(parsed(json!(30)), Some(Duration::from_secs(30)));
        assert_eq!(parsed(json!("1h5m")), Some(Duration::from_secs(3900)));
        assert_eq!(parsed(json!("1500ms")), Some(Duration::from_millis(1500)));
        assert_eq!(parsed(json!(-1)), None);
        assert_eq!(parsed(json!("0")), Some(Duration::ZERO));
        assert!(keep_alive(&json!("soon")).is_err());
    }
}
