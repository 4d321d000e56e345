//! Functions as responses describe them, which is flat, and which of them to call.

use domain::chat::{ToolChoice, limits};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json, value::RawValue};
use utoipa::ToSchema;

use crate::{
    dialects::{
        openai::chat::{AllowedMode, Mode},
        parts::{Choice, choose, functions},
        raw::parsed,
    },
    http::ApiError,
};

/// A function; there are no other tools here.
#[derive(Deserialize, Serialize, ToSchema)]
pub(super) struct FlatTool {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    description: Option<String>,
    #[schema(value_type = Option<Object>)]
    parameters: Option<Map<String, Value>>,
    /// Passed on to nobody: model servers do not know it.
    strict: Option<bool>,
}

#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum FlatChoice {
    Mode(Mode),
    /// `{"type":"allowed_tools","mode","tools":[{"type":"function","name"}]}`
    Allowed {
        mode: AllowedMode,
        tools: Vec<FlatName>,
    },
    /// `{"type":"function","name"}`
    Function(FlatName),
}

#[derive(Deserialize, ToSchema)]
pub(super) struct FlatName {
    name: String,
}

/// As they were given, measured.
///
/// # Errors
///
/// 400 naming the tool when there are too many, too much of one or of all, or it is no function.
pub(super) fn tools(given: Option<&RawValue>) -> Result<Vec<FlatTool>, ApiError> {
    functions(
        given,
        "a tool is `{\"type\":\"function\",\"name\",\"parameters\",…}`; there are no others here",
        |tool: FlatTool| (tool.kind == "function" && tool.name.is_some()).then_some(tool),
    )
}

/// Those that are left to call, as model servers read them, and whether one has to be.
///
/// # Errors
///
/// 400 naming `tool_choice` when it is none, or of a function that is not there.
pub(super) fn chosen(
    tools: Vec<FlatTool>,
    choice: Option<&RawValue>,
) -> Result<(Vec<Value>, ToolChoice), ApiError> {
    let choice = choice.map(|given| parsed(given, limits::TOOL_BYTES, || "tool_choice".to_owned()));
    let choice = match choice.transpose()? {
        None | Some(FlatChoice::Mode(Mode::Auto)) => Choice::Auto,
        Some(FlatChoice::Mode(Mode::None)) => Choice::None,
        Some(FlatChoice::Mode(Mode::Required)) => Choice::Required,
        Some(FlatChoice::Function(FlatName { name })) => Choice::Of { names: vec![name], is_required: true },
        Some(FlatChoice::Allowed { mode, tools }) => Choice::Of {
            names: tools.into_iter().map(|tool| tool.name).collect(),
            is_required: mode == AllowedMode::Required,
        },
    };
    choose(choice, tools.into_iter().map(nested).collect(), "tool_choice")
}

fn nested(tool: FlatTool) -> Value {
    let mut function = Map::new();
    function.insert("name".to_owned(), tool.name.into());
    if let Some(description) = tool.description {
        function.insert("description".to_owned(), Value::String(description));
    }
    if let Some(parameters) = tool.parameters {
        function.insert("parameters".to_owned(), Value::Object(parameters));
    }
    json!({ "type": "function", "function": function })
}
