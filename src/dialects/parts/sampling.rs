//! How an answer is to be drawn, and how much of it.

use std::ops::RangeInclusive;

use domain::chat::{Think, limits};
use serde_json::Value;

use crate::http::ApiError;

/// A bound on an answer's tokens. A negative number means "until it stops" to Ollama; here even that has an end.
pub(crate) fn answer_tokens(given: i64) -> u32 {
    u32::try_from(given).map_or(limits::NUM_PREDICT, |count| count.min(limits::NUM_PREDICT))
}

/// One text or several at which an answer stops; `None` for what is neither. An empty one would stop it before it begins.
pub(crate) fn stop_list(given: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut texts = match given {
        Value::Array(items) => items.iter().map(text).collect::<Option<Vec<_>>>()?,
        one => vec![text(one)?],
    };
    texts.retain(|text| !text.is_empty());
    Some(texts)
}

/// # Errors
///
/// 400 naming `param` when `given` lies outside of `range`.
pub(crate) fn within(
    given: Option<f64>,
    range: RangeInclusive<f64>,
    param: &'static str,
) -> Result<Option<f64>, ApiError> {
    match given {
        Some(number) if !range.contains(&number) => {
            let (least, most) = range.into_inner();
            Err(ApiError::invalid(format!("this must be a number from {least} to {most}")).at(param))
        }
        given => Ok(given),
    }
}

/// How many other tokens are told in the place of each.
///
/// # Errors
///
/// 400 naming `param` when there are too many.
pub(crate) fn others_told(given: i64, param: &'static str) -> Result<u8, ApiError> {
    u8::try_from(given).ok().filter(|count| *count <= limits::TOP_LOGPROBS).ok_or_else(|| {
        let most = limits::TOP_LOGPROBS;
        ApiError::invalid(format!("this must be an integer from 0 to {most}")).at(param)
    })
}

/// How hard to think, in OpenAI's words.
///
/// # Errors
///
/// 400 naming `param` when it is none of them.
pub(crate) fn effort(word: &str, param: &'static str) -> Result<Think, ApiError> {
    Ok(match word {
        "none" => Think::Off,
        "minimal" | "low" => Think::Low,
        "medium" => Think::Medium,
        "high" => Think::High,
        "xhigh" | "ultra" | "max" => Think::Max,
        _ => {
            let words = "this is \"none\", \"minimal\", \"low\", \"medium\", \"high\" or \"xhigh\"";
            return Err(ApiError::invalid(words).at(param));
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_always_has_an_end() {
        for (given, tokens) in [(0, 0), (7, 7), (-1, limits::NUM_PREDICT), (i64::MAX, limits::NUM_PREDICT)] {
            assert_eq!(answer_tokens(given), tokens, "{given}");
        }
    }

    #[test]
    fn stops_are_one_text_or_several_that_say_something() {
        assert_eq!(stop_list(&json!("x")), Some(vec!["x".to_owned()]));
        assert_eq!(stop_list(&json!(["x", "", "y"])), Some(vec!["x".to_owned(), "y".to_owned()]));
        for neither in [json!(1), json!(["x", 1]), json!({}), json!([["x"]])] {
            assert_eq!(stop_list(&neither), None, "{neither}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        assert_eq!(within(Some(2.0), 0.0..=2.0, "temperature").unwrap(), Some(2.0));
        assert_eq!(within(None, 0.0..=2.0, "temperature").unwrap(), None);
        let refused = within(Some(2.1), 0.0..=2.0, "temperature").unwrap_err();
        assert_eq!(refused.object("r").param, Some("temperature"));
        for wrong in [-1, 21, 300] {
            assert_eq!(others_told(wrong, "top_logprobs").unwrap_err().status(), 400, "{wrong}");
        }
    }
}
