//! What an error answer of Ollama means to us, and which of its words may travel.
//!
//! Ollama's texts are written for its own operator: they hold paths, ports of its runners and sometimes a second JSON
//! document. What leaves here is one short line without any of these.

use std::net::SocketAddr;

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use crate::model::provider::UpstreamError;

/// The most characters of a server's words that we keep.
const TEXT_CHARS_MAX: usize = 300;

#[derive(Deserialize)]
struct ErrorBody {
    error: Value,
}

/// Reads the meaning of an answer whose status is not 200.
pub(super) fn from_status(status: StatusCode, body: &[u8]) -> UpstreamError {
    let text = serde_json::from_slice::<ErrorBody>(body).ok().and_then(|body| text_of(&body.error));
    match (status, text) {
        (StatusCode::SERVICE_UNAVAILABLE, _) => UpstreamError::Busy,
        // A 404 without Ollama's body is a wrong base URL, not a missing model.
        (StatusCode::NOT_FOUND, Some(_)) => UpstreamError::NoSuchModel,
        (StatusCode::BAD_REQUEST, Some(text)) => UpstreamError::Rejected(sanitise(&text)),
        (_, text) => {
            let text = match text {
                Some(text) => format!("status {}: {}", status.as_u16(), sanitise(&text)),
                None => format!("status {} without an error text in JSON", status.as_u16()),
            };
            if status.is_server_error() { UpstreamError::Failed(text) } else { UpstreamError::Declined(text) }
        }
    }
}

/// The words of an `error` value: a string, a string that is itself an error document (unwrapped once), or an object with a
/// `message`. Anything else is no error.
pub(super) fn text_of(error: &Value) -> Option<String> {
    let Value::String(text) = error else { return message_of(error) };
    let nested = serde_json::from_str::<ErrorBody>(text).ok().and_then(|nested| match nested.error {
        Value::String(text) => Some(text),
        other => message_of(&other),
    });
    Some(nested.unwrap_or_else(|| text.clone()))
}

fn message_of(error: &Value) -> Option<String> {
    error.get("message").and_then(Value::as_str).map(str::to_owned)
}

/// Makes one short line of a server's words, without paths, addresses and control characters.
pub(super) fn sanitise(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(if is_inner_detail(word) { "[…]" } else { word });
    }
    if let Some((cut, _)) = line.char_indices().nth(TEXT_CHARS_MAX) {
        line.truncate(cut);
        line.push('…');
    }
    line
}

fn is_inner_detail(word: &str) -> bool {
    let bare = word.trim_matches(|c: char| {
        matches!(c, '"' | '\'' | '`' | '(' | ')' | '[' | ']' | ',' | ';' | ':' | '.')
    });
    let is_windows_path = bare.as_bytes().get(1..3) == Some(b":\\");
    word.contains("://")
        || bare.contains("=/")
        || bare.contains("/.ollama")
        || (bare.len() > 1 && bare.starts_with(['/', '~', '\\']))
        || is_windows_path
        || bare.parse::<SocketAddr>().is_ok()
        || bare.rsplit("->").any(|part| part.parse::<SocketAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> UpstreamError {
        from_status(StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    #[test]
    fn each_status_has_its_meaning() {
        let error = r#"{"error":"words"}"#;
        assert_eq!(read(503, error), UpstreamError::Busy);
        assert_eq!(read(503, "<html>"), UpstreamError::Busy);
        assert_eq!(read(404, error), UpstreamError::NoSuchModel);
        assert_eq!(read(400, error), UpstreamError::Rejected("words".to_owned()));
        for status in [301, 401, 402, 403, 405, 429, 499] {
            assert_eq!(read(status, error), UpstreamError::Declined(format!("status {status}: words")));
        }
        for status in [500, 502, 504] {
            assert_eq!(read(status, error), UpstreamError::Failed(format!("status {status}: words")));
        }
    }

    #[test]
    fn an_answer_that_is_not_ollamas_has_no_words_to_tell() {
        let text = |status| format!("status {status} without an error text in JSON");
        for (status, body) in [(404, "404 page not found"), (400, "<html>bad</html>"), (403, "")] {
            assert_eq!(read(status, body), UpstreamError::Declined(text(status)));
        }
        assert_eq!(read(500, ""), UpstreamError::Failed(text(500)));
    }

    #[test]
    fn a_json_document_inside_the_error_text_is_unwrapped_once() {
        let body = r#"{"error":"{\"error\":{\"code\":400,\"message\":\"too long\",\"type\":\"exceed_context_size_error\"}}"}"#;
        assert_eq!(read(400, body), UpstreamError::Rejected("too long".to_owned()));
        let twice = r#"{"error":"{\"error\":\"{\\\"error\\\":\\\"x\\\"}\"}"}"#;
        assert_eq!(read(400, twice), UpstreamError::Rejected(r#"{"error":"x"}"#.to_owned()));
    }

    #[test]
    fn paths_addresses_and_control_characters_do_not_travel() {
        assert_eq!(
            sanitise(
                "open /usr/share/ollama/.ollama/models/blobs/sha256-1: no\tsuch\nfile \u{7} at 'C:\\models\\x' via http://10.0.0.1:80/x"
            ),
            "open […] no such file at […] via […]"
        );
        assert_eq!(sanitise("dial tcp 127.0.0.1:39001: refused"), "dial tcp […] refused");
        let kept = "registry.ollama.ai/library/m:latest does not support tools";
        assert_eq!(sanitise(kept), kept);
        assert_eq!(sanitise(&"é".repeat(1_000)).chars().count(), TEXT_CHARS_MAX + 1);
    }
}
