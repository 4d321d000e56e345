//! How likely each token was, in the shapes of chats (and responses) and of completions.

use domain::reply::TokenLogprob;
use serde::Serialize;
use serde_json::Map;
use utoipa::ToSchema;

/// Of a chat's answer.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChatLogprobs<'a> {
    content: Vec<ChatLogprob<'a>>,
    /// Always `null`: refusals are not told apart.
    refusal: Option<&'static str>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ChatLogprob<'a> {
    #[serde(flatten)]
    chosen: Likely<'a>,
    /// As many as were asked for.
    top_logprobs: Vec<Likely<'a>>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Likely<'a> {
    token: &'a str,
    logprob: f64,
    /// Its UTF-8: a token may be a part of a character.
    #[schema(value_type = Option<Vec<i32>>)]
    bytes: Option<&'a [u8]>,
}

impl<'a> From<&'a TokenLogprob> for Likely<'a> {
    fn from(token: &'a TokenLogprob) -> Self {
        Self { token: &token.token, logprob: token.logprob, bytes: token.bytes.as_deref() }
    }
}

impl<'a> From<&'a TokenLogprob> for ChatLogprob<'a> {
    fn from(token: &'a TokenLogprob) -> Self {
        Self { chosen: token.into(), top_logprobs: token.top_logprobs.iter().map(Likely::from).collect() }
    }
}

impl<'a> ChatLogprobs<'a> {
    pub(super) fn of(tokens: &'a [TokenLogprob]) -> Self {
        Self { content: tokens.iter().map(ChatLogprob::from).collect(), refusal: None }
    }
}

/// Of a completion: one entry in each list for each token.
#[derive(Serialize, ToSchema, Default)]
pub(crate) struct TextLogprobs<'a> {
    tokens: Vec<&'a str>,
    token_logprobs: Vec<f64>,
    /// The likeliest tokens in its place and their probabilities.
    #[schema(value_type = Vec<Object>)]
    top_logprobs: Vec<Map<String, serde_json::Value>>,
    /// How many characters of the text come before it.
    text_offset: Vec<usize>,
}

impl<'a> TextLogprobs<'a> {
    /// `offset` is how many characters came before; it is moved past these tokens.
    pub(super) fn of(tokens: &'a [TokenLogprob], offset: &mut usize) -> Self {
        let mut told = Self::default();
        for token in tokens {
            told.tokens.push(&token.token);
            told.token_logprobs.push(token.logprob);
            let others = token.top_logprobs.iter();
            told.top_logprobs.push(others.map(|other| (other.token.clone(), other.logprob.into())).collect());
            told.text_offset.push(*offset);
            *offset += token.token.chars().count();
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(text: &str, logprob: f64, top_logprobs: Vec<TokenLogprob>) -> TokenLogprob {
        TokenLogprob { token: text.to_owned(), logprob, bytes: Some(text.as_bytes().to_vec()), top_logprobs }
    }

    fn tokens() -> Vec<TokenLogprob> {
        let plain = TokenLogprob { bytes: None, ..token("no", -2.0, Vec::new()) };
        vec![token("é", -0.5, vec![token("é", -0.5, Vec::new()), plain.clone()]), plain]
    }

    #[test]
    fn a_chats_are_a_list_of_tokens_with_their_rivals() {
        assert_eq!(
            json!(ChatLogprobs::of(&tokens())),
            json!({"content": [
                {"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": [
                    {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
                    {"token": "no", "logprob": -2.0, "bytes": null},
                ]},
                {"token": "no", "logprob": -2.0, "bytes": null, "top_logprobs": []},
            ], "refusal": null})
        );
    }

    #[test]
    fn a_completions_are_lists_side_by_side_that_go_on_where_they_were() {
        let (tokens, mut offset) = (tokens(), 3);
        assert_eq!(
            json!(TextLogprobs::of(&tokens, &mut offset)),
            json!({
                "tokens": ["é", "no"],
                "token_logprobs": [-0.5, -2.0],
                "top_logprobs": [{"é": -0.5, "no": -2.0}, {}],
                "text_offset": [3, 4],
            })
        );
        assert_eq!(offset, 6);
    }
}
