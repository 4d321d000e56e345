//! What requests of all dialects have in common, and its bounds.

mod calls;
mod choice;
mod media;
mod ollama;
mod sampling;
mod text_or;

use domain::{chat::limits, model_name::ModelName};
use serde_json::{Value, value::RawValue};

use super::raw::parsed;
use crate::http::ApiError;

pub(super) use self::{
    calls::{arguments, arguments_object, arguments_text, call_id, name_results},
    choice::{Choice, choose},
    media::{check_count, of_base64, of_data_uri},
    ollama::{MessageBody, format, messages, sampling, think},
    sampling::{answer_tokens, effort, others_told, stop_list, within},
    text_or::{TextOr, joined},
};

/// # Errors
///
/// 400 naming `model` when it cannot be the name of one.
pub(super) fn model_name(text: &str) -> Result<ModelName, ApiError> {
    ModelName::parse(text).map_err(|_| ApiError::invalid("this is not a model name").at("model"))
}

/// # Errors
///
/// 400 naming `param` when it has fewer or more entries.
pub(super) fn bounded(param: &'static str, count: usize, least: usize, most: usize) -> Result<(), ApiError> {
    if (least..=most).contains(&count) {
        return Ok(());
    }
    Err(ApiError::invalid(format!("`{param}` must have {least} to {most} entries, not {count}")).at(param))
}

/// Whether it is standard base64 of at least one byte.
pub(super) fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    !digits.is_empty()
        && text.len() - digits.len() <= 2
        && text.len().is_multiple_of(4)
        && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// Function definitions in OpenAI's and Ollama's shape, each a JSON object that is passed on as it came.
///
/// # Errors
///
/// 400 naming the tool when there are too many, or too much of one or of all.
pub(super) fn tools(given: Option<&RawValue>) -> Result<Vec<Value>, ApiError> {
    let Some(given) = given else { return Ok(Vec::new()) };
    let tools: Vec<&RawValue> = parsed(given, limits::TOOLS_BYTES, || "tools".to_owned())?;
    bounded("tools", tools.len(), 0, limits::TOOLS)?;
    let tool = |(at, tool): (usize, &RawValue)| {
        parsed(tool, limits::TOOL_BYTES, || format!("tools[{at}]")).map(Value::Object)
    };
    tools.into_iter().enumerate().map(tool).collect()
}
