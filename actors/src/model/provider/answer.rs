//! What the answers of all model servers are read into, and the small things in which they are alike.

use std::{borrow::Cow, fmt};

use domain::reply::{Delta, TokenLogprob, Usage, UsageSource};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use serde_json::{Map, Number, Value};
use uuid::Uuid;

use super::{Batch, UpstreamError};
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
    (prompt.is_some() || completion.is_some()).then(|| Usage {
        prompt_tokens: prompt.unwrap_or(0),
        completion_tokens: completion.unwrap_or(0),
        source: UsageSource::Reported,
    })
}

/// What vectors cost as their server counted.
pub(super) fn embedding_usage(prompt: Option<&Number>) -> Option<Usage> {
    count(prompt).map(|prompt_tokens| Usage {
        prompt_tokens,
        completion_tokens: 0,
        source: UsageSource::Reported,
    })
}

fn count(number: Option<&Number>) -> Option<u32> {
    number.and_then(Number::as_u64).map(|count| u32::try_from(count).unwrap_or(u32::MAX))
}

/// A call's arguments: an object, nothing, or the text of an object, as the models themselves write it.
pub(super) fn arguments(given: Value) -> Result<Value, UpstreamError> {
    let nonsense = || UpstreamError::Garbage("a tool call whose arguments are no object".to_owned());
    match given {
        object @ Value::Object(_) => Ok(object),
        Value::Null => Ok(Value::Object(Map::new())),
        Value::String(text) => serde_json::from_str(&text).ok().filter(Value::is_object).ok_or_else(nonsense),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) => Err(nonsense()),
    }
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
