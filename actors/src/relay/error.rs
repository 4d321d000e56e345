//! The one way the relay room fails.

/// That Redis or the owner is away is no error: the store is asked instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// As many turns of other instances are followed as may be: refuse with 503.
    #[error("too many turns of other instances are followed")]
    Full,
}
