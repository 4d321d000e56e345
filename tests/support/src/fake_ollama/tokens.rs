//! What the fake model says: token `i` is a function of prompt, seed and `i`, so that a test can know the answer.

use std::sync::LazyLock;

use super::json;

/// Every token it knows; some need escapes, some several bytes.
const VOCABULARY: [&str; 32] = [
    " the", " of", " a", " to", " model", " answer", " queue", " slot", " token", " stream", " é", " 😀",
    " <b>", " &", "\n", " \"so\"", " ✓", ",", ".", " and", " is", " in", " it", " every", " one", " waits",
    " turn", " fair", " 东京", " \\", "\t", " end",
];

static ESCAPED: LazyLock<Vec<String>> = LazyLock::new(|| VOCABULARY.iter().map(json::to_go).collect());

/// The answer to one prompt, token by token.
#[derive(Debug, Clone, Copy)]
pub struct Tokens {
    base: u64,
}

impl Tokens {
    /// The answer to `prompt` (the last message's content, or `/api/generate`'s prompt) under `options.seed`, which
    /// is -1 when the request has none.
    #[must_use]
    pub fn new(prompt: &str, seed: i64) -> Self {
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let base = prompt.bytes().chain(seed.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, hash);
        Self { base }
    }

    /// The token at `index`, counted from 0.
    #[must_use]
    pub fn token(self, index: u64) -> &'static str {
        VOCABULARY[self.choice(index)]
    }

    /// The first `count` tokens as one text.
    #[must_use]
    pub fn text(self, count: u64) -> String {
        (0..count).map(|index| self.token(index)).collect()
    }

    /// The token at `index` as a JSON string with its quotes.
    pub(crate) fn escaped(self, index: u64) -> &'static str {
        &ESCAPED[self.choice(index)]
    }

    fn choice(self, index: u64) -> usize {
        // splitmix64: neighbours must not look alike.
        let mut z = self.base.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % VOCABULARY.len() as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_depends_on_prompt_and_seed_only() {
        assert_eq!(Tokens::new("hi", -1).text(20), Tokens::new("hi", -1).text(20));
        assert_ne!(Tokens::new("hi", -1).text(20), Tokens::new("ho", -1).text(20));
        assert_ne!(Tokens::new("hi", -1).text(20), Tokens::new("hi", 7).text(20));
    }
}
