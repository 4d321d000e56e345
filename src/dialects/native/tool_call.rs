//! Tool calls as clients write and read them: OpenAI's and Ollama's nesting, with `arguments` as an object.

use domain::chat::ToolCall;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use utoipa::ToSchema;

use crate::dialects::parts::arguments_object;

#[derive(Serialize, ToSchema)]
pub(crate) struct ToolCallBody {
    id: String,
    function: FunctionBody,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct FunctionBody {
    name: String,
    arguments: Map<String, Value>,
}

/// A tool call as it came: its arguments are text until their size is known to be in bounds.
#[derive(Deserialize, ToSchema)]
pub(crate) struct GivenToolCall {
    #[serde(default)]
    pub(crate) id: String,
    pub(crate) function: GivenFunction,
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct GivenFunction {
    pub(crate) name: String,
    #[schema(value_type = Option<Object>)]
    pub(crate) arguments: Option<Box<RawValue>>,
}

impl From<ToolCall> for ToolCallBody {
    fn from(call: ToolCall) -> Self {
        let arguments = arguments_object(call.arguments);
        Self { id: call.id, function: FunctionBody { name: call.name, arguments } }
    }
}
