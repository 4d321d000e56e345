//! What requests of all dialects have in common, and its bounds.

mod calls;
mod choice;
mod media;
mod ollama;
mod sampling;
mod text_or;

use domain::{chat::limits, model_name::ModelName};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, value::RawValue};

use super::raw::parsed;
use crate::http::ApiError;

pub(super) use self::{
    calls::{arguments, arguments_object, arguments_text, call_id, check_names, name_results},
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

/// What a function is told to a model with.
const OF_A_FUNCTION: [&str; 4] = ["name", "description", "parameters", "strict"];

/// Function definitions in OpenAI's and Ollama's shape, of which only what defines a function is passed on: a model server may have tools
/// of its own that are run at the operator's cost and from the operator's network.
///
/// # Errors
///
/// 400 naming the tool when there are too many, too much of one or of all, or one is no function.
pub(super) fn tools(given: Option<&RawValue>) -> Result<Vec<Value>, ApiError> {
    functions(
        given,
        "a tool is `{\"type\":\"function\",\"function\":{\"name\",…}}`; there are no others here",
        function,
    )
}

/// Tools of any shape, each by itself as `function` reads it; `wanted` says what one is.
///
/// # Errors
///
/// 400 naming the tool when there are too many, too much of one or of all, or `function` makes nothing of one.
pub(super) fn functions<G: DeserializeOwned, T>(
    given: Option<&RawValue>,
    wanted: &'static str,
    function: impl Fn(G) -> Option<T>,
) -> Result<Vec<T>, ApiError> {
    let Some(given) = given else { return Ok(Vec::new()) };
    let tools: Vec<&RawValue> = parsed(given, limits::TOOLS_BYTES, || "tools".to_owned())?;
    bounded("tools", tools.len(), 0, limits::TOOLS)?;
    let tool = |(at, tool): (usize, &RawValue)| {
        let place = || format!("tools[{at}]");
        function(parsed(tool, limits::TOOL_BYTES, place)?)
            .ok_or_else(|| ApiError::invalid(wanted).at(place()))
    };
    tools.into_iter().enumerate().map(tool).collect()
}

/// The function that a tool is, without what else it says.
fn function(mut tool: Map<String, Value>) -> Option<Value> {
    let is_function = tool.get("type").is_none_or(|kind| kind == "function");
    let function = tool.get_mut("function").and_then(Value::as_object_mut)?;
    let has_name = function.get("name").is_some_and(Value::is_string);
    function.retain(|field, _| OF_A_FUNCTION.contains(&field.as_str()));
    tool.retain(|field, _| field == "type" || field == "function");
    (is_function && has_name).then_some(Value::Object(tool))
}
