//! What the answers of all model servers are read into, and the small things in which they are alike.

use std::{borrow::Cow, fmt};

use domain::reply::{Delta, TokenLogprob, Usage, UsageSource};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use serde_json::{Map, Number, Value};
use uuid::Uuid;

use super::Batch;
use crate::clock::fresh_id;

/// Adds to the content that is already last, or begins a new delta.
pub(super) fn append_content(batch: &mut Batch, text: Cow<'_, str>) {
    match batch.deltas.last_mut() {
        _ if text.is_empty() => {}
        Some(Delta::Content(last)) => last.push_str(&text),
        _ => batch.deltas.push(Delta::Content(text.into_owned())),
    }
}

/// The same for thinking.
pub(super) fn append_thinking(batch: &mut Batch, text: Cow<'_, str>) {
    match batch.deltas.last_mut() {
        _ if text.is_empty() => {}
        Some(Delta::Thinking(last)) => last.push_str(&text),
        _ => batch.deltas.push(Delta::Thinking(text.into_owned())),
    }
}

/// What an answer cost as its server counted. Counts are [`Number`]s so that a nonsensical one costs the count, not the answer.
pub(super) fn usage(prompt: Option<&Number>, completion: Option<&Number>) -> Option<Usage> {
    let (prompt, completion) = (count(prompt), count(completion));
    // Each count is left out when it is zero; an answer cannot have cost nothing at all.
    let (prompt_tokens, completion_tokens) = (prompt.unwrap_or(0), completion.unwrap_or(0));
    (prompt_tokens > 0 || completion_tokens > 0).then_some(Usage {
        prompt_tokens,
        completion_tokens,
        source: UsageSource::Reported,
    })
}

/// What vectors cost as their server counted; some say zero when they did not.
pub(super) fn embedding_usage(prompt: Option<&Number>) -> Option<Usage> {
    count(prompt).filter(|tokens| *tokens > 0).map(|prompt_tokens| Usage {
        prompt_tokens,
        completion_tokens: 0,
        source: UsageSource::Reported,
    })
}

fn count(number: Option<&Number>) -> Option<u32> {
    number.and_then(Number::as_u64).map(|count| u32::try_from(count).unwrap_or(u32::MAX))
}

/// A call's arguments: an object, nothing, or the text of an object, as the models themselves write it. Whatever else a model wrote
/// is passed on as it is: that is no fault of its server's, and whoever asks could bring it about.
pub(super) fn arguments(given: Value) -> Value {
    match given {
        Value::Null => Value::Object(Map::new()),
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        other => other,
    }
}

/// Where and why bytes are no JSON of ours, without a word of theirs: servers quote keys and prompts.
pub(super) fn flaw(error: &serde_json::Error) -> String {
    format!("{:?} error at line {} column {}", error.classify(), error.line(), error.column())
}

/// The call's own id, or one made up where its server gives none.
pub(super) fn call_id(given: Option<String>) -> String {
    given.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{}", fresh_id::<Uuid>().simple()))
}

/// How likely a token was, as servers of both dialects say it.
#[derive(Deserialize)]
pub(super) struct Likelihood {
    #[serde(default)]
    token: String,
    #[serde(default)]
    logprob: f64,
    #[serde(default)]
    bytes: Option<Vec<u8>>,
    #[serde(default)]
    top_logprobs: Option<Vec<Likelihood>>,
}

impl From<Likelihood> for TokenLogprob {
    fn from(line: Likelihood) -> Self {
        Self {
            token: line.token,
            logprob: line.logprob,
            bytes: line.bytes,
            top_logprobs: line.top_logprobs.unwrap_or_default().into_iter().map(Self::from).collect(),
        }
    }
}

/// A string borrowed where it holds no escape; `null` is the empty string.
pub(super) fn borrowed_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'de, str>, D::Error> {
    struct Text;
    impl<'de> Visitor<'de> for Text {
        type Value = Cow<'de, str>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or null")
        }
        fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(text))
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Cow::Owned(text.to_owned()))
        }
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(""))
        }
    }
    deserializer.deserialize_any(Text)
}
