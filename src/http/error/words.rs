//! What is said of each failure that is not a room's.

use std::{borrow::Cow, sync::Arc, time::Duration};

use actors::rate_limit::Decision;
use domain::{kind::Kind, principal::Scope, reply::FailureCode};
use http::StatusCode;

use super::{ApiError, Fault, Faults, RETRY_SOON, code::Code};

/// When a dependency is down: it needs longer than a full queue.
const RETRY_LATER: Duration = Duration::from_secs(5);

impl ApiError {
    // --- the request itself ---------------------------------------------------------------------------------------

    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::InvalidRequest, Kind::Invalid, message)
    }

    /// Well-formed, but it cannot be done (422).
    pub(crate) fn unfit(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::InvalidRequest, Kind::Invalid, message)
    }

    /// The service's settings are invalid, all that is wrong with them; those in force stay.
    pub(crate) fn settings_refused(faults: Vec<Fault>) -> Self {
        let message = "the settings are invalid, so nothing has changed; `problems` names all that is wrong";
        Self { faults: Some(Box::new(Faults(faults))), ..Self::unfit(message) }
    }

    pub(crate) fn no_sources() -> Self {
        Self::conflict("this service was not started from settings that could be changed here")
    }

    /// Somebody else's reload is under way.
    pub(crate) fn reload_under_way() -> Self {
        let message = "another reload is under way";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Overloaded, Kind::Overloaded, message)
            .retry_after(RETRY_SOON)
    }

    pub(crate) fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, Code::Conflict, Kind::Conflict, message)
    }

    /// 422, with the code by which programs tell it from a request that makes no sense.
    pub(crate) fn key_taken() -> Self {
        let message = "this Idempotency-Key was given with another body; take a new one for a new request";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::Conflict, Kind::Conflict, message)
            .at("Idempotency-Key")
    }

    pub(crate) fn malformed_key() -> Self {
        Self::invalid("an Idempotency-Key is 1 to 255 visible ASCII characters, once").at("Idempotency-Key")
    }

    pub(crate) fn no_such_position() -> Self {
        Self::invalid("the answer has no such position; `0` is its start").at("Last-Event-ID")
    }

    /// The turn is known, its text is not.
    pub(crate) fn answer_not_kept() -> Self {
        Self::conflict("this turn is over, and its answer was not stored")
    }

    pub(crate) fn host() -> Self {
        Self::invalid("the request must name exactly one host, in a Host header")
    }

    pub(crate) fn transfer_encoding() -> Self {
        Self::invalid("the only Transfer-Encoding is `chunked`")
    }

    pub(crate) fn foreign_host() -> Self {
        Self::forbidden(
            "this listener answers to loopback names only; a proxy in front belongs into TRUSTED_PROXY_IPS",
        )
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

    /// What Ollama has at more paths than we do.
    pub(crate) fn not_of_ollama() -> Self {
        Self::not_found("there is nothing at this path: models are made and changed at the model server")
    }

    pub(crate) fn method(allow: Arc<str>) -> Self {
        let message = "this path does not have this method";
        let mut error =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, Code::InvalidRequest, Kind::Invalid, message);
        error.allow = Some(allow);
        error
    }

    /// What the path names does not exist, or not for this caller: never said which.
    pub(crate) fn nothing() -> Self {
        Self::not_found("there is no such thing")
    }

    pub(crate) fn not_found(what: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::NotFound, Kind::NotFound, what)
    }

    pub(crate) fn no_conversation() -> Self {
        Self::not_found("there is no such conversation")
    }

    pub(crate) fn too_many_conversations() -> Self {
        Self::conflict("this account has too many conversations to make one without saying anything in it")
    }

    pub(crate) fn model_not_found(name: &str) -> Self {
        let message = format!("there is no model {name}");
        Self::new(StatusCode::NOT_FOUND, Code::ModelNotFound, Kind::NotFound, message).at("model")
    }

    // --- who is asking --------------------------------------------------------------------------------------------

    /// What was shown to prove who is asking does not prove it.
    pub(super) fn refused(message: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, Code::Unauthenticated, Kind::Unauthenticated, message)
    }

    pub(crate) fn wrong_password() -> Self {
        Self::refused("the current password is wrong")
    }

    pub(crate) fn unauthenticated() -> Self {
        Self::refused("sign in and send the access token, or an API key, as `Authorization: Bearer …`")
    }

    pub(crate) fn needs_operators_token() -> Self {
        Self::refused("send the operators' token (OPS_TOKEN) as `Authorization: Bearer …`")
    }

    pub(crate) fn two_credentials() -> Self {
        Self::invalid("the request carries two different credentials")
    }

    pub(super) fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, Code::Forbidden, Kind::Forbidden, message)
    }

    pub(crate) fn needs_session() -> Self {
        Self::forbidden("this needs a session: sign in, an API key does not do")
    }

    pub(crate) fn needs_administrator() -> Self {
        Self::forbidden("this needs the role `admin`")
    }

    pub(crate) fn needs_scope(scope: Scope) -> Self {
        Self::forbidden(format!("this needs an API key with the scope `{}`", scope.as_str()))
    }

    /// Somebody's cookies came along with a page that is none of ours.
    pub(crate) fn foreign_page() -> Self {
        Self::forbidden("cookies count only with an Origin that is our own or in ALLOWED_ORIGINS")
    }

    // --- limits, load and time ------------------------------------------------------------------------------------

    pub(in crate::http) fn limited(message: &'static str, wait: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, Code::RateLimited, Kind::Limited, message).retry_after(wait)
    }

    pub(crate) fn rate_limited(decision: &Decision) -> Self {
        let message = if decision.scope.counts_tokens() {
            "too many tokens; wait as long as Retry-After says, or ask for a shorter answer"
        } else {
            "too many requests; wait as long as Retry-After says"
        };
        Self::limited(message, decision.verdict.retry_after)
    }

    pub(super) fn full(message: &'static str, wait: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Overloaded, Kind::Overloaded, message)
            .retry_after(wait)
    }

    pub(crate) fn overloaded() -> Self {
        Self::full("the service is full; try again later", RETRY_SOON)
    }

    /// Of this caller.
    pub(crate) fn export_under_way() -> Self {
        Self::limited("an export of yours is under way: wait for its end", RETRY_SOON)
    }

    pub(crate) fn too_many_exports() -> Self {
        Self::full("too many exports are under way; try again later", RETRY_LATER)
    }

    pub(crate) fn too_many_connections() -> Self {
        Self::full("too many open connections; try again later", RETRY_SOON)
    }

    pub(super) fn unavailable() -> Self {
        Self::full("something the service depends on is unavailable; try again later", RETRY_LATER)
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

    /// A turn that ended without an answer; `words` were already judged fit for its caller. `wait` is when another try should
    /// find room, where that is known.
    pub(crate) fn turn_failed(failure: FailureCode, words: &str, wait: Option<Duration>) -> Self {
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
        match wait {
            Some(wait) => error.retry_after(wait).paced(),
            None if status == StatusCode::SERVICE_UNAVAILABLE => error.retry_after(RETRY_LATER),
            None => error,
        }
    }
}
