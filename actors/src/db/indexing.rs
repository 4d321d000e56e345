//! What is searched, on its way into the index: texts from the store, and their words back to it.
//!
//! A text may change meanwhile, when the end of a turn arrives late. So words go back with what their text was known by,
//! and are written only where it still is so.

use domain::{
    conversation::title_words,
    id::{ConversationId, MessageId, UserId},
    search,
    turn::TurnStatus,
};

/// Messages whose words are taken at once: few, since what waits in the same lane waits for them.
pub(super) const MESSAGES_AT_ONCE: u32 = 50;

/// Text of them, but for one message more, in bytes of which the store counts no more than [`search::TEXT_BYTES`] a message.
pub(super) const BYTES_AT_ONCE: u32 = 256 * 1024;

/// Titles whose words are taken at once.
pub(super) const TITLES_AT_ONCE: u32 = 500;

/// A message whose words nobody has taken yet.
#[derive(Debug)]
pub(super) struct Wordless {
    pub(super) message: MessageId,
    pub(super) owner: UserId,
    /// As much of it as is looked at.
    pub(super) text: String,
    pub(super) status: TurnStatus,
    /// Of the whole text.
    pub(super) bytes: i64,
}

/// The words of a message that had this status and this many bytes.
#[derive(Debug)]
pub(super) struct Worded {
    pub(super) message: MessageId,
    pub(super) status: TurnStatus,
    pub(super) bytes: i64,
    pub(super) marks: Vec<String>,
}

/// A title whose words nobody has taken yet.
#[derive(Debug)]
pub(super) struct WordlessTitle {
    pub(super) conversation: ConversationId,
    pub(super) title: String,
}

/// The words of a title.
#[derive(Debug)]
pub(super) struct WordedTitle {
    pub(super) conversation: ConversationId,
    pub(super) title: String,
    pub(super) words: String,
}

impl From<Wordless> for Worded {
    fn from(wordless: Wordless) -> Self {
        let Wordless { message, owner, text, status, bytes } = wordless;
        Self { message, status, bytes, marks: search::marks(owner, &text) }
    }
}

impl From<WordlessTitle> for WordedTitle {
    fn from(WordlessTitle { conversation, title }: WordlessTitle) -> Self {
        Self { conversation, words: title_words(&title), title }
    }
}
