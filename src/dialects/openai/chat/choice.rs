//! `tool_choice`: whether a tool is to be called, and which.

use domain::chat::limits;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    dialects::{parts::Choice, raw::parsed},
    http::ApiError,
};

#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum ToolChoiceBody {
    Mode(Mode),
    /// `{"type":"function","function":{"name"}}`
    Function {
        function: Named,
    },
    /// `{"type":"allowed_tools","allowed_tools":{"mode","tools":[{"type":"function","function":{"name"}}]}}`
    Allowed {
        allowed_tools: Allowed,
    },
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ToolChoiceMode)]
pub(in crate::dialects::openai) enum Mode {
    None,
    Auto,
    Required,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = ChosenFunction)]
pub(super) struct Named {
    name: String,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = AllowedTools)]
pub(super) struct Allowed {
    mode: AllowedMode,
    tools: Vec<AllowedTool>,
}

#[derive(Deserialize, ToSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(in crate::dialects::openai) enum AllowedMode {
    Auto,
    Required,
}

#[derive(Deserialize, ToSchema)]
pub(super) struct AllowedTool {
    function: Named,
}

/// # Errors
///
/// 400 when it is none of these.
pub(super) fn chosen(given: Option<&RawValue>) -> Result<Choice, ApiError> {
    let Some(given) = given else { return Ok(Choice::Auto) };
    Ok(match parsed(given, limits::TOOL_BYTES, || "tool_choice".to_owned())? {
        ToolChoiceBody::Mode(Mode::None) => Choice::None,
        ToolChoiceBody::Mode(Mode::Auto) => Choice::Auto,
        ToolChoiceBody::Mode(Mode::Required) => Choice::Required,
        ToolChoiceBody::Function { function } => Choice::Of { names: vec![function.name], is_required: true },
        ToolChoiceBody::Allowed { allowed_tools: Allowed { mode, tools } } => Choice::Of {
            names: tools.into_iter().map(|tool| tool.function.name).collect(),
            is_required: mode == AllowedMode::Required,
        },
    })
}
