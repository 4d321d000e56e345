//! Conversations and the messages in them, as their owner reads them.
//!
//! The messages of a conversation are a tree: each names what it follows, and answers to one message stand beside each other.
//! What a model is shown is a branch of it, the way from one message up to its beginning.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    chat::{ChatMessage, Role},
    id::{ConversationId, MessageId, TurnId},
    turn::TurnStatus,
    words::words,
};

/// The longest title a caller may give, in characters.
pub const TITLE_CHARS_MAX: usize = 200;

/// The longest system prompt a conversation may have.
pub const SYSTEM_PROMPT_BYTES: usize = 32 << 10;

/// As many conversations of one account can be made without saying anything in them. Whoever has more makes them by talking.
pub const CONVERSATIONS_PER_USER: u32 = 10_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    pub id: ConversationId,
    pub title: String,
    /// Put before every prompt in it; `None` also in lists, where nobody reads it.
    pub system_prompt: Option<String>,
    pub created_at: DateTime<Utc>,
    /// When something was last said in it, or its title or system prompt changed.
    pub updated_at: DateTime<Utc>,
}

impl Conversation {
    /// Its place in a list by last activity.
    pub const fn activity(&self) -> Activity {
        Activity { at: self.updated_at, id: self.id }
    }
}

/// A place in a list of conversations by last activity: what has the same instant is in the order of its id.
///
/// Its text is a cursor, which says nothing to whoever keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Activity {
    pub at: DateTime<Utc>,
    pub id: ConversationId,
}

impl Activity {
    /// How long its text is: instant and id in hexadecimal digits.
    const INSTANT_DIGITS: usize = 16;
    const ID_DIGITS: usize = 32;

    /// After everything.
    pub fn latest() -> Self {
        Self { at: DateTime::<Utc>::MAX_UTC, id: Uuid::max().into() }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{}", self.at.timestamp_micros().max(0), self.id.as_uuid().simple())
    }
}

/// The text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a cursor")]
pub struct NoCursor;

impl FromStr for Activity {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let (instant, id) = text.split_at_checked(Self::INSTANT_DIGITS).ok_or(NoCursor)?;
        if id.len() != Self::ID_DIGITS || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoCursor);
        }
        let micros = i64::from_str_radix(instant, 16).map_err(|_| NoCursor)?;
        let at = DateTime::from_timestamp_micros(micros).ok_or(NoCursor)?;
        let id = Uuid::try_parse(id).map_err(|_| NoCursor)?;
        Ok(Self { at, id: id.into() })
    }
}

/// What changes about a conversation; `None` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConversationChange {
    pub title: Option<String>,
    /// `Some(None)` removes it.
    pub system_prompt: Option<Option<String>>,
}

impl ConversationChange {
    /// The conversation as it is after the change at `now`; what is so already is no activity.
    pub fn of(&self, before: &Conversation, now: DateTime<Utc>) -> Conversation {
        let mut after = before.clone();
        if let Some(title) = &self.title {
            after.title.clone_from(title);
        }
        if let Some(system_prompt) = &self.system_prompt {
            after.system_prompt.clone_from(system_prompt);
        }
        if after != *before {
            after.updated_at = before.updated_at.max(now);
        }
        after
    }
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
    pub parent: Option<Uuid>,
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

/// What a model is shown of a conversation.
#[derive(Debug, Clone)]
pub struct Branch {
    pub conversation: Conversation,
    /// From the oldest to the one that was asked for.
    pub messages: Vec<StoredMessage>,
}

/// One page of a list, and where the next one starts.
#[derive(Debug, Clone)]
pub struct Page<T, Cursor = Uuid> {
    pub items: Vec<T>,
    /// Pass it back to read on; `None` at the end.
    pub next: Option<Cursor>,
}

/// Most items one page holds.
pub const PAGE_LIMIT_MAX: u32 = 100;
pub const PAGE_LIMIT_DEFAULT: u32 = 20;

/// The longest title we derive from a first message, in characters.
const TITLE_CHARS: usize = 80;

/// What a conversation is called of which nothing else is known.
pub const UNTITLED: &str = "New conversation";

/// A title as a caller gives it, without the blanks around it.
///
/// # Errors
///
/// What to do about it.
pub fn title(text: &str) -> Result<String, &'static str> {
    let title = text.trim();
    // Some readers begin a new line there, too.
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if title.is_empty() {
        Err("a title has at least one character")
    } else if title.chars().count() > TITLE_CHARS_MAX {
        Err("a title may have at most 200 characters")
    } else if title.contains(breaks) {
        Err("a title is one line without control characters")
    } else {
        Ok(title.to_owned())
    }
}

/// A system prompt as a caller gives it; a blank one is none.
///
/// # Errors
///
/// What to do about it.
pub fn system_prompt(text: String) -> Result<Option<String>, &'static str> {
    let shows = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    if text.len() > SYSTEM_PROMPT_BYTES {
        Err("a system prompt may have at most 32 KiB")
    } else if !text.chars().all(shows) {
        Err("a system prompt has no control characters but line ends and tabs")
    } else {
        Ok((!text.trim().is_empty()).then_some(text))
    }
}

/// A title as it is searched: its words, a blank before and after each.
pub fn title_words(title: &str) -> String {
    words(title).fold(" ".to_owned(), |line, word| line + &word + " ")
}

/// Names a conversation after the first thing its user said.
pub fn title_from(messages: &[ChatMessage]) -> String {
    let first = messages.iter().find(|m| m.role == Role::User).map_or("", |m| m.content.as_str());
    let mut words = first.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.chars().count() > TITLE_CHARS {
        words = words.chars().take(TITLE_CHARS - 1).collect::<String>() + "…";
    }
    if words.is_empty() { UNTITLED.to_owned() } else { words }
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

    #[test]
    fn a_given_title_is_one_line_and_bounded() {
        assert_eq!(title("  Skies, blue and grey "), Ok("Skies, blue and grey".to_owned()));
        assert_eq!(title(&"é".repeat(TITLE_CHARS_MAX)).unwrap().chars().count(), TITLE_CHARS_MAX);
        for wrong in
            ["", " \n ", "two\nlines", "a\0b", "a\u{1b}[2J", "a\u{2028}b", &"x".repeat(TITLE_CHARS_MAX + 1)]
        {
            assert!(title(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(title_words("Skies, blue & GREY!"), " skies blue grey ");
        assert_eq!(title_words("?!"), " ");
    }

    #[test]
    fn a_system_prompt_is_bounded_and_a_blank_one_is_none() {
        let given = |text: &str| system_prompt(text.to_owned());
        assert_eq!(given("Be kind.\r\n\tAlways."), Ok(Some("Be kind.\r\n\tAlways.".to_owned())));
        assert_eq!(given(" \n"), Ok(None));
        assert!(given(&"x".repeat(SYSTEM_PROMPT_BYTES)).is_ok());
        assert!(given(&"x".repeat(SYSTEM_PROMPT_BYTES + 1)).is_err());
        assert!(given("a\0b").is_err() && given("a\u{9b}b").is_err());
    }

    #[test]
    fn a_cursor_is_read_back_and_nothing_else_is_one() {
        let place = Activity {
            at: DateTime::from_timestamp_micros(1_753_000_000_123_456).unwrap(),
            id: Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001).into(),
        };
        let text = place.to_string();
        assert_eq!(text.parse(), Ok(place));
        assert_eq!(
            Activity::latest().to_string().parse::<Activity>().map(|last| last.id),
            Ok(Uuid::max().into())
        );
        let forged = format!("{}{}", "f".repeat(16), "0".repeat(32));
        let wrong = [
            "",
            "x",
            &text[1..],
            &format!("{text}0"),
            &text.replace('0', "+"),
            &text.replace('0', "é"),
            &forged,
        ];
        for wrong in wrong {
            assert_eq!(wrong.parse::<Activity>(), Err(NoCursor), "{wrong}");
        }
    }

    #[test]
    fn a_change_is_activity_only_if_it_changes_something() {
        let noon = DateTime::from_timestamp_micros(1_753_000_000_000_000).unwrap();
        let later = noon + chrono::TimeDelta::hours(1);
        let before = Conversation {
            id: Uuid::nil().into(),
            title: "skies".into(),
            system_prompt: Some("be kind".into()),
            created_at: noon,
            updated_at: noon,
        };
        let same =
            ConversationChange { title: Some("skies".into()), system_prompt: Some(Some("be kind".into())) };
        assert_eq!(same.of(&before, later), before);
        let removed = ConversationChange { system_prompt: Some(None), ..ConversationChange::default() };
        let after = removed.of(&before, later);
        assert_eq!(after, Conversation { system_prompt: None, updated_at: later, ..before.clone() });
        let earlier = ConversationChange { title: Some("seas".into()), ..ConversationChange::default() };
        assert_eq!(earlier.of(&after, noon).updated_at, later, "time does not go back");
    }
}
