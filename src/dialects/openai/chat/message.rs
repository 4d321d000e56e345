//! Messages as OpenAI's clients write them.

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

#[derive(Deserialize, ToSchema)]
pub(super) struct ChatCompletionMessage {
    role: ChatCompletionRole,
    /// May be absent where the message is something else, such as tool calls.
    content: Option<TextOr<ContentPart>>,
    /// What the assistant thought, by either name.
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    tool_calls: Option<Vec<ChatCompletionToolCall>>,
    /// Of a tool's message: which call it answers.
    tool_call_id: Option<String>,
    /// Of a tool's message: the function, if it is not to be looked up by `tool_call_id`.
    name: Option<String>,
}

/// `developer` is another word for `system`.
#[derive(Deserialize, ToSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum ChatCompletionRole {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

impl From<ChatCompletionRole> for Role {
    fn from(role: ChatCompletionRole) -> Self {
        match role {
            ChatCompletionRole::System | ChatCompletionRole::Developer => Self::System,
            ChatCompletionRole::User => Self::User,
            ChatCompletionRole::Assistant => Self::Assistant,
            ChatCompletionRole::Tool => Self::Tool,
        }
    }
}

#[derive(Deserialize, ToSchema)]
pub(super) struct ContentPart {
    #[serde(rename = "type")]
    kind: ContentPartKind,
    text: Option<String>,
    image_url: Option<ImageUrl>,
    input_audio: Option<InputAudio>,
    refusal: Option<String>,
}

#[derive(Deserialize, ToSchema, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum ContentPartKind {
    Text,
    ImageUrl,
    InputAudio,
    Refusal,
}

#[derive(Deserialize, ToSchema)]
struct ImageUrl {
    /// `data:image/…;base64,…`: nothing is fetched from elsewhere.
    url: String,
}

#[derive(Deserialize, ToSchema)]
struct InputAudio {
    /// Standard base64.
    data: String,
}

#[derive(Deserialize, ToSchema)]
pub(super) struct ChatCompletionToolCall {
    id: Option<String>,
    function: CalledFunction,
}

#[derive(Deserialize, ToSchema)]
struct CalledFunction {
    name: String,
    /// A JSON object in a string; an empty one means none.
    arguments: Option<String>,
}

/// # Errors
///
/// 400 with the field in `param`.
pub(super) fn messages(given: Vec<ChatCompletionMessage>) -> Result<Vec<ChatMessage>, ApiError> {
    bounded("messages", given.len(), 1, limits::MESSAGES)?;
    let mut all_arguments = Allowance::new("messages", limits::ALL_ARGUMENTS_BYTES);
    let read = |(at, message): (_, ChatCompletionMessage)| message.read(at, &mut all_arguments);
    let mut messages = given.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    check_count(&messages)?;
    name_results(&mut messages)?;
    Ok(messages)
}

impl ChatCompletionMessage {
    /// `at` is its place among the messages.
    fn read(self, at: usize, all_arguments: &mut Allowance) -> Result<ChatMessage, ApiError> {
        let role = Role::from(self.role);
        let (content, images) = match self.content {
            None => (String::new(), Vec::new()),
            Some(TextOr::Text(text)) => (text, Vec::new()),
            Some(TextOr::List(parts)) => content(parts, at)?,
        };
        let calls = self.tool_calls.unwrap_or_default().into_iter().enumerate().map(|(nth, call)| {
            let param = || format!("messages[{at}].tool_calls[{nth}].function.arguments");
            let text = call.function.arguments.unwrap_or_default();
            Ok(ToolCall {
                id: call.id.unwrap_or_default(),
                name: call.function.name,
                arguments: arguments(&text, all_arguments, param)?,
            })
        });
        Ok(ChatMessage {
            role,
            content,
            thinking: self.reasoning_content.or(self.reasoning).filter(|text| !text.is_empty()),
            images,
            tool_calls: calls.collect::<Result<_, ApiError>>()?,
            // Of other messages it is the name of somebody who speaks, which models are not told.
            tool_name: self.name.filter(|_| role == Role::Tool),
            tool_call_id: self.tool_call_id,
        })
    }
}

/// The text and the media of a message's parts.
fn content(parts: Vec<ContentPart>, at: usize) -> Result<(String, Vec<String>), ApiError> {
    let (mut texts, mut media) = (Vec::new(), Vec::new());
    for (nth, part) in parts.into_iter().enumerate() {
        let missing = |field: &str| {
            ApiError::invalid("a required field is missing")
                .at(format!("messages[{at}].content[{nth}].{field}"))
        };
        match part.kind {
            ContentPartKind::Text => texts.push(part.text.ok_or_else(|| missing("text"))?),
            ContentPartKind::Refusal => texts.push(part.refusal.ok_or_else(|| missing("refusal"))?),
            ContentPartKind::ImageUrl => {
                let uri = part.image_url.ok_or_else(|| missing("image_url"))?.url;
                media.push(of_data_uri(uri, "image", || {
                    format!("messages[{at}].content[{nth}].image_url.url")
                })?);
            }
            ContentPartKind::InputAudio => {
                let data = part.input_audio.ok_or_else(|| missing("input_audio"))?.data;
                media.push(of_base64(data, || format!("messages[{at}].content[{nth}].input_audio.data"))?);
            }
        }
    }
    Ok((joined(&texts), media))
}
