//! What clients read when something went wrong: every such text is written here and in `rooms`, and no error's own text
//! is passed on.

mod rooms;

use std::{borrow::Cow, sync::Arc, time::Duration};

use actors::rate_limit::Decision;
use domain::{kind::Kind, reply::FailureCode};
use http::StatusCode;
use serde::Serialize;

/// The stable words clients may branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidRequest,
    Unauthenticated,
    Forbidden,
    NotFound,
    ModelNotFound,
    Conflict,
    RateLimited,
    Overloaded,
    DeadlineExceeded,
    UpstreamError,
    UpstreamIncomplete,
    ReplyTooLarge,
    ServerShuttingDown,
    Cancelled,
    Internal,
}

impl Code {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::ModelNotFound => "model_not_found",
            Self::Conflict => "conflict",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::UpstreamError => "upstream_error",
            Self::UpstreamIncomplete => "upstream_incomplete",
            Self::ReplyTooLarge => "reply_too_large",
            Self::ServerShuttingDown => "server_shutting_down",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }

    /// The coarse class OpenAI's libraries look at.
    const fn class(self) -> &'static str {
        match self {
            Self::InvalidRequest | Self::Conflict | Self::Cancelled => "invalid_request_error",
            Self::Unauthenticated => "authentication_error",
            Self::Forbidden => "permission_error",
            Self::NotFound | Self::ModelNotFound => "not_found_error",
            Self::RateLimited => "rate_limit_error",
            Self::Overloaded | Self::ServerShuttingDown => "overloaded_error",
            Self::DeadlineExceeded => "timeout_error",
            Self::UpstreamError | Self::UpstreamIncomplete | Self::ReplyTooLarge | Self::Internal => {
                "api_error"
            }
        }
    }
}

/// A refusal or failure on its way to a client.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: Code,
    kind: Kind,
    message: Cow<'static, str>,
    /// The field of the request that is at fault.
    param: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
    /// Whether `Retry-After` may be made longer, so that callers do not come back together.
    may_spread: bool,
    /// For 405: the methods the path has.
    allow: Option<Arc<str>>,
    /// What really happened, for the log only.
    cause: Option<String>,
}

/// `{"code","message","type","param","request_id"}`.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct ErrorObject<'a> {
    /// Stable; branch on it.
    pub(crate) code: &'a str,
    /// For people; may change.
    pub(crate) message: &'a str,
    #[serde(rename = "type")]
    pub(crate) class: &'a str,
    /// The field of the request at fault, where there is one.
    pub(crate) param: Option<&'a str>,
    pub(crate) request_id: &'a str,
}

/// When nothing better is known.
const RETRY_SOON: Duration = Duration::from_secs(1);
/// When a dependency is down: it needs longer than a full queue.
const RETRY_LATER: Duration = Duration::from_secs(5);

impl ApiError {
    fn new(status: StatusCode, code: Code, kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code,
            kind,
            message: message.into(),
            param: None,
            retry_after: None,
            may_spread: true,
            allow: None,
            cause: None,
        }
    }

    fn caused_by(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    pub(crate) fn at(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Asks to come back soon, if at all: waiting as long as would spare us costs the caller more than an answer.
    pub(crate) fn retry_promptly(mut self) -> Self {
        self.retry_after = self.retry_after.map(|wait| wait.min(RETRY_SOON));
        self.may_spread = false;
        self
    }

    pub(crate) fn may_spread(&self) -> bool {
        self.may_spread
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn allow(&self) -> Option<&str> {
        self.allow.as_deref()
    }

    pub(crate) fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    pub(crate) fn wait(&self) -> Option<Duration> {
        self.retry_after
    }

    pub(crate) fn object<'a>(&'a self, request_id: &'a str) -> ErrorObject<'a> {
        ErrorObject {
            code: self.code.as_str(),
            message: &self.message,
            class: self.code.class(),
            param: self.param.as_deref(),
            request_id,
        }
    }

    // --- the request itself ---------------------------------------------------------------------------------------

    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::InvalidRequest, Kind::Invalid, message)
    }

    pub(crate) fn host() -> Self {
        Self::invalid("the request must name exactly one host, in a Host header")
    }

    pub(crate) fn transfer_encoding() -> Self {
        Self::invalid("the only Transfer-Encoding is `chunked`")
    }

    pub(crate) fn foreign_host() -> Self {
        let message =
            "this listener answers to loopback names only; a proxy in front belongs into TRUSTED_PROXY_IPS";
        Self::new(StatusCode::FORBIDDEN, Code::Forbidden, Kind::Forbidden, message)
    }

    pub(crate) fn uri_too_long() -> Self {
        Self::new(
            StatusCode::URI_TOO_LONG,
            Code::InvalidRequest,
            Kind::Invalid,
            "the URI is longer than 8 KiB",
        )
    }

    pub(crate) fn head_too_large() -> Self {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        let message = "the request's head is larger than 16 KiB or has more than 100 headers";
        Self::new(status, Code::InvalidRequest, Kind::Invalid, message)
    }

    /// Bytes that are no request at all.
    pub(crate) fn unreadable() -> Self {
        Self::invalid("what was sent cannot be read as a request")
    }

    pub(crate) fn body_too_large(limit_bytes: usize) -> Self {
        let message = format!("the body is larger than {limit_bytes} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::InvalidRequest, Kind::Invalid, message)
    }

    pub(crate) fn body_too_slow() -> Self {
        let message = "the body did not arrive in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded, Kind::Invalid, message)
    }

    pub(crate) fn not_json() -> Self {
        let message = "the body must be JSON with `Content-Type: application/json`";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidRequest, Kind::Invalid, message)
    }

    pub(crate) fn encoded() -> Self {
        let message = "a body with a Content-Encoding is not accepted";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidRequest, Kind::Invalid, message)
    }

    pub(crate) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::NotFound, Kind::NotFound, "there is nothing at this path")
    }

    pub(crate) fn method(allow: Arc<str>) -> Self {
        let message = "this path does not have this method";
        let mut error =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, Code::InvalidRequest, Kind::Invalid, message);
        error.allow = Some(allow);
        error
    }

    pub(crate) fn not_found(what: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::NotFound, Kind::NotFound, what)
    }

    pub(crate) fn model_not_found(name: &str) -> Self {
        let message = format!("there is no model {name}");
        Self::new(StatusCode::NOT_FOUND, Code::ModelNotFound, Kind::NotFound, message).at("model")
    }

    // --- who is asking --------------------------------------------------------------------------------------------

    pub(crate) fn unauthenticated() -> Self {
        let message = "sign in and send the access token as `Authorization: Bearer …`";
        Self::new(StatusCode::UNAUTHORIZED, Code::Unauthenticated, Kind::Unauthenticated, message)
    }

    pub(crate) fn two_credentials() -> Self {
        Self::invalid("the request carries two different credentials")
    }

    pub(crate) fn forbidden() -> Self {
        let message = "this account may not do this";
        Self::new(StatusCode::FORBIDDEN, Code::Forbidden, Kind::Forbidden, message)
    }

    // --- limits, load and time ------------------------------------------------------------------------------------

    pub(crate) fn rate_limited(decision: &Decision) -> Self {
        let message = "too many requests; wait as long as Retry-After says";
        Self::new(StatusCode::TOO_MANY_REQUESTS, Code::RateLimited, Kind::Limited, message)
            .retry_after(decision.verdict.retry_after)
    }

    pub(crate) fn overloaded() -> Self {
        let message = "the service is full; try again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Overloaded, Kind::Overloaded, message)
            .retry_after(RETRY_SOON)
    }

    pub(crate) fn too_many_connections() -> Self {
        let message = "too many open connections; try again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Overloaded, Kind::Overloaded, message)
            .retry_after(RETRY_SOON)
    }

    fn unavailable() -> Self {
        let message = "something the service depends on is unavailable; try again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Overloaded, Kind::Overloaded, message)
            .retry_after(RETRY_LATER)
    }

    pub(crate) fn deadline() -> Self {
        let message = "the request's time was over before it was done";
        Self::new(StatusCode::GATEWAY_TIMEOUT, Code::DeadlineExceeded, Kind::TooLate, message)
    }

    pub(crate) fn shutting_down() -> Self {
        let message = "the service is shutting down";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::ServerShuttingDown, Kind::Overloaded, message)
            .retry_after(RETRY_LATER)
    }

    pub(crate) fn internal(cause: impl Into<String>) -> Self {
        let message = "something broke on our side; the request id leads to the log entry";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, Kind::Internal, message).caused_by(cause)
    }

    /// A turn that ended without an answer; `words` were already judged fit for its caller.
    pub(crate) fn turn_failed(failure: FailureCode, words: &str) -> Self {
        let (status, code, kind) = match failure {
            FailureCode::InvalidRequest => (StatusCode::BAD_REQUEST, Code::InvalidRequest, Kind::Invalid),
            FailureCode::ModelNotFound => (StatusCode::NOT_FOUND, Code::ModelNotFound, Kind::NotFound),
            FailureCode::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, Code::Overloaded, Kind::Overloaded),
            FailureCode::DeadlineExceeded => {
                (StatusCode::GATEWAY_TIMEOUT, Code::DeadlineExceeded, Kind::TooLate)
            }
            FailureCode::UpstreamError => (StatusCode::BAD_GATEWAY, Code::UpstreamError, Kind::Upstream),
            FailureCode::UpstreamIncomplete => {
                (StatusCode::BAD_GATEWAY, Code::UpstreamIncomplete, Kind::Upstream)
            }
            FailureCode::ReplyTooLarge => (StatusCode::BAD_GATEWAY, Code::ReplyTooLarge, Kind::Upstream),
            FailureCode::ServerShuttingDown => {
                (StatusCode::SERVICE_UNAVAILABLE, Code::ServerShuttingDown, Kind::Overloaded)
            }
            FailureCode::Cancelled => (StatusCode::CONFLICT, Code::Cancelled, Kind::Cancelled),
            FailureCode::Internal => (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, Kind::Internal),
        };
        let error = Self::new(status, code, kind, words.to_owned());
        if status == StatusCode::SERVICE_UNAVAILABLE { error.retry_after(RETRY_LATER) } else { error }
    }
}

#[cfg(test)]
mod tests;
