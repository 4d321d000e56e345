//! The words by which programs tell failures apart.

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
    pub(super) const fn class(self) -> &'static str {
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
