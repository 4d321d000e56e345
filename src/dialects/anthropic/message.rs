//! Messages as Anthropic's clients write them: blocks of several kinds, results of tools among a user's.

use domain::chat::{ChatMessage, Role, ToolCall, limits};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use utoipa::ToSchema;

use crate::{
    dialects::{
        parts::{TextOr, bounded, check_count, joined, name_results, of_base64},
        raw::{Allowance, parsed},
    },
    http::ApiError,
};

#[derive(Deserialize, ToSchema)]
pub(super) struct AnthropicMessage {
    role: AnthropicRole,
    content: TextOr<ContentBlock>,
}

#[derive(Deserialize, ToSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum AnthropicRole {
    User,
    Assistant,
    System,
}

#[derive(Deserialize, ToSchema)]
pub(super) struct ContentBlock {
    #[serde(rename = "type")]
    kind: BlockKind,
    text: Option<String>,
    thinking: Option<String>,
    source: Option<Source>,
    /// Of a `tool_use`.
    id: Option<String>,
    name: Option<String>,
    #[schema(value_type = Value, required = false)]
    input: Option<Box<RawValue>>,
    /// Of a `tool_result`.
    tool_use_id: Option<String>,
    #[schema(value_type = Option<String>)]
    content: Option<TextOr<ContentBlock>>,
}

#[derive(Deserialize, ToSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum BlockKind {
    Text,
    Image,
    ToolUse,
    ToolResult,
    Thinking,
    /// Of another service's making; it means nothing here.
    RedactedThinking,
}

/// A picture's own bytes.
#[derive(Deserialize, ToSchema)]
struct Source {
    /// `base64`: nothing is fetched from elsewhere.
    #[serde(rename = "type")]
    kind: String,
    data: Option<String>,
}

/// Reads the messages after what `system` says.
///
/// # Errors
///
/// 400 with the field in `param`.
pub(super) fn messages(
    system: Option<TextOr<ContentBlock>>,
    given: Vec<AnthropicMessage>,
) -> Result<Vec<ChatMessage>, ApiError> {
    bounded("messages", given.len(), 1, limits::MESSAGES)?;
    let mut reader = Reader {
        all_arguments: Allowance::new("messages", limits::ALL_ARGUMENTS_BYTES),
        messages: Vec::new(),
    };
    if let Some(system) = system {
        let text = texts(system, "system")?;
        reader.messages.push(ChatMessage::text(Role::System, text));
    }
    for (at, message) in given.into_iter().enumerate() {
        reader.read(at, message)?;
    }
    bounded("messages", reader.messages.len(), 1, limits::MESSAGES)?;
    check_count(&reader.messages)?;
    name_results(&mut reader.messages)?;
    Ok(reader.messages)
}

struct Reader {
    all_arguments: Allowance,
    messages: Vec<ChatMessage>,
}

/// What is in a message beside results of tools, which are messages of their own.
#[derive(Default)]
struct Said {
    texts: Vec<String>,
    thoughts: Vec<String>,
    images: Vec<String>,
    tool_calls: Vec<ToolCall>,
}

impl Reader {
    fn read(&mut self, at: usize, message: AnthropicMessage) -> Result<(), ApiError> {
        let role = match message.role {
            AnthropicRole::User => Role::User,
            AnthropicRole::Assistant => Role::Assistant,
            AnthropicRole::System => Role::System,
        };
        let blocks = match message.content {
            TextOr::Text(text) => {
                self.messages.push(ChatMessage::text(role, text));
                return Ok(());
            }
            TextOr::List(blocks) => blocks,
        };
        let mut said = Said::default();
        let mut results = 0;
        for (nth, block) in blocks.into_iter().enumerate() {
            let at = format!("messages[{at}].content[{nth}]");
            if block.kind == BlockKind::ToolResult {
                self.result(&at, block)?;
                results += 1;
            } else {
                self.block(&at, block, &mut said)?;
            }
        }
        let Said { texts, thoughts, images, tool_calls } = said;
        if results > 0 && texts.is_empty() && images.is_empty() {
            return Ok(());
        }
        self.messages.push(ChatMessage {
            thinking: (!thoughts.is_empty()).then(|| joined(&thoughts)),
            images,
            tool_calls,
            ..ChatMessage::text(role, joined(&texts))
        });
        Ok(())
    }

    fn result(&mut self, at: &str, block: ContentBlock) -> Result<(), ApiError> {
        let id = block.tool_use_id.ok_or_else(|| missing(at, "tool_use_id"))?;
        let mut said = Said::default();
        match block.content {
            None => {}
            Some(TextOr::Text(text)) => said.texts.push(text),
            Some(TextOr::List(blocks)) => {
                for (nth, block) in blocks.into_iter().enumerate() {
                    let at = format!("{at}.content[{nth}]");
                    if !matches!(block.kind, BlockKind::Text | BlockKind::Image) {
                        return Err(ApiError::invalid("a result is text and pictures").at(at));
                    }
                    self.block(&at, block, &mut said)?;
                }
            }
        }
        self.messages.push(ChatMessage {
            images: said.images,
            tool_call_id: Some(id),
            ..ChatMessage::text(Role::Tool, joined(&said.texts))
        });
        Ok(())
    }

    fn block(&mut self, at: &str, block: ContentBlock, said: &mut Said) -> Result<(), ApiError> {
        match block.kind {
            BlockKind::Text => said.texts.push(block.text.ok_or_else(|| missing(at, "text"))?),
            BlockKind::Thinking => said.thoughts.push(block.thinking.ok_or_else(|| missing(at, "thinking"))?),
            BlockKind::Image => said.images.push(image(at, block.source)?),
            BlockKind::ToolUse => {
                let name = block.name.ok_or_else(|| missing(at, "name"))?;
                let arguments = match &block.input {
                    None => Map::new(),
                    Some(given) => {
                        self.all_arguments.take(given)?;
                        parsed(given, limits::ARGUMENTS_BYTES, || format!("{at}.input"))?
                    }
                };
                let id = block.id.unwrap_or_default();
                said.tool_calls.push(ToolCall { id, name, arguments: Value::Object(arguments) });
            }
            BlockKind::RedactedThinking | BlockKind::ToolResult => {}
        }
        Ok(())
    }
}

/// The text of a field that takes nothing else.
fn texts(given: TextOr<ContentBlock>, field: &'static str) -> Result<String, ApiError> {
    let blocks = match given {
        TextOr::Text(text) => return Ok(text),
        TextOr::List(blocks) => blocks.into_iter().enumerate(),
    };
    let text = |(nth, block): (usize, ContentBlock)| {
        let at = format!("{field}[{nth}]");
        block.text.filter(|_| block.kind == BlockKind::Text).ok_or_else(|| missing(&at, "text"))
    };
    Ok(joined(&blocks.map(text).collect::<Result<Vec<_>, _>>()?))
}

fn image(at: &str, source: Option<Source>) -> Result<String, ApiError> {
    let Source { kind, data } = source.ok_or_else(|| missing(at, "source"))?;
    if kind != "base64" {
        let message = "a picture is given in base64; nothing is fetched from elsewhere";
        return Err(ApiError::invalid(message).at(format!("{at}.source.type")));
    }
    of_base64(data.ok_or_else(|| missing(at, "source.data"))?, || format!("{at}.source.data"))
}

fn missing(at: &str, field: &str) -> ApiError {
    ApiError::invalid("a required field is missing").at(format!("{at}.{field}"))
}
