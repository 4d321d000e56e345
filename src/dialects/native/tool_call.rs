//! Tool calls as clients write and read them: OpenAI's and Ollama's nesting, with `arguments` as an object.

use domain::chat::ToolCall;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use utoipa::ToSchema;

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
#[derive(Deserialize)]
pub(super) struct GivenToolCall {
    #[serde(default)]
    pub(super) id: String,
    pub(super) function: GivenFunction,
}

#[derive(Deserialize)]
pub(super) struct GivenFunction {
    pub(super) name: String,
    pub(super) arguments: Option<Box<RawValue>>,
}

impl From<ToolCall> for ToolCallBody {
    fn from(call: ToolCall) -> Self {
        let arguments = match call.arguments {
            Value::Object(arguments) => arguments,
            // A model may answer with anything; clients are promised an object.
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        Self { id: call.id, function: FunctionBody { name: call.name, arguments } }
    }
}
