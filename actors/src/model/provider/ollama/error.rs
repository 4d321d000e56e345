//! What an error answer of Ollama means to us.

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use crate::model::provider::{
    UpstreamError,
    transport::{sanitise, text_of},
};

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

/// The same for `/api/embed`, where nearly everything is a 400: what a caller can mend is theirs, and the rest is nobody's to hear
/// and no reason to give the server up, for some texts bring it about every time.
pub(super) fn from_embed_status(status: StatusCode, body: &[u8]) -> UpstreamError {
    match from_status(status, body) {
        UpstreamError::Rejected(text) if !is_for_the_caller(&text) => {
            UpstreamError::Declined(format!("status 400: {text}"))
        }
        // Its runner cannot turn this model's output into vectors, whoever asks.
        UpstreamError::Failed(_) if status == StatusCode::NOT_IMPLEMENTED => {
            UpstreamError::Rejected("the model does not support embeddings".to_owned())
        }
        error => error,
    }
}

/// Whether a refusal to embed speaks of the request.
fn is_for_the_caller(text: &str) -> bool {
    ["context length", "context size", "too large", "input type", "dimensions", "does not support"]
        .iter()
        .any(|words| text.contains(words))
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
    fn a_refusal_to_embed_is_told_to_the_caller_only_if_they_can_mend_it() {
        let read = |status, text: &str| {
            let body = serde_json::json!({ "error": text }).to_string();
            from_embed_status(StatusCode::from_u16(status).unwrap(), body.as_bytes())
        };
        for text in [
            "the input length exceeds the context length",
            "input after truncation exceeds maximum context length",
            "invalid input type",
            "\"m\" does not support embeddings",
        ] {
            assert_eq!(read(400, text), UpstreamError::Rejected(text.to_owned()));
        }
        for (text, told) in [
            (
                "do embedding request: Post \"http://127.0.0.1:1/v1\": EOF",
                "do embedding request: Post […] EOF",
            ),
            ("embedding contains NaN or Inf values", "embedding contains NaN or Inf values"),
        ] {
            assert_eq!(read(400, text), UpstreamError::Declined(format!("status 400: {told}")));
        }
        let unable = "the model does not support embeddings".to_owned();
        assert_eq!(read(501, "This server does not support embeddings."), UpstreamError::Rejected(unable));
        assert_eq!(read(500, "oom"), UpstreamError::Failed("status 500: oom".to_owned()));
        assert_eq!(read(503, "busy"), UpstreamError::Busy);
        for text in ["model 'm' not found", "model \"m\" not found, try pulling it first"] {
            assert_eq!(read(404, text), UpstreamError::NoSuchModel);
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
}
