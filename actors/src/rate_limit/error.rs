//! The one way the rate limit room fails.

/// Being refused is an answer, not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// The shard died, is full or missed its deadline. The cost may have been spent: fail the request with 503.
    #[error("the rate limiter is unavailable")]
    Unavailable,
}
