//! The messages of a chat in OpenAI's words.
//!
//! Here a call's arguments are a text, its result must name it, and images are parts of a content. A caller of another dialect
//! may have left out a call's id: it is made up, the same for the call and for its result.

use std::{borrow::Cow, collections::VecDeque};

use domain::chat::{ChatMessage, Role, ToolCall};
use serde::Serialize;

use super::wire::Manners;

#[derive(Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    content: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(&'a str),
    Parts(Vec<Part<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: ImageUrl },
}

#[derive(Serialize)]
struct ImageUrl {
    url: String,
}

#[derive(Serialize)]
struct Call<'a> {
    id: Cow<'a, str>,
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: String,
}

/// All of a chat.
pub(super) fn messages(chat: &[ChatMessage], manners: Manners) -> Vec<Message<'_>> {
    let mut open = OpenCalls::default();
    chat.iter().map(|message| written(message, manners, &mut open)).collect()
}

fn written<'a>(message: &'a ChatMessage, manners: Manners, open: &mut OpenCalls<'a>) -> Message<'a> {
    let tool_calls: Vec<_> = message.tool_calls.iter().map(|call| open.begin(call)).collect();
    let text = message.content.as_str();
    let content = if !message.images.is_empty() {
        let text = (!text.is_empty()).then_some(Part::Text { text });
        let images = message.images.iter().map(|image| Part::ImageUrl { image_url: image_url(image) });
        Some(Content::Parts(text.into_iter().chain(images).collect()))
    } else if text.is_empty() && !tool_calls.is_empty() {
        None
    } else {
        Some(Content::Text(text))
    };
    // Models that think between calls want to see it; elsewhere it is refused or of no use.
    let reasoning_content =
        message.thinking.as_deref().filter(|_| manners == Manners::Compatible && !tool_calls.is_empty());
    let tool_call_id = (message.role == Role::Tool).then(|| open.answered_by(message));
    Message { role: message.role.as_str(), content, reasoning_content, tool_calls, tool_call_id }
}

/// Calls whose result has not come yet, in their order: name and id.
#[derive(Default)]
struct OpenCalls<'a> {
    calls: VecDeque<(&'a str, Cow<'a, str>)>,
    made_up: usize,
}

impl<'a> OpenCalls<'a> {
    fn begin(&mut self, call: &'a ToolCall) -> Call<'a> {
        let id = if call.id.is_empty() { self.make_up() } else { Cow::Borrowed(call.id.as_str()) };
        self.calls.push_back((&call.name, id.clone()));
        let function = Function { name: &call.name, arguments: call.arguments.to_string() };
        Call { id, r#type: "function", function }
    }

    /// The id of the call that this message has the result of: the one it names, the first open one of the function it names, or
    /// the first open one.
    fn answered_by(&mut self, result: &'a ChatMessage) -> Cow<'a, str> {
        if let Some(id) = result.tool_call_id.as_deref().filter(|id| !id.is_empty()) {
            self.calls.retain(|(_, open)| open != id);
            return Cow::Borrowed(id);
        }
        let named = result.tool_name.as_deref();
        let place = self.calls.iter().position(|(name, _)| Some(*name) == named).unwrap_or(0);
        self.calls.remove(place).map_or_else(|| self.make_up(), |(_, id)| id)
    }

    fn make_up(&mut self) -> Cow<'a, str> {
        self.made_up += 1;
        Cow::Owned(format!("call_{}", self.made_up))
    }
}

/// An image as a `data:` URI: nothing is fetched from anywhere.
fn image_url(base64: &str) -> ImageUrl {
    // The first bytes of each format, in base64.
    let media_type = match base64.as_bytes() {
        [b'i', b'V', b'B', b'O', ..] => "image/png",
        [b'R', b'0', b'l', b'G', ..] => "image/gif",
        [b'U', b'k', b'l', b'G', ..] => "image/webp",
        _ => "image/jpeg",
    };
    ImageUrl { url: format!("data:{media_type};base64,{base64}") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sent(chat: &[ChatMessage], manners: Manners) -> Value {
        serde_json::to_value(messages(chat, manners)).unwrap()
    }

    fn call(id: &str, name: &str) -> ToolCall {
        ToolCall { id: id.to_owned(), name: name.to_owned(), arguments: json!({"z": 1, "a": 2}) }
    }

    fn result(name: Option<&str>, id: Option<&str>) -> ChatMessage {
        ChatMessage {
            tool_name: name.map(str::to_owned),
            tool_call_id: id.map(str::to_owned),
            ..ChatMessage::text(Role::Tool, "42")
        }
    }

    #[test]
    fn a_call_and_its_result_are_told_with_the_arguments_as_text_in_their_order() {
        let calling = ChatMessage {
            thinking: Some("hm".to_owned()),
            tool_calls: vec![call("c1", "f")],
            ..ChatMessage::text(Role::Assistant, "")
        };
        let chat = [ChatMessage::text(Role::User, "hi"), calling, result(Some("f"), Some("c1"))];
        let called = json!([{"id": "c1", "type": "function",
                             "function": {"name": "f", "arguments": r#"{"z":1,"a":2}"#}}]);
        let compatible = json!([
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": called},
            {"role": "tool", "content": "42", "tool_call_id": "c1"},
        ]);
        assert_eq!(sent(&chat, Manners::Compatible), compatible);
        assert_eq!(sent(&chat, Manners::OpenAisOwn)[1].get("reasoning_content"), None);
        let thought =
            ChatMessage { thinking: Some("hm".to_owned()), ..ChatMessage::text(Role::Assistant, "x") };
        assert_eq!(
            sent(&[thought], Manners::Compatible),
            json!([{"role": "assistant", "content": "x"}]),
            "what was thought before an answer is over"
        );
    }

    #[test]
    fn a_call_without_an_id_and_its_result_get_the_same_one() {
        let calling = ChatMessage {
            tool_calls: vec![call("", "f"), call("", "g")],
            ..ChatMessage::text(Role::Assistant, "")
        };
        let chat = [calling, result(Some("g"), None), result(None, None), result(None, None)];
        let sent = sent(&chat, Manners::Compatible);
        let ids = [&sent[0]["tool_calls"][0]["id"], &sent[0]["tool_calls"][1]["id"]];
        assert_eq!(ids, ["call_1", "call_2"]);
        assert_eq!([&sent[1]["tool_call_id"], &sent[2]["tool_call_id"]], [ids[1], ids[0]]);
        assert_eq!(sent[3]["tool_call_id"], "call_3", "a result of nothing has an id too");
    }

    #[test]
    fn images_are_parts_with_their_bytes_in_the_address() {
        let seen = ChatMessage {
            images: ["iVBORw0K", "R0lGODlh", "UklGRg==", "/9j/4AAQ"].map(str::to_owned).to_vec(),
            ..ChatMessage::text(Role::User, "what is this")
        };
        let mut parts = vec![json!({"type": "text", "text": "what is this"})];
        for (format, base64) in
            [("png", "iVBORw0K"), ("gif", "R0lGODlh"), ("webp", "UklGRg=="), ("jpeg", "/9j/4AAQ")]
        {
            let url = format!("data:image/{format};base64,{base64}");
            parts.push(json!({"type": "image_url", "image_url": {"url": url}}));
        }
        assert_eq!(sent(&[seen], Manners::OpenAisOwn), json!([{"role": "user", "content": parts}]));
    }
}
