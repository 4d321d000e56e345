//! A conversation to read: who said what, in the order it was said.
//!
//! Messages stand as they were written, since most of what models write is Markdown. Every heading ends with the last
//! characters of its message's id, by which messages on other branches say what they follow.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use domain::{
    chat::{Role, ToolCall},
    conversation::{Conversation, StoredMessage},
    turn::TurnStatus,
};
use uuid::Uuid;

/// The fewest marks that begin a fence.
const FENCE: usize = 3;

/// Writes messages one after the other.
#[derive(Default)]
pub(super) struct Markdown {
    /// What the next message follows, unless it says otherwise.
    last: Option<Uuid>,
}

impl Markdown {
    pub(super) fn head(&mut self, conversation: &Conversation, now: DateTime<Utc>) -> String {
        self.last = Some(conversation.id.as_uuid());
        let title = conversation.title.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut text = format!("# {title}\n\nExported on {}.\n", at(now));
        if let Some(prompt) = &conversation.system_prompt {
            let _ = write!(text, "\n## System prompt\n\n{}", paragraph(prompt));
        }
        text
    }

    pub(super) fn message(&mut self, stored: &StoredMessage) -> String {
        let id = stored.id.as_uuid();
        let mut text =
            format!("\n## {} · {} · {}\n", name(stored.message.role), at(stored.created_at), short(id));
        let last = self.last.replace(id);
        if let Some(parent) = stored.parent.filter(|parent| Some(*parent) != last) {
            let note = if parent == stored.conversation.as_uuid() {
                "Another beginning.".to_owned()
            } else {
                format!("Another branch: follows {}.", short(parent))
            };
            let _ = write!(text, "\n*{note}*\n");
        }
        if let Some(note) = outcome(stored.status) {
            let _ = write!(text, "\n*{note}*\n");
        }
        let message = &stored.message;
        if message.role == Role::Tool {
            let of = message.tool_name.as_deref().unwrap_or("a tool");
            let _ = write!(text, "\nResult of {}:\n\n{}", code(of), fenced("", &message.content));
        } else if !message.content.trim().is_empty() {
            let _ = write!(text, "\n{}", paragraph(&message.content));
        }
        match message.images.len() {
            0 => {}
            1 => text += "\n*An image is in the export as JSON.*\n",
            images => drop(write!(text, "\n*{images} images are in the export as JSON.*\n")),
        }
        message.tool_calls.iter().for_each(|call| text += &called(call));
        text
    }
}

fn name(role: Role) -> &'static str {
    match role {
        Role::System => "System",
        Role::User => "User",
        Role::Assistant => "Assistant",
        Role::Tool => "Tool",
    }
}

fn outcome(status: TurnStatus) -> Option<&'static str> {
    match status {
        TurnStatus::Complete => None,
        TurnStatus::Streaming => Some("Still being written when it was exported."),
        TurnStatus::Interrupted => Some("Interrupted: the text is not whole."),
        TurnStatus::Cancelled => Some("Cancelled: the text is not whole."),
        TurnStatus::Failed => Some("Failed: the text is not whole."),
    }
}

fn called(call: &ToolCall) -> String {
    let arguments = serde_json::to_string_pretty(&call.arguments).unwrap_or_default();
    format!("\nCalls {}:\n\n{}", code(&call.name), fenced("json", &arguments))
}

/// The last characters of an id, which are random.
fn short(id: Uuid) -> String {
    let text = id.simple().to_string();
    format!("`{}`", &text[text.len() - 8..])
}

fn at(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// On one line, whatever it holds.
fn code(text: &str) -> String {
    format!("`{}`", text.replace(['`', '\n', '\r'], "'"))
}

/// Within a fence that nothing in the text closes.
fn fenced(language: &str, text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(FENCE.max(longest + 1));
    format!("{fence}{language}\n{}\n{fence}\n", text.trim_end())
}

/// As it was written, with one line end; a fence that it leaves open is closed, or it would swallow what comes after.
fn paragraph(text: &str) -> String {
    let text = text.trim_end();
    match open_fence(text) {
        Some(fence) => format!("{text}\n{fence}\n"),
        None => format!("{text}\n"),
    }
}

/// The fence that is open at the end.
fn open_fence(text: &str) -> Option<&str> {
    let mut open: Option<&str> = None;
    for line in text.lines() {
        let line = line.trim_start();
        let mark = line.chars().next().filter(|mark| ['`', '~'].contains(mark));
        let Some(mark) = mark else { continue };
        let length = line.chars().take_while(|c| *c == mark).count();
        let (fence, rest) = line.split_at(length);
        open = match open {
            Some(begun) if fence.starts_with(begun) && rest.trim().is_empty() => None,
            None if length >= FENCE && !(mark == '`' && rest.contains('`')) => Some(fence),
            before => before,
        };
    }
    open
}

#[cfg(test)]
mod tests {
    use domain::chat::ChatMessage;

    use super::*;

    fn stored(id: u128, parent: Option<u128>, message: ChatMessage) -> StoredMessage {
        StoredMessage {
            id: Uuid::from_u128(id).into(),
            conversation: Uuid::from_u128(1).into(),
            turn: Uuid::from_u128(9).into(),
            parent: parent.map(Uuid::from_u128),
            message,
            status: TurnStatus::Complete,
            created_at: DateTime::UNIX_EPOCH,
        }
    }

    fn written(messages: &[StoredMessage]) -> String {
        let conversation = Conversation {
            id: Uuid::from_u128(1).into(),
            title: "On\nskies".into(),
            system_prompt: Some("Be brief.".into()),
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
        };
        let mut markdown = Markdown::default();
        let head = markdown.head(&conversation, DateTime::UNIX_EPOCH);
        messages.iter().fold(head, |text, message| text + &markdown.message(message))
    }

    #[test]
    fn a_conversation_reads_from_top_to_bottom_and_tells_its_branches() {
        let call =
            ToolCall { id: "c".into(), name: "look`up".into(), arguments: serde_json::json!({"at": "sky"}) };
        let said = [
            stored(
                0x10,
                None,
                ChatMessage { images: vec!["aGk=".into()], ..ChatMessage::text(Role::User, "Why blue?") },
            ),
            stored(
                0x11,
                Some(0x10),
                ChatMessage {
                    thinking: Some("hmm".into()),
                    tool_calls: vec![call],
                    ..ChatMessage::text(Role::Assistant, "")
                },
            ),
            stored(
                0x12,
                None,
                ChatMessage { tool_name: Some("lookup".into()), ..ChatMessage::text(Role::Tool, "```\n") },
            ),
            StoredMessage {
                status: TurnStatus::Cancelled,
                ..stored(0x13, Some(0x10), ChatMessage::text(Role::Assistant, "Because\n```rust\nlet"))
            },
            stored(0x14, Some(1), ChatMessage::text(Role::User, "Again")),
        ];
        let text = r#"# On skies

Exported on 1970-01-01T00:00:00Z.

## System prompt

Be brief.

## User · 1970-01-01T00:00:00Z · `00000010`

Why blue?

*An image is in the export as JSON.*

## Assistant · 1970-01-01T00:00:00Z · `00000011`

Calls `look'up`:

```json
{
  "at": "sky"
}
```

## Tool · 1970-01-01T00:00:00Z · `00000012`

Result of `lookup`:

````
```
````

## Assistant · 1970-01-01T00:00:00Z · `00000013`

*Another branch: follows `00000010`.*

*Cancelled: the text is not whole.*

Because
```rust
let
```

## User · 1970-01-01T00:00:00Z · `00000014`

*Another beginning.*

Again
"#;
        assert_eq!(written(&said), text);
    }

    #[test]
    fn only_a_fence_that_is_open_is_closed() {
        for (text, open) in [
            ("", None),
            ("```\na\n```", None),
            ("```\na\n``", Some("```")),
            ("````\n```\n", Some("````")),
            ("~~~\n```\n~~~~", None),
            ("a ``` b", None),
            ("```a```", None),
            ("```js\n```js", Some("```")),
        ] {
            assert_eq!(open_fence(text), open, "{text}");
        }
    }
}
