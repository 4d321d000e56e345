//! What an error of an OpenAI-compatible server means to us.
//!
//! There is one shape in the dialect's book and there are several in the wild: `{"error":{…}}`, `{"error":"…"}`, the error itself
//! at the top (older vLLM), and FastAPI's `{"detail":…}`. A refused key is the operator's affair, so the caller hears nothing of
//! it; the server's words about it are not repeated, for they tend to quote the key.

use domain::secret::Secret;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use crate::model::provider::{
    UpstreamError,
    transport::{sanitise, text_of},
};

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    message: Option<Value>,
    #[serde(default)]
    code: Option<Value>,
}

/// Reads the server's errors; knows the key that must not be in what is read.
#[derive(Debug, Clone, Default)]
pub(super) struct Meaning {
    key: Option<Secret<String>>,
}

impl Meaning {
    pub(super) const fn new(key: Option<Secret<String>>) -> Self {
        Self { key }
    }

    /// The meaning of an answer whose status is not 200.
    pub(super) fn of(&self, status: StatusCode, body: &[u8]) -> UpstreamError {
        let body = serde_json::from_slice::<ErrorBody>(body).ok();
        let (text, code) = body.map(words).unwrap_or_default();
        let number = status.as_u16();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let why = if self.key.is_some() { "it refuses our key" } else { "it wants a key, and has none" };
            return UpstreamError::Declined(format!("status {number}: {why}"));
        }
        let is_spent = code.contains("quota") || code.contains("billing");
        match (status, text) {
            (StatusCode::SERVICE_UNAVAILABLE, _) => UpstreamError::Busy,
            (StatusCode::TOO_MANY_REQUESTS, _) if !is_spent => UpstreamError::Busy,
            // Any other 404 is a wrong base URL, not a missing model.
            (StatusCode::NOT_FOUND, Some(text)) if is_about_a_model(&text, &code) => {
                UpstreamError::NoSuchModel
            }
            (
                StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY,
                Some(text),
            ) => UpstreamError::Rejected(self.sanitise(&text)),
            // llama.cpp says so of a server that was started without them.
            (StatusCode::NOT_IMPLEMENTED, Some(text)) => UpstreamError::Rejected(self.sanitise(&text)),
            (_, text) => {
                let text = match text {
                    Some(text) => format!("status {number}: {}", self.sanitise(&text)),
                    None => format!("status {number} without an error text in JSON"),
                };
                match status.is_server_error() {
                    true => UpstreamError::Failed(text),
                    false => UpstreamError::Declined(text),
                }
            }
        }
    }

    /// One short line of the server's words, without the key.
    fn sanitise(&self, text: &str) -> String {
        match &self.key {
            Some(key) => sanitise(&text.replace(key.reveal().as_str(), "[…]")),
            None => sanitise(text),
        }
    }
}

/// What an error in the middle of an answer means; `None` when it is none.
pub(super) fn failed(error: &Value, meaning: &Meaning) -> Option<UpstreamError> {
    let text = meaning.sanitise(&text_of(error)?);
    // Some servers look at a request only after they have said 200. What a caller got wrong must not count against the server.
    let is_the_callers = error.get("type").and_then(Value::as_str) == Some("invalid_request_error")
        || matches!(error.get("code").and_then(Value::as_u64), Some(400 | 413 | 422));
    Some(if is_the_callers { UpstreamError::Rejected(text) } else { UpstreamError::Failed(text) })
}

/// An error's text, and its code in small letters.
fn words(body: ErrorBody) -> (Option<String>, String) {
    let ErrorBody { error, message, code } = body;
    let of_error = |name: &str| error.as_ref().and_then(|error| error.get(name)).cloned();
    let code = [of_error("code"), of_error("type"), code]
        .into_iter()
        .flatten()
        .filter_map(|code| code.as_str().map(str::to_lowercase))
        .collect::<Vec<_>>()
        .join(" ");
    let text = error.as_ref().or(message.as_ref()).and_then(text_of);
    (text, code)
}

fn is_about_a_model(text: &str, code: &str) -> bool {
    ["model", "deployment"].iter().any(|what| text.to_lowercase().contains(what) || code.contains(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-canary-0123456789";

    fn read(status: u16, body: &str) -> UpstreamError {
        let meaning = Meaning::new(Some(Secret::new(KEY.to_owned())));
        meaning.of(StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    #[test]
    fn each_status_has_its_meaning() {
        let error = r#"{"error":{"message":"words","type":"some_error","param":null,"code":null}}"#;
        assert_eq!(read(503, error), UpstreamError::Busy);
        assert_eq!(read(503, "<html>"), UpstreamError::Busy);
        assert_eq!(read(429, error), UpstreamError::Busy);
        for status in [400, 413, 422, 501] {
            assert_eq!(read(status, error), UpstreamError::Rejected("words".to_owned()));
        }
        for status in [301, 402, 404, 405, 499] {
            assert_eq!(read(status, error), UpstreamError::Declined(format!("status {status}: words")));
        }
        for status in [500, 502, 504, 529] {
            assert_eq!(read(status, error), UpstreamError::Failed(format!("status {status}: words")));
        }
    }

    #[test]
    fn a_missing_model_is_told_from_a_wrong_address() {
        for body in [
            r#"{"error":{"message":"The model `x` does not exist or you do not have access to it.","code":"model_not_found"}}"#,
            r#"{"error":{"message":"nothing here","code":"DeploymentNotFound"}}"#,
            r#"{"object":"error","message":"The model `x` does not exist.","type":"NotFoundError","param":null,"code":404}"#,
            r#"{"error":"model 'x' not found"}"#,
        ] {
            assert_eq!(read(404, body), UpstreamError::NoSuchModel, "{body}");
        }
        for body in
            [r#"{"detail":"Not Found"}"#, "404 page not found", r#"{"error":{"message":"Invalid URL"}}"#]
        {
            assert!(matches!(read(404, body), UpstreamError::Declined(_)), "{body}");
        }
    }

    #[test]
    fn an_empty_account_is_not_a_full_server() {
        let body = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
        let told = "status 429: You exceeded your current quota".to_owned();
        assert_eq!(read(429, body), UpstreamError::Declined(told));
    }

    #[test]
    fn a_refused_key_is_the_operators_affair_and_is_not_repeated() {
        let body = format!(r#"{{"error":{{"message":"Incorrect API key provided: {KEY}."}}}}"#);
        for status in [401, 403] {
            let told = format!("status {status}: it refuses our key");
            assert_eq!(read(status, &body), UpstreamError::Declined(told));
        }
        let without = Meaning::default().of(StatusCode::UNAUTHORIZED, b"");
        assert_eq!(without, UpstreamError::Declined("status 401: it wants a key, and has none".to_owned()));
        for status in [400, 404, 500] {
            assert!(!format!("{:?}", read(status, &body)).contains("canary"), "{status}");
        }
        let meaning = Meaning::new(Some(Secret::new(KEY.to_owned())));
        let midway = failed(&Value::String(format!("no: {KEY}")), &meaning);
        assert_eq!(midway, Some(UpstreamError::Failed("no: […]".to_owned())));
        assert!(!format!("{meaning:?}").contains("canary"));
    }
}
