//! In which shape a client reads an error: each dialect has its own, on the paths that it has.

use std::borrow::Cow;

use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{ApiError, ErrorObject};
use crate::http::json::append;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Ours, which OpenAI's libraries read, too: `{"error":{"code","message","type","param","request_id"}}`.
    OpenAi,
    /// `{"type":"error","error":{"type","message"},"request_id"}`
    Anthropic,
    /// `{"error":"text"}`: its libraries take anything else than a string for the text.
    Ollama,
}

/// Where an error is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is the whole reply, with a status.
    Reply,
    /// It ends a stream, where no header can say anything any more.
    Stream,
}

/// What a refusal looks like.
#[derive(Serialize, ToSchema)]
pub(crate) struct ErrorBody<'a> {
    error: ErrorObject<'a>,
}

/// What a refusal looks like to Anthropic's clients.
#[derive(Serialize, ToSchema)]
pub(crate) struct AnthropicErrorBody<'a> {
    /// `error`
    #[serde(rename = "type")]
    kind: &'static str,
    error: AnthropicObject<'a>,
    request_id: &'a str,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AnthropicErrorObject)]
pub(crate) struct AnthropicObject<'a> {
    /// As its libraries know them, such as `invalid_request_error`.
    #[serde(rename = "type")]
    class: &'static str,
    /// For people; may change.
    message: &'a str,
}

/// What a refusal looks like to Ollama's clients.
#[derive(Serialize, ToSchema)]
pub(crate) struct OllamaErrorBody<'a> {
    /// For people; may change.
    error: &'a str,
}

impl Wire {
    pub(crate) const ALL: [Self; 3] = [Self::OpenAi, Self::Anthropic, Self::Ollama];

    /// What the description of the service calls this shape.
    pub(crate) fn schema_name(self) -> Cow<'static, str> {
        match self {
            Self::OpenAi => ErrorBody::name(),
            Self::Anthropic => AnthropicErrorBody::name(),
            Self::Ollama => OllamaErrorBody::name(),
        }
    }

    /// The shape that a path's clients expect, whether or not there is anything at that path.
    pub(crate) fn of(path: &str) -> Self {
        let is_at_or_below =
            |base: &str| path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if is_at_or_below("/v1/messages") {
            Self::Anthropic
        } else if is_at_or_below("/api") || is_at_or_below("/k") {
            Self::Ollama
        } else {
            Self::OpenAi
        }
    }

    /// Appends `error` as one line of JSON.
    pub(crate) fn append(self, error: &ApiError, request_id: &str, place: Place, out: &mut Vec<u8>) {
        match self {
            Self::OpenAi => {
                let error = match place {
                    Place::Reply => error.object(request_id),
                    Place::Stream => error.object_in_stream(request_id),
                };
                append(out, &ErrorBody { error });
            }
            Self::Anthropic => {
                let class = class_at_anthropic(error.status());
                let object = AnthropicObject { class, message: &error.message };
                append(out, &AnthropicErrorBody { kind: "error", error: object, request_id });
            }
            Self::Ollama => append(out, &OllamaErrorBody { error: &error.message }),
        }
    }
}

/// By status, as its libraries do.
fn class_at_anthropic(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        StatusCode::GATEWAY_TIMEOUT => "timeout_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn written(path: &str, error: &ApiError, place: Place) -> String {
        let mut out = Vec::new();
        Wire::of(path).append(error, "r-1", place, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn b12_each_dialects_clients_read_errors_in_their_own_shape() {
        let error = ApiError::limited("wait", Duration::from_secs(7));
        for path in ["/v1/chat", "/v1/chat/completions", "/v1/messagesx", "/apis", "/nothing", "/"] {
            assert_eq!(
                written(path, &error, Place::Reply),
                r#"{"error":{"code":"rate_limited","message":"wait","type":"rate_limit_error","param":null,"request_id":"r-1"}}"#,
                "{path}"
            );
        }
        assert!(written("/v1/chat", &error, Place::Stream).ends_with(r#","retry_after":7}}"#));
        for path in ["/v1/messages", "/v1/messages/count_tokens"] {
            assert_eq!(
                written(path, &error, Place::Reply),
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"wait"},"request_id":"r-1"}"#
            );
        }
        for path in ["/api/chat", "/api/nothing", "/api", "/k/x/api/chat"] {
            assert_eq!(written(path, &error, Place::Reply), r#"{"error":"wait"}"#, "{path}");
        }
    }
}
