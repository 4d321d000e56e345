//! The closed list of ways a call can end badly; the metric label and the log level follow from it.

/// What went wrong, coarse enough to count and to choose a status by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The caller sent something we cannot accept.
    Invalid,
    Unauthenticated,
    Forbidden,
    NotFound,
    Conflict,
    /// This caller is over its own limit (429).
    Limited,
    /// We are full, or something we depend on is down (503).
    Overloaded,
    /// The deadline passed before the work could be done.
    TooLate,
    /// The model server failed us.
    Upstream,
    /// The caller left or asked us to stop.
    Cancelled,
    /// Our own fault.
    Internal,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Limited => "limited",
            Self::Overloaded => "overloaded",
            Self::TooLate => "too_late",
            Self::Upstream => "upstream",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }
}
