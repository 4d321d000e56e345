//! Conversations and the messages in them, as their owner reads them.

use chrono::{DateTime, Utc};

use crate::{
    chat::{ChatMessage, Role},
    id::{ConversationId, MessageId, TurnId},
    turn::TurnStatus,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    pub id: ConversationId,
    pub title: String,
    /// Put before every prompt in it.
    pub system_prompt: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// A message on its way into a conversation.
#[derive(Debug, Clone)]
pub struct NewMessage {
    pub id: MessageId,
    pub message: ChatMessage,
}

#[derive(Debug, Clone)]
pub struct StoredMessage {
    pub id: MessageId,
    pub conversation: ConversationId,
    /// The turn that produced it; caller's messages carry the turn they were sent with.
    pub turn: TurnId,
    /// What it follows: a message, or the conversation itself where it is its beginning; `None`: what was made before it.
    pub parent: Option<uuid::Uuid>,
    pub message: ChatMessage,
    pub status: TurnStatus,
    pub created_at: DateTime<Utc>,
}

impl StoredMessage {
    /// Whether the model may see it again as history: an empty or still running answer says nothing.
    pub fn is_history(&self) -> bool {
        self.message.role != Role::Assistant
            || (self.status != TurnStatus::Streaming
                && !(self.message.content.is_empty() && self.message.tool_calls.is_empty()))
    }
}

/// One page of a list, and where the next one starts.
#[derive(Debug, Clone)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Pass it back to read on; `None` at the end.
    pub next: Option<uuid::Uuid>,
}

/// Most items one page holds.
pub const PAGE_LIMIT_MAX: u32 = 100;
pub const PAGE_LIMIT_DEFAULT: u32 = 20;

/// The longest title we derive from a first message, in characters.
const TITLE_CHARS: usize = 80;

/// Names a conversation after the first thing its user said.
pub fn title_from(messages: &[ChatMessage]) -> String {
    let first = messages.iter().find(|m| m.role == Role::User).map_or("", |m| m.content.as_str());
    let mut words = first.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.chars().count() > TITLE_CHARS {
        words = words.chars().take(TITLE_CHARS - 1).collect::<String>() + "…";
    }
    if words.is_empty() { "New conversation".to_owned() } else { words }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_the_first_user_message_on_one_line_and_bounded() {
        let say = |text: &str| {
            vec![ChatMessage::text(Role::System, "be kind"), ChatMessage::text(Role::User, text)]
        };
        assert_eq!(title_from(&say("why is\n the sky  blue?")), "why is the sky blue?");
        assert_eq!(title_from(&say(&"é".repeat(500))).chars().count(), TITLE_CHARS);
        assert_eq!(title_from(&[]), "New conversation");
    }
}
