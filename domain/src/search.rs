//! Search: what is asked for, what a text is found by, and how much of it is shown.
//!
//! A message is found by the words of its text and by a mark of its owner, so that a search costs what its owner has and
//! not what everybody has. The mark begins with a character that no word has: nobody can write one.

use crate::{
    conversation::Conversation,
    id::{MessageId, UserId},
    words::{placed_words, words},
};

/// The most different words that one search may ask for.
pub const QUERY_WORDS: usize = 8;

/// The fewest characters of all its words together (G8).
pub const QUERY_CHARS: usize = 2;

/// How much of one text is looked at, in bytes; it is not found by what comes after.
pub const TEXT_BYTES: usize = 256 * 1024;

/// The most different words that one text is found by.
pub const TEXT_WORDS: usize = 2_000;

/// The most characters of a text that are shown of where it was found.
pub const SNIPPET_CHARS: usize = 160;

/// Of these, how many stand before what was asked for, where the text goes on long enough.
const LEAD_CHARS: usize = 40;

/// What is looked for: all of these words, each different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query(Vec<String>);

/// Why something cannot be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsearchable {
    /// Fewer than [`QUERY_CHARS`] letters and digits.
    TooLittle,
    /// More than [`QUERY_WORDS`] words.
    TooMuch,
}

/// A conversation that was found, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub conversation: Conversation,
    /// The newest message that has all the words; `None` where only the title has them.
    pub hit: Option<Hit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    pub message: MessageId,
    /// What stands around the first of the words; at most [`SNIPPET_CHARS`] characters.
    pub snippet: String,
}

impl Query {
    /// Everything in `text` that is no letter and no digit only separates words.
    ///
    /// # Errors
    ///
    /// [`Unsearchable`]
    pub fn parse(text: &str) -> Result<Self, Unsearchable> {
        let words = distinct(words(text), QUERY_WORDS + 1);
        if words.len() > QUERY_WORDS {
            return Err(Unsearchable::TooMuch);
        }
        if words.iter().map(|word| word.chars().count()).sum::<usize>() < QUERY_CHARS {
            return Err(Unsearchable::TooLittle);
        }
        Ok(Self(words))
    }

    pub fn words(&self) -> &[String] {
        &self.0
    }

    /// What stands in `text` around the first of the words that it has: its beginning where it has none.
    pub fn snippet(&self, text: &str) -> String {
        let text = looked_at(text);
        let hit = placed_words(text).find(|(_, word)| self.0.contains(word)).map_or(0, |(at, _)| at);
        let after = text[hit..].chars().take(SNIPPET_CHARS).count();
        let before = LEAD_CHARS.max(SNIPPET_CHARS - after);
        let start = text[..hit].char_indices().rev().take(before).last().map_or(hit, |(at, _)| at);
        text[start..].chars().take(SNIPPET_CHARS).collect()
    }
}

/// What a message of this text and owner is found by: the owner's mark, then at most [`TEXT_WORDS`] different words.
pub fn marks(owner: UserId, text: &str) -> Vec<String> {
    let mut marks = distinct(words(looked_at(text)), TEXT_WORDS);
    marks.insert(0, owner_mark(owner));
    marks
}

/// What all messages of one account are found by, and nobody else's: no word has a `§`.
pub fn owner_mark(owner: UserId) -> String {
    format!("§{}", owner.as_uuid().simple())
}

/// The beginning of a text that its words are taken from.
fn looked_at(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES)]
}

/// The first `most` different words, in their order.
fn distinct(words: impl Iterator<Item = String>, most: usize) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    words.filter(|word| seen.insert(word.clone())).take(most).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(text).unwrap()
    }

    #[test]
    fn g8_operators_and_wildcards_are_only_what_separates_words() {
        assert_eq!(query("Blue-SKY blue").words(), ["blue", "sky"]);
        assert_eq!(
            query(r#"sky* OR "near" ^a:b%_\' -NOT+x"#).words(),
            ["sky", "or", "near", "a", "b", "not", "x"]
        );
        for text in ["", "%", "***", "a", "\"\"", "_%_", "'", "é"] {
            assert_eq!(Query::parse(text), Err(Unsearchable::TooLittle), "{text}");
        }
        assert_eq!(query("天空").words(), ["天", "空"]);
    }

    #[test]
    fn g8_no_search_asks_for_more_than_its_words() {
        let words: Vec<_> = (0..=QUERY_WORDS).map(|n| format!("w{n}")).collect();
        assert!(Query::parse(&words[1..].join(" ")).is_ok());
        assert_eq!(Query::parse(&words.join(" ")), Err(Unsearchable::TooMuch));
        assert!(Query::parse(&"again ".repeat(1_000)).is_ok(), "one word");
    }

    #[test]
    fn nobody_can_write_an_owners_mark() {
        let owner = UserId::from(Uuid::from_u128(7));
        let mark = owner_mark(owner);
        let marks = marks(Uuid::from_u128(8).into(), &format!("{mark} {owner}"));
        assert_eq!(marks.iter().filter(|word| **word == mark).count(), 0);
        assert_ne!(marks[0], mark);
    }

    #[test]
    fn a_long_text_is_found_by_its_beginning() {
        let many: String = (0..3_000).map(|n| format!("w{n} ")).collect();
        assert_eq!(marks(Uuid::nil().into(), &many).len(), 1 + TEXT_WORDS);
        let late = "é".repeat(TEXT_BYTES / 2 - 1) + "  late";
        assert_eq!(marks(Uuid::nil().into(), &late).len(), 2);
    }

    #[test]
    fn a_snippet_shows_the_first_hit_and_what_is_around_it() {
        assert_eq!(query("SKY").snippet("Why is the sky blue?"), "Why is the sky blue?");
        let text = format!("{} sky {}", "é".repeat(500), "😀".repeat(500));
        let snippet = query("sky").snippet(&text);
        assert_eq!(snippet.chars().count(), SNIPPET_CHARS);
        assert!(
            snippet.starts_with('é') && snippet.contains(" sky ") && snippet.ends_with('😀'),
            "{snippet}"
        );
        let end = query("sky").snippet(&format!("{} sky", "é".repeat(500)));
        assert!(end.ends_with(" sky") && end.chars().count() == SNIPPET_CHARS, "{end}");
    }

    proptest! {
        #[test]
        fn a_snippet_is_a_part_of_its_text_and_no_longer_than_it_may_be(text in "\\PC{0,400}", word in "[a-z]{2,4}") {
            let snippet = query(&word).snippet(&text);
            prop_assert!(text.contains(&snippet));
            prop_assert!(snippet.chars().count() <= SNIPPET_CHARS);
            prop_assert_eq!(snippet.is_empty(), text.is_empty());
        }
    }
}
