//! Tools as Anthropic's clients write them, and which of them to call.

use domain::chat::{ToolChoice, limits};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};
use utoipa::ToSchema;

use crate::{
    dialects::{
        parts::{Choice, bounded, choose},
        raw::parsed,
    },
    http::ApiError,
};

#[derive(Deserialize, ToSchema)]
pub(super) struct AnthropicTool {
    /// `custom`, or nothing: the tools of Anthropic's own servers are not here.
    #[serde(rename = "type")]
    kind: Option<String>,
    name: String,
    description: Option<String>,
    input_schema: Option<Map<String, Value>>,
}

#[derive(Deserialize, ToSchema)]
pub(super) struct AnthropicToolChoice {
    #[serde(rename = "type")]
    kind: ChoiceKind,
    /// Of `tool`.
    name: Option<String>,
}

#[derive(Deserialize, ToSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum ChoiceKind {
    Auto,
    Any,
    Tool,
    None,
}

/// The tools that may be called, as functions.
///
/// # Errors
///
/// 400 with the field in `param`.
pub(super) fn tools(
    given: Option<&RawValue>,
    choice: Option<AnthropicToolChoice>,
) -> Result<(Vec<Value>, ToolChoice), ApiError> {
    let tools = given.map_or(Ok(Vec::new()), |given| {
        let tools: Vec<&RawValue> = parsed(given, limits::TOOLS_BYTES, || "tools".to_owned())?;
        bounded("tools", tools.len(), 0, limits::TOOLS)?;
        tools.into_iter().enumerate().map(|(at, tool)| function(at, tool)).collect()
    })?;
    let choice = match choice {
        None => Choice::Auto,
        Some(AnthropicToolChoice { kind, name }) => match (kind, name) {
            (ChoiceKind::Auto, _) => Choice::Auto,
            (ChoiceKind::Any, _) => Choice::Required,
            (ChoiceKind::None, _) => Choice::None,
            (ChoiceKind::Tool, Some(name)) => Choice::Of { names: vec![name], is_required: true },
            (ChoiceKind::Tool, None) => {
                return Err(ApiError::invalid("a required field is missing").at("tool_choice.name"));
            }
        },
    };
    choose(choice, tools, "tool_choice")
}

fn function(at: usize, given: &RawValue) -> Result<Value, ApiError> {
    let tool: AnthropicTool = parsed(given, limits::TOOL_BYTES, || format!("tools[{at}]"))?;
    if tool.kind.is_some_and(|kind| kind != "custom") {
        let message = "there are no tools here but those of the caller";
        return Err(ApiError::invalid(message).at(format!("tools[{at}].type")));
    }
    let mut function = Map::from_iter([("name".to_owned(), Value::String(tool.name))]);
    if let Some(description) = tool.description {
        function.insert("description".to_owned(), Value::String(description));
    }
    let parameters =
        tool.input_schema.unwrap_or_else(|| Map::from_iter([("type".to_owned(), "object".into())]));
    function.insert("parameters".to_owned(), Value::Object(parameters));
    Ok(json!({ "type": "function", "function": function }))
}
