//! Whether the database answers, asked in the background and never twice at a time.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use ractor::ActorRef;
use tokio::time::Instant;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{message::OpsMessage, readiness::Check};
use crate::db::{Ailment, DbError};

/// Asks the database for a sign of life; see [`crate::db::DbHandle::ping`].
pub(super) type Ping = Arc<dyn Fn() -> BoxFuture<'static, Option<Result<(), Ailment>>> + Send + Sync>;

/// How long one question may take.
const PING_DEADLINE: Duration = Duration::from_secs(2);
/// An answer says nothing any more after this long.
pub(super) const UNHEARD_AFTER: Duration = Duration::from_secs(5);

/// What came of one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sign {
    Answered,
    Failed(Ailment),
    /// The question did not get there: we are busy or restarting, which says nothing about the database.
    NotAsked,
}

/// What is known of the database.
pub(super) struct Database {
    ping: Ping,
    tracker: TaskTracker,
    seen: Option<Seen>,
    /// The question on its way; ended with the actor that asked.
    asking: Option<AbortOnDropHandle<()>>,
}

struct Seen {
    state: State,
    at: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Well,
    Silent,
    Unwritable,
}

impl Database {
    pub(super) fn new(ping: Ping, tracker: TaskTracker) -> Self {
        Self { ping, tracker, seen: None, asking: None }
    }

    /// Asks, unless the last question is still on its way; `me` is told by [`OpsMessage::Database`].
    pub(super) fn ask(&mut self, me: ActorRef<OpsMessage>) {
        if self.asking.as_ref().is_some_and(|asking| !asking.is_finished()) {
            return;
        }
        let answer = (self.ping)();
        let asking = self.tracker.spawn(async move {
            let sign = match tokio::time::timeout(PING_DEADLINE, answer).await {
                Ok(Some(Ok(()))) => Sign::Answered,
                Ok(Some(Err(ailment))) => Sign::Failed(ailment),
                Err(_) => Sign::Failed(Ailment::Silent(DbError::Timeout)),
                Ok(None) => Sign::NotAsked,
            };
            // Fails only if the actor is gone, and with it whoever wanted to know.
            let _ = me.cast(OpsMessage::Database(sign));
        });
        self.asking = Some(AbortOnDropHandle::new(asking));
    }

    pub(super) fn note(&mut self, sign: Sign) {
        let state = match &sign {
            Sign::Answered => State::Well,
            Sign::Failed(Ailment::Silent(_)) => State::Silent,
            Sign::Failed(Ailment::Unwritable(_)) => State::Unwritable,
            Sign::NotAsked => return,
        };
        let before = self.seen.replace(Seen { state, at: Instant::now() });
        if before.is_some_and(|before| before.state == state) {
            return;
        }
        match sign {
            Sign::Failed(Ailment::Silent(cause)) => {
                tracing::warn!(dependency = "database", %cause, "dependency does not answer");
            }
            Sign::Failed(Ailment::Unwritable(cause)) => {
                tracing::warn!(dependency = "database", %cause, "dependency cannot be written to");
            }
            Sign::Answered | Sign::NotAsked => tracing::info!(dependency = "database", "dependency answers"),
        }
    }

    pub(super) fn check(&self) -> Check {
        let (ok, detail) = match &self.seen {
            None => (false, "not seen yet".to_owned()),
            Some(seen) if seen.at.elapsed() > UNHEARD_AFTER => {
                (false, format!("no news for {} s", seen.at.elapsed().as_secs()))
            }
            Some(Seen { state: State::Well, .. }) => (true, "answers".to_owned()),
            Some(Seen { state: State::Silent, .. }) => (false, "does not answer".to_owned()),
            Some(Seen { state: State::Unwritable, .. }) => (false, "cannot be written to".to_owned()),
        };
        Check { name: "database", ok, detail }
    }
}
