//! How an answer was asked for, which each response tells again: but for what it was asked, which may be long.

use domain::id::TurnId;
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use utoipa::ToSchema;

use super::reply::id_of;
use crate::http::append_json;

/// Texts that were read and written anew: what a caller sends may have line ends, which a frame must not.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ResponseSettings)]
pub(super) struct Settings {
    /// `false`: a model server cannot run on without somebody who waits.
    pub(super) background: bool,
    /// Always `null`: they are not told again.
    pub(super) instructions: Option<&'static str>,
    pub(super) max_output_tokens: Option<u32>,
    #[schema(value_type = Object)]
    pub(super) metadata: Box<RawValue>,
    pub(super) parallel_tool_calls: bool,
    #[serde(serialize_with = "as_response")]
    #[schema(value_type = Option<String>)]
    pub(super) previous_response_id: Option<TurnId>,
    pub(super) reasoning: ReasoningSettings,
    pub(super) store: bool,
    pub(super) temperature: Option<f64>,
    #[schema(value_type = Object)]
    pub(super) text: Box<RawValue>,
    /// A word, or an object that names what may be called.
    #[schema(value_type = serde_json::Value)]
    pub(super) tool_choice: Box<RawValue>,
    #[schema(value_type = Vec<Object>)]
    pub(super) tools: Box<RawValue>,
    pub(super) top_logprobs: u8,
    pub(super) top_p: Option<f64>,
    /// `auto`: what a model cannot read of a long prompt is left out.
    pub(super) truncation: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReasoningSettings {
    pub(super) effort: Option<String>,
    /// Always `null`: thoughts are told as they are.
    pub(super) summary: Option<&'static str>,
}

fn as_response<S: serde::Serializer>(turn: &Option<TurnId>, serializer: S) -> Result<S::Ok, S::Error> {
    turn.map(id_of).serialize(serializer)
}

/// `value` as one line of JSON.
pub(super) fn line<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    let mut text = Vec::new();
    append_json(&mut text, value);
    let text = String::from_utf8(text).ok().and_then(|text| RawValue::from_string(text).ok());
    text.unwrap_or_else(|| RawValue::NULL.to_owned())
}

/// What a field is that was not given.
pub(super) fn line_or(given: Option<&Value>, usual: &Value) -> Box<RawValue> {
    line(given.unwrap_or(usual))
}
