//! How long callers are asked to wait.

use std::time::Duration;

/// Rounds up to whole seconds, as a `Retry-After` has them: a caller that waits as long as we say must not come too early.
pub const fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add((wait.subsec_nanos() > 0) as u64)
}
