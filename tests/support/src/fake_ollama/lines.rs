//! The NDJSON lines of an answer.

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ask::{Api, Ask};
use super::http::response::{EVENTS, Head, NDJSON};
use super::json;
use super::model::Model;
use super::script::error_body;
use super::tokens::Tokens;
use crate::clock::{self, Stamp};
use crate::fake_openai::events;

/// Makes lines for one request; what they share is formatted once.
pub(crate) struct Lines {
    api: Api,
    model: String,
    raw: bool,
    logprobs: Option<u64>,
    head: Vec<u8>,
    stamp: Stamp,
    tokens: Tokens,
    stamp_tokens: bool,
    pub(crate) times: Times,
}

/// What the last line's metrics are made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) asked_at: Instant,
    pub(crate) loaded_at: Instant,
    pub(crate) running_at: Instant,
    /// Unset until the first token.
    pub(crate) first_at: Option<Instant>,
    pub(crate) prompt_words: u64,
}

impl Lines {
    pub(crate) fn new(ask: &Ask, model: &Model, times: Times) -> Self {
        Self {
            api: ask.api,
            model: ask.model.clone(),
            raw: ask.raw,
            logprobs: ask.logprobs,
            head: format!("{{\"model\":{},\"created_at\":\"", json::to_go(&ask.model)).into_bytes(),
            stamp: Stamp::default(),
            tokens: Tokens::new(&ask.prompt, ask.seed),
            stamp_tokens: model.stamp_tokens,
            times,
        }
    }

    /// The head of a stream of these.
    pub(crate) fn head(&self) -> Head {
        Head::stream(if self.api.is_openai() { EVENTS } else { NDJSON })
    }

    /// A line that says what went wrong.
    pub(crate) fn error(&self, message: &str) -> Vec<u8> {
        match self.api.is_openai() {
            true => events::event(&json!({ "error": { "message": message, "type": "server_error" } })),
            false => format!("{}\n", error_body(message)).into_bytes(),
        }
    }

    /// A line that is no JSON.
    pub(crate) fn nonsense(&self) -> Vec<u8> {
        let line = if self.api.is_openai() { "data: {\"id\":\"m\",,}\n\n" } else { "{\"model\":\"m\",,}\n" };
        line.as_bytes().to_vec()
    }

    /// A line up to its text, which never ends.
    pub(crate) fn unended(&mut self) -> Vec<u8> {
        if self.api.is_openai() {
            return events::unended();
        }
        let mut line = self.content("");
        line.truncate(line.len() - "\"},\"done\":false}\n".len());
        line
    }

    /// Appends the line of token `index`. This is the path of a stream at full speed.
    pub(crate) fn token(&mut self, index: u64, out: &mut Vec<u8>) {
        if self.api.is_openai() && self.times.first_at.is_none() {
            out.extend(events::opening(self.api, &self.model));
        }
        self.times.first_at.get_or_insert_with(Instant::now);
        if let Some(others) = self.logprobs {
            let in_line = json!({ "logprobs": [self.logprob(index, others)] });
            return out.extend(self.message(self.text(index), json!({}), in_line));
        }
        if self.api.is_openai() {
            return out.extend(self.content(self.text(index)));
        }
        out.extend_from_slice(&self.head);
        self.stamp.write(out);
        out.extend_from_slice(match self.api {
            Api::Chat | Api::OpenAiChat => b"\",\"message\":{\"role\":\"assistant\",\"content\":",
            Api::Generate | Api::OpenAiText => b"\",\"response\":",
        });
        if self.stamp_tokens {
            // Writing into a vector cannot fail.
            let _ = write!(out, "\"t={} \"", clock::now().as_nanos());
        } else {
            out.extend_from_slice(self.tokens.escaped(index).as_bytes());
        }
        out.extend_from_slice(match self.api {
            Api::Chat | Api::OpenAiChat => b"},\"done\":false}\n",
            Api::Generate | Api::OpenAiText => b",\"done\":false}\n",
        });
    }

    /// The line of token `index` by itself.
    pub(crate) fn token_line(&mut self, index: u64) -> Vec<u8> {
        let mut line = Vec::new();
        self.token(index, &mut line);
        line
    }

    /// The text of token `index`.
    pub(crate) fn text(&self, index: u64) -> &'static str {
        self.tokens.token(index)
    }

    /// How probable token `index` was, and as many others in its place.
    fn logprob(&self, index: u64, others: u64) -> Value {
        let told = |index: u64, logprob: f64| {
            let token = self.text(index);
            json!({ "token": token, "logprob": logprob, "bytes": token.as_bytes() })
        };
        let mut logprob = told(index, -0.25);
        if others > 0 {
            let others = (0..others).map(|other| told(index + other, -0.25 - f64::from(other as u32)));
            logprob["top_logprobs"] = others.collect();
        }
        logprob
    }

    /// A line with this text.
    pub(crate) fn content(&mut self, text: &str) -> Vec<u8> {
        self.message(text, json!({}), json!({}))
    }

    /// A line with this text and more members in the message and in the line. `/api/generate` has no message: its
    /// members stand in the line.
    pub(crate) fn message(&mut self, text: &str, in_message: Value, in_line: Value) -> Vec<u8> {
        self.line(text, &in_message, &json!({ "done": false }), &in_line)
    }

    /// A last line: these members in the message, the reason, the metrics, and these members in the line.
    pub(crate) fn last(
        &mut self,
        text: &str,
        in_message: Value,
        reason: Option<&str>,
        eval_count: Option<u64>,
        in_line: Value,
    ) -> Vec<u8> {
        let mut end = json!({ "done": true });
        if let Some(reason) = reason {
            end["done_reason"] = json!(reason);
        }
        let has_context = self.api == Api::Generate && !self.raw && in_line.get("context").is_none();
        if let Some(count) = eval_count.filter(|_| has_context) {
            end["context"] = (0..count).map(|index| 151_644 + index).collect();
        }
        if let Some(eval_count) = eval_count {
            extend(&mut end, &self.metrics(eval_count));
        }
        self.line(text, &in_message, &end, &in_line)
    }

    /// An empty answer's only line.
    pub(crate) fn load_only(&mut self, reason: &str) -> Vec<u8> {
        self.last("", json!({}), Some(reason), None, json!({}))
    }

    fn line(&mut self, text: &str, in_message: &Value, end: &Value, in_line: &Value) -> Vec<u8> {
        let mut members = match self.api {
            Api::Chat => json!({ "message": { "role": "assistant", "content": text } }),
            Api::Generate => json!({ "response": text }),
            Api::OpenAiChat | Api::OpenAiText => {
                return events::piece(self.api, &self.model, text, in_message, end, in_line);
            }
        };
        extend(if self.api == Api::Chat { &mut members["message"] } else { &mut members }, in_message);
        extend(&mut members, end);
        extend(&mut members, in_line);
        let mut line = self.head.clone();
        self.stamp.write(&mut line);
        line.extend_from_slice(b"\",");
        // The members' own opening brace has gone before.
        line.extend_from_slice(&json::to_go(&members).as_bytes()[1..]);
        line.push(b'\n');
        line
    }

    fn metrics(&self, eval_count: u64) -> Value {
        let Times { asked_at, loaded_at, running_at, first_at, prompt_words } = self.times;
        let first_at = first_at.unwrap_or(running_at);
        let named = [
            ("total_duration", nanos(asked_at.elapsed())),
            ("load_duration", nanos(loaded_at - asked_at)),
            ("prompt_eval_count", prompt_words),
            ("prompt_eval_duration", nanos(first_at - running_at)),
            ("eval_count", eval_count),
            ("eval_duration", nanos(first_at.elapsed())),
        ];
        // Go leaves zeros out.
        named
            .into_iter()
            .filter(|(_, value)| *value > 0)
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect()
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn extend(object: &mut Value, more: &Value) {
    if let (Some(object), Some(more)) = (object.as_object_mut(), more.as_object()) {
        object.extend(more.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
}
