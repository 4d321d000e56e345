//! The one place that reads the wall clock and makes identities.

use std::sync::Arc;

use chrono::{DateTime, SubsecRound as _, Utc};
use uuid::Uuid;

/// Tells the time; tests give it a hand they can move.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>);

impl Clock {
    pub fn system() -> Self {
        // As fine as both stores keep it, so that what was just made reads the same later.
        #[expect(clippy::disallowed_methods, reason = "this is the clock")]
        Self(Arc::new(|| Utc::now().trunc_subsecs(6)))
    }

    /// A clock that says what `tell` says.
    pub fn from_fn(tell: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    pub fn now(&self) -> DateTime<Utc> {
        (self.0)()
    }
}

/// Makes an identity that sorts by the time of its making (UUIDv7; monotonic within the process).
pub fn fresh_id<Id: From<Uuid>>() -> Id {
    Id::from(Uuid::now_v7())
}
