//! Words, as texts are searched by them: what is stored and what is asked for are cut by this one function.

use std::iter;

/// The most characters of one word; what is longer is known by its beginning.
pub const WORD_CHARS: usize = 64;

/// The most words of one text, repetitions included; it is not found by what comes after.
pub const WORDS: usize = 10_000;

/// The words of a text in their order, in lower case: runs of letters and digits, and nothing else in them.
///
/// Scripts that put no space between words (Han, Hiragana, Katakana) give each character as a word of its own, or a whole
/// sentence would be one that nobody asks for. At most [`WORDS`] of at most [`WORD_CHARS`] characters; no more memory than
/// one word at a time.
pub fn words(text: &str) -> impl Iterator<Item = String> {
    placed_words(text).map(|(_, word)| word)
}

/// As [`words`], each with the byte of the text at which it begins.
pub fn placed_words(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut rest = text;
    iter::from_fn(move || {
        let (_, begun) = rest.split_at(rest.find(char::is_alphanumeric)?);
        let ends = |(at, c): &(usize, char)| *at > 0 && (!c.is_alphanumeric() || stands_alone(*c));
        let end = match begun.chars().next() {
            Some(first) if stands_alone(first) => first.len_utf8(),
            _ => begun.char_indices().find(ends).map_or(begun.len(), |(at, _)| at),
        };
        let (word, after) = begun.split_at(end);
        rest = after;
        // Of the characters that lower case puts in, a few are marks.
        let lower = word.chars().take(WORD_CHARS).collect::<String>().to_lowercase();
        let word = lower.chars().filter(|c| c.is_alphanumeric()).collect();
        Some((text.len() - begun.len(), word))
    })
    .take(WORDS)
}

const fn stands_alone(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3fffd}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str) -> Vec<String> {
        words(text).collect()
    }

    #[test]
    fn words_are_letters_and_digits_in_lower_case() {
        assert_eq!(cut("Why is the sky_blue, in 2026?!"), ["why", "is", "the", "sky", "blue", "in", "2026"]);
        assert_eq!(cut("ÜBER Straße ΟΔΟΣ İstanbul"), ["über", "straße", "οδος", "istanbul"]);
        assert_eq!(cut(" \n%_'\"\0 "), [""; 0]);
        assert_eq!(cut(""), [""; 0]);
    }

    #[test]
    fn what_is_written_without_spaces_is_found_by_the_character() {
        assert_eq!(cut("HTTP天空blue。"), ["http", "天", "空", "blue"]);
    }

    #[test]
    fn a_long_word_is_its_beginning_and_a_long_text_its_first_words() {
        assert_eq!(cut(&"ä".repeat(WORD_CHARS + 1)), ["ä".repeat(WORD_CHARS)]);
        assert_eq!(cut(&"a ".repeat(WORDS + 1)).len(), WORDS);
    }

    proptest! {
        #[test]
        fn words_of_words_are_the_same_words(text in "\\PC{0,80}") {
            let once = cut(&text);
            prop_assert!(once.iter().all(|word| !word.is_empty() && word.chars().all(char::is_alphanumeric)));
            prop_assert_eq!(cut(&once.join(" ")), once);
        }
    }
}
