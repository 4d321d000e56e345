//! What is asked, as items: messages, calls of functions and what came of them, thoughts.
//!
//! A model knows messages only. So what an assistant thought, said and called, one after another, becomes one message.

use domain::chat::{ChatMessage, Role, ToolCall, limits};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    dialects::{
        parts::{TextOr, arguments, bounded, check_count, joined, name_results, of_base64, of_data_uri},
        raw::Allowance,
    },
    http::ApiError,
};

/// What a kind of item does not have is ignored.
#[derive(Deserialize, ToSchema)]
pub(super) struct InputItem {
    /// `message` (or nothing), `function_call`, `function_call_output` or `reasoning`.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Of a message.
    role: Option<InputRole>,
    /// Of a message, or of thoughts.
    #[schema(value_type = Option<String>)]
    content: Option<TextOr<InputPart>>,
    /// Of a `function_call` and its output.
    call_id: Option<String>,
    /// Of a `function_call`: the function.
    name: Option<String>,
    /// Of a `function_call`: a JSON object in a string; an empty one means none.
    arguments: Option<String>,
    /// Of a `function_call_output`.
    #[schema(value_type = Option<String>)]
    output: Option<TextOr<InputPart>>,
    /// Of thoughts, where there is no `content`.
    #[schema(value_type = Option<Vec<InputPart>>)]
    summary: Option<TextOr<InputPart>>,
}

/// `developer` is another word for `system`.
#[derive(Deserialize, ToSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum InputRole {
    User,
    Assistant,
    System,
    Developer,
}

#[derive(Deserialize, ToSchema)]
pub(super) struct InputPart {
    /// `input_text`, `output_text`, `refusal`, `input_image`, `input_audio`; of thoughts `summary_text` or `reasoning_text`.
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    refusal: Option<String>,
    /// `data:image/…;base64,…`: nothing is fetched from elsewhere.
    image_url: Option<String>,
    input_audio: Option<InputAudio>,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = ResponseInputAudio)]
struct InputAudio {
    /// Standard base64.
    data: String,
}

/// Reads what is asked after what `instructions` say.
///
/// # Errors
///
/// 400 with the field in `param`.
pub(super) fn messages(
    instructions: Option<String>,
    input: TextOr<InputItem>,
) -> Result<Vec<ChatMessage>, ApiError> {
    let system = instructions.filter(|text| !text.is_empty());
    let system = system.map(|text| ChatMessage::text(Role::System, text));
    let mut reader = Reader {
        all_arguments: Allowance::new("input", limits::ALL_ARGUMENTS_BYTES),
        messages: system.into_iter().collect(),
        is_open: false,
    };
    match input {
        TextOr::Text(text) => reader.messages.push(ChatMessage::text(Role::User, text)),
        TextOr::List(items) => {
            bounded("input", items.len(), 1, limits::MESSAGES)?;
            for (at, item) in items.into_iter().enumerate() {
                reader.item(at, item)?;
            }
        }
    }
    let Reader { mut messages, .. } = reader;
    bounded("input", messages.len(), 1, limits::MESSAGES)?;
    check_count(&messages)?;
    name_results(&mut messages)?;
    Ok(messages)
}

struct Reader {
    all_arguments: Allowance,
    messages: Vec<ChatMessage>,
    /// The last message is an assistant's that the next item may be a part of.
    is_open: bool,
}

impl Reader {
    fn item(&mut self, at: usize, item: InputItem) -> Result<(), ApiError> {
        match item.kind.as_deref() {
            None | Some("message") => self.message(at, item),
            Some("function_call") => self.call(at, item),
            Some("function_call_output") => self.output(at, item),
            Some("reasoning") => {
                let (field, parts) = match item.content {
                    Some(content) => ("content", content),
                    None => ("summary", item.summary.unwrap_or(TextOr::List(Vec::new()))),
                };
                let (text, _) = parts_of(parts, &format!("input[{at}].{field}"))?;
                if !text.is_empty() {
                    let is_fresh =
                        |message: &ChatMessage| message.content.is_empty() && message.tool_calls.is_empty();
                    let message = self.assistant(is_fresh);
                    message.thinking = Some(match message.thinking.take() {
                        Some(before) => joined(&[before, text]),
                        None => text,
                    });
                }
                Ok(())
            }
            Some(_) => {
                let message = "there are messages, function_call, function_call_output and reasoning here";
                Err(ApiError::invalid(message).at(format!("input[{at}].type")))
            }
        }
    }

    fn message(&mut self, at: usize, item: InputItem) -> Result<(), ApiError> {
        let role = item.role.ok_or_else(|| missing(&format!("input[{at}]"), "role"))?;
        let content = item.content.ok_or_else(|| missing(&format!("input[{at}]"), "content"))?;
        let (text, images) = parts_of(content, &format!("input[{at}].content"))?;
        let role = match role {
            InputRole::Assistant => {
                let is_silent =
                    |message: &ChatMessage| message.content.is_empty() && message.tool_calls.is_empty();
                let message = self.assistant(is_silent);
                message.content = text;
                message.images = images;
                return Ok(());
            }
            InputRole::User => Role::User,
            InputRole::System | InputRole::Developer => Role::System,
        };
        self.push(ChatMessage { images, ..ChatMessage::text(role, text) });
        Ok(())
    }

    fn call(&mut self, at: usize, item: InputItem) -> Result<(), ApiError> {
        let at = format!("input[{at}]");
        let id = item.call_id.ok_or_else(|| missing(&at, "call_id"))?;
        let name = item.name.ok_or_else(|| missing(&at, "name"))?;
        let text = item.arguments.unwrap_or_default();
        let arguments = arguments(&text, &mut self.all_arguments, || format!("{at}.arguments"))?;
        self.assistant(|_| true).tool_calls.push(ToolCall { id, name, arguments });
        Ok(())
    }

    fn output(&mut self, at: usize, item: InputItem) -> Result<(), ApiError> {
        let id = item.call_id.ok_or_else(|| missing(&format!("input[{at}]"), "call_id"))?;
        let output = item.output.ok_or_else(|| missing(&format!("input[{at}]"), "output"))?;
        let (text, images) = parts_of(output, &format!("input[{at}].output"))?;
        self.push(ChatMessage { tool_call_id: Some(id), images, ..ChatMessage::text(Role::Tool, text) });
        Ok(())
    }

    fn push(&mut self, message: ChatMessage) {
        self.messages.push(message);
        self.is_open = false;
    }

    /// The assistant's message that is being put together, if it `takes` what comes; else the next one.
    fn assistant(&mut self, takes: impl FnOnce(&ChatMessage) -> bool) -> &mut ChatMessage {
        let goes_on = self.is_open && self.messages.last().is_some_and(takes);
        if !goes_on {
            self.messages.push(ChatMessage::text(Role::Assistant, ""));
            self.is_open = true;
        }
        let last = self.messages.len() - 1;
        &mut self.messages[last]
    }
}

/// The text and the media of a list of parts at `at`.
fn parts_of(parts: TextOr<InputPart>, at: &str) -> Result<(String, Vec<String>), ApiError> {
    let parts = match parts {
        TextOr::Text(text) => return Ok((text, Vec::new())),
        TextOr::List(parts) => parts,
    };
    let (mut texts, mut media) = (Vec::new(), Vec::new());
    for (nth, part) in parts.into_iter().enumerate() {
        let missing = |field: &str| missing(&format!("{at}[{nth}]"), field);
        match part.kind.as_str() {
            "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text" => {
                texts.push(part.text.ok_or_else(|| missing("text"))?);
            }
            "refusal" => texts.push(part.refusal.ok_or_else(|| missing("refusal"))?),
            "input_image" => {
                let uri = part.image_url.ok_or_else(|| missing("image_url"))?;
                media.push(of_data_uri(uri, "image", || format!("{at}[{nth}].image_url"))?);
            }
            "input_audio" => {
                let data = part.input_audio.ok_or_else(|| missing("input_audio"))?.data;
                media.push(of_base64(data, || format!("{at}[{nth}].input_audio.data"))?);
            }
            _ => {
                let message = "there are texts, pictures and sounds here; files are not read";
                return Err(ApiError::invalid(message).at(format!("{at}[{nth}].type")));
            }
        }
    }
    Ok((joined(&texts), media))
}

fn missing(at: &str, field: &str) -> ApiError {
    ApiError::invalid("a required field is missing").at(format!("{at}.{field}"))
}
