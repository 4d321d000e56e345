//! What a caller may ask of a model, independent of any dialect or provider.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model_name::ModelName;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
    Tool,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::System, Self::User, Self::Assistant, Self::Tool].into_iter().find(|role| role.as_str() == text)
    }
}

/// A model's request to call a function. `arguments` is a JSON object whose key order is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    pub arguments: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ChatMessage {
    pub role: Role,
    pub content: String,
    pub thinking: Option<String>,
    /// Standard base64, no `data:` prefix.
    pub images: Vec<String>,
    pub tool_calls: Vec<ToolCall>,
    /// For `tool` messages: which function, and which call, this answers.
    pub tool_name: Option<String>,
    pub tool_call_id: Option<String>,
}

impl ChatMessage {
    pub fn text(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            thinking: None,
            images: Vec::new(),
            tool_calls: Vec::new(),
            tool_name: None,
            tool_call_id: None,
        }
    }

    /// Its part of a prompt's tokens, by the rule of [`ChatRequest::estimated_prompt_tokens`].
    pub fn estimated_tokens(&self) -> u32 {
        let trees: usize = self.tool_calls.iter().map(|call| json_bytes(&call.arguments)).sum();
        tokens(self.text_bytes() + trees, self.images.len())
    }

    /// What is said, thought and called.
    fn text_bytes(&self) -> usize {
        let calls: usize = self.tool_calls.iter().map(|call| call.name.len()).sum();
        self.content.len() + self.thinking.as_ref().map_or(0, String::len) + calls
    }
}

/// Tokens by rule of thumb, at least one: near enough for English text and code until somebody counts.
pub(crate) fn tokens(bytes: usize, images: usize) -> u32 {
    const BYTES_PER_TOKEN: usize = 4;
    const TOKENS_PER_IMAGE: usize = 512;
    u32::try_from(bytes / BYTES_PER_TOKEN + images * TOKENS_PER_IMAGE).unwrap_or(u32::MAX).max(1)
}

/// Sampling options a caller may set. Runner options (`num_ctx`, `num_gpu`, …) and `keep_alive` are not among them:
/// a change of these reloads or evicts the model for everybody (ollama-wire §6).
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Sampling {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_predict: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typical_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_last_n: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
}

impl Sampling {
    /// Lets the answer have at most so many tokens. What has no bound of its own is left to the server, unless `most` is less
    /// than anybody may ask for.
    pub fn bound_answer(&mut self, most: u32) {
        self.num_predict = match self.num_predict {
            Some(asked) => Some(asked.min(most)),
            None => (most < limits::NUM_PREDICT).then_some(most),
        };
    }
}

/// The shape the answer must have.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    Json,
    Schema(Value),
}

/// Whether, and how hard, the model should think first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Think {
    Off,
    On,
    Low,
    Medium,
    High,
    Max,
}

/// Whether the model has to call one of the tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ToolChoice {
    /// As it sees fit.
    #[default]
    Auto,
    /// One at least. Servers that cannot be told so (Ollama) treat it as [`ToolChoice::Auto`].
    Required,
}

/// A text to go on with, in place of a chat to answer: the request has one message of a user, which is that text, and may have a
/// system prompt before it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Completion {
    /// What follows the gap that the model is to fill.
    pub suffix: Option<String>,
    /// The text is given to the model as it is, without its template.
    pub raw: bool,
}

/// One prompt, validated: at least one message, or a stored one that it answers, all within [`limits`].
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    pub model: ModelName,
    pub messages: Vec<ChatMessage>,
    pub sampling: Sampling,
    /// Function definitions, passed on as they came (each a JSON object).
    pub tools: Vec<Value>,
    pub format: Option<Format>,
    pub think: Option<Think>,
    pub tool_choice: ToolChoice,
    /// Asks for the probability of each token of the answer, and of so many others in its place.
    pub logprobs: Option<u8>,
    /// Continue the text rather than answer it.
    pub completion: Option<Completion>,
}

impl ChatRequest {
    /// A chat to answer in the model's own way.
    pub fn new(model: ModelName, messages: Vec<ChatMessage>) -> Self {
        Self {
            model,
            messages,
            sampling: Sampling::default(),
            tools: Vec::new(),
            format: None,
            think: None,
            tool_choice: ToolChoice::Auto,
            logprobs: None,
            completion: None,
        }
    }

    /// Tokens of the prompt by rule of thumb, at least one.
    pub fn estimated_prompt_tokens(&self) -> u32 {
        let bytes = self.text_bytes() + self.trees().map(json_bytes).sum::<usize>();
        tokens(bytes, self.images().count())
    }

    /// About how much memory it takes for as long as its turn waits: text as it is, trees many times theirs.
    pub fn memory_bytes(&self) -> usize {
        let images: usize = self.images().map(String::len).sum();
        let trees: usize = self.trees().map(tree_bytes).sum();
        self.messages.len() * size_of::<ChatMessage>() + self.text_bytes() + images + trees
    }

    fn text_bytes(&self) -> usize {
        let suffix = self.completion.as_ref().and_then(|completion| completion.suffix.as_ref());
        self.messages.iter().map(ChatMessage::text_bytes).sum::<usize>() + suffix.map_or(0, String::len)
    }

    fn images(&self) -> impl Iterator<Item = &String> {
        self.messages.iter().flat_map(|message| &message.images)
    }

    /// What is JSON of it: tools, a schema, and the arguments of calls.
    fn trees(&self) -> impl Iterator<Item = &Value> {
        let schema = match &self.format {
            Some(Format::Schema(schema)) => Some(schema),
            Some(Format::Json) | None => None,
        };
        let calls = self.messages.iter().flat_map(|message| &message.tool_calls);
        self.tools.iter().chain(schema).chain(calls.map(|call| &call.arguments))
    }

    /// Whether long silences between tokens are normal for this request (ollama-wire §2.3).
    pub fn may_pause(&self) -> bool {
        !self.tools.is_empty() || self.format.is_some() || self.think.is_some_and(|think| think != Think::Off)
    }
}

/// About how long a JSON value is as text, without writing it.
fn json_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| json_bytes(item) + 1).sum::<usize>() + 2,
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| key.len() + json_bytes(value) + 4).sum::<usize>() + 2
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 4,
    }
}

/// About how much memory a JSON value takes. A field of an object takes its key, a hash and a place in an index, too.
fn tree_bytes(value: &Value) -> usize {
    const NODE: usize = 2 * size_of::<Value>();
    const OBJECT: usize = 256;
    NODE + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(tree_bytes).sum(),
        Value::Object(fields) => {
            OBJECT + fields.iter().map(|(key, value)| key.len() + tree_bytes(value)).sum::<usize>()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// Bounds on what one request may carry.
pub mod limits {
    pub const MESSAGES: usize = 1_000;
    pub const TOOLS: usize = 128;
    pub const STOP_SEQUENCES: usize = 16;
    pub const IMAGES: usize = 16;
    /// Tokens whose probability is told beside each chosen one.
    pub const TOP_LOGPROBS: u8 = 20;
    /// The most tokens one answer may have; Ollama's own default is ten times the context.
    pub const NUM_PREDICT: u32 = 131_072;

    // What is kept as a tree costs tens of times its text, and is kept for as long as the turn waits.
    /// The text of a `format`.
    pub const FORMAT_BYTES: usize = 64 << 10;
    /// The text of one tool, and of all of them.
    pub const TOOL_BYTES: usize = 32 << 10;
    pub const TOOLS_BYTES: usize = 256 << 10;
    /// The text of the sampling options.
    pub const OPTIONS_BYTES: usize = 16 << 10;
    /// The text of one tool call's arguments, and of those of all messages.
    /// Of a function's name, and of a call's id: every result of a call repeats them.
    pub const CALL_NAME_BYTES: usize = 256;
    pub const ARGUMENTS_BYTES: usize = 64 << 10;
    pub const ALL_ARGUMENTS_BYTES: usize = 256 << 10;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_a_model_is_given_to_read_is_in_the_estimate() {
        let text = "x".repeat(400);
        let asked = |message| ChatRequest {
            tool_choice: ToolChoice::Auto,
            logprobs: None,
            completion: None,
            ..ChatRequest::new(ModelName::parse("m").unwrap(), vec![message])
        };
        let said = ChatMessage::text(Role::User, text.as_str());
        assert_eq!(asked(said.clone()).estimated_prompt_tokens(), 100);
        let hidden = json!({ "deep": [text] });
        let call = ToolCall { id: String::new(), name: String::new(), arguments: hidden.clone() };
        let empty = ChatMessage::text(Role::User, "");
        for request in [
            asked(ChatMessage { thinking: Some(text.clone()), ..empty.clone() }),
            asked(ChatMessage { tool_calls: vec![call], ..empty.clone() }),
            asked(ChatMessage { images: vec![text.clone()], ..empty.clone() }),
            ChatRequest { tools: vec![hidden.clone()], ..asked(empty.clone()) },
            ChatRequest { format: Some(Format::Schema(hidden)), ..asked(empty.clone()) },
        ] {
            assert!(request.estimated_prompt_tokens() >= 100, "{request:?}");
        }
        assert_eq!(asked(empty).estimated_prompt_tokens(), 1);
    }

    #[test]
    fn an_answer_is_bound_by_the_smaller_of_what_is_asked_and_what_is_allowed() {
        for (asked, most, bound) in [
            (None, limits::NUM_PREDICT, None),
            (None, 100, Some(100)),
            (Some(50), 100, Some(50)),
            (Some(500), 100, Some(100)),
            (Some(500), limits::NUM_PREDICT, Some(500)),
        ] {
            let mut sampling = Sampling { num_predict: asked, ..Sampling::default() };
            sampling.bound_answer(most);
            assert_eq!(sampling.num_predict, bound, "{asked:?} {most}");
        }
    }

    #[test]
    fn a_tree_counts_for_more_than_its_text() {
        let tree = Value::Array(vec![json!({ "": 0 }); 1_000]);
        let text = tree.to_string().len();
        assert!(tree_bytes(&tree) > 50 * text, "{} for {text} bytes of text", tree_bytes(&tree));
    }
}
