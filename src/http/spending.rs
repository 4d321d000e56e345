//! What buckets say of a request: a refusal ends it and is told to the audit trail, and every reply tells how it stands.

use std::sync::Arc;

use actors::{auth::Origin, rate_limit::Decision};
use domain::{audit::AuditEvent, id::UserId};
use parking_lot::Mutex;

use super::{doors::Doors, error::ApiError};

/// What the buckets said that a route asked itself, kept for the headers of its reply.
#[derive(Clone, Default)]
pub(super) struct Told(Arc<Mutex<Option<Decision>>>);

impl Told {
    pub(super) fn remember(&self, said: Decision) {
        *self.0.lock() = Some(said);
    }

    pub(super) fn take(&self) -> Option<Decision> {
        self.0.lock().take()
    }
}

/// Lets whoever pays go on.
///
/// # Errors
///
/// 429; the audit trail knows.
pub(super) fn admitted(
    doors: &impl Doors,
    said: &Decision,
    user: Option<UserId>,
    origin: impl FnOnce() -> Origin,
) -> Result<(), ApiError> {
    if said.verdict.allowed {
        return Ok(());
    }
    doors.report_refusal(AuditEvent::ExcessRateLimitExceeded, user, said.scope.as_str(), &origin());
    Err(ApiError::rate_limited(said))
}
