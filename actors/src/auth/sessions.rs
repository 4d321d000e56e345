//! What is known about sessions without asking the store (A13).
//!
//! Truth carries the instant it was asked for, and newer truth is never replaced by older: an answer that was on its
//! way when the session ended cannot bring it back to life.

use std::time::Duration;

use domain::{
    account::{Session, User},
    id::{SessionId, UserId},
    principal::{Principal, Role},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{access_token::Grant, cache::Cache};

/// Sessions remembered at a time, some 100 bytes each.
const REMEMBERED: usize = 65_536;

/// While the store is away, truth this old may still serve callers that are not admins.
pub(super) const MAX_STALE: Duration = Duration::from_secs(60);

/// After the store failed, nobody who can do without waits for it again for so long.
const AWAY_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Live {
        user: UserId,
        role: Role,
        counter: u32,
    },
    /// Revoked, unknown, or its user is disabled.
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Truth {
    pub(super) state: State,
    /// Before the store was asked.
    pub(super) as_of: Instant,
}

impl Truth {
    pub(super) fn of(session: &Session, user: &User, as_of: Instant) -> Self {
        let state = if session.revoked_at.is_some() || user.disabled || session.user != user.id {
            State::Ended
        } else {
            State::Live { user: user.id, role: user.role, counter: session.counter }
        };
        Self { state, as_of }
    }

    pub(super) const fn ended(as_of: Instant) -> Self {
        Self { state: State::Ended, as_of }
    }

    /// Whether the token was made after what we know: then we know too little.
    pub(super) const fn is_behind(&self, grant: &Grant) -> bool {
        matches!(self.state, State::Live { counter, .. } if counter < grant.epoch)
    }

    /// Whether this may still be believed while the store is away.
    pub(super) fn may_serve_stale(&self, now: Instant) -> bool {
        let is_admin = matches!(self.state, State::Live { role: Role::Admin, .. });
        !is_admin && now.duration_since(self.as_of) <= MAX_STALE
    }

    /// The caller that `grant` was made for, if its session lives.
    pub(super) fn principal(&self, grant: &Grant) -> Option<Principal> {
        match self.state {
            State::Live { user, role, .. } if user == grant.user => {
                Some(Principal { user, session: grant.session, role })
            }
            State::Live { .. } | State::Ended => None,
        }
    }
}

/// All that is known; shared by every caller.
pub(super) struct Sessions {
    known: Cache<SessionId, Truth>,
    /// How long truth may be believed without asking.
    life: Duration,
    store_away_until: Mutex<Option<Instant>>,
}

impl Sessions {
    pub(super) fn new(life: Duration) -> Self {
        Self { known: Cache::new(REMEMBERED), life, store_away_until: Mutex::new(None) }
    }

    pub(super) fn known(&self, session: SessionId) -> Option<Truth> {
        self.known.get(&session)
    }

    pub(super) fn is_fresh(&self, truth: &Truth, now: Instant) -> bool {
        now.duration_since(truth.as_of) <= self.life
    }

    /// Remembers `truth` unless something newer is known; returns what is known then.
    pub(super) fn learn(&self, session: SessionId, truth: Truth) -> Truth {
        self.known.insert_unless(session, truth, |known| known.as_of > truth.as_of)
    }

    pub(super) fn store_failed(&self, now: Instant) {
        *self.store_away_until.lock() = Some(now + AWAY_PAUSE);
    }

    pub(super) fn is_store_away(&self, now: Instant) -> bool {
        self.store_away_until.lock().is_some_and(|until| now < until)
    }

    /// Forgets what nobody asked about since the last time.
    pub(super) fn age(&self) {
        self.known.age();
    }

    pub(super) fn clear(&self) {
        self.known.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::fresh_id;

    fn live(role: Role, counter: u32, as_of: Instant) -> Truth {
        Truth { state: State::Live { user: fresh_id(), role, counter }, as_of }
    }

    #[tokio::test(start_paused = true)]
    async fn a13_an_answer_that_was_on_its_way_when_the_session_ended_does_not_revive_it() {
        let (sessions, session) = (Sessions::new(Duration::from_secs(5)), fresh_id());
        let asked = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        let ended = Truth::ended(Instant::now());
        assert_eq!(sessions.learn(session, ended), ended);
        assert_eq!(sessions.learn(session, live(Role::User, 7, asked)), ended, "older truth won");
        assert_eq!(sessions.known(session), Some(ended));
    }

    #[tokio::test(start_paused = true)]
    async fn a13_truth_is_fresh_for_its_life_and_serves_users_for_a_minute() {
        let sessions = Sessions::new(Duration::from_secs(5));
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let (user, admin) = (live(Role::User, 0, now), live(Role::Admin, 0, now));
        for (seconds, is_fresh, serves_user) in
            [(5, true, true), (6, false, true), (60, false, true), (61, false, false)]
        {
            assert_eq!(sessions.is_fresh(&user, at(seconds)), is_fresh, "{seconds} s");
            assert_eq!(user.may_serve_stale(at(seconds)), serves_user, "{seconds} s");
            assert!(!admin.may_serve_stale(at(seconds)), "{seconds} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_failed_is_left_alone_for_a_second() {
        let sessions = Sessions::new(Duration::from_secs(5));
        let now = Instant::now();
        assert!(!sessions.is_store_away(now));
        sessions.store_failed(now);
        assert!(sessions.is_store_away(now + Duration::from_millis(999)));
        assert!(!sessions.is_store_away(now + AWAY_PAUSE));
    }
}
