//! What is known about sessions and keys without asking the store (A13).
//!
//! Truth carries the instant it was asked for, and newer truth is never replaced by older: an answer that was on its
//! way when the session ended cannot bring it back to life.

use std::time::Duration;

use domain::{
    api_key::KeyHash,
    id::{SessionId, UserId},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    cache::Cache,
    changes::Changes,
    truth::{State, Subject, Truth},
};

/// Sessions remembered at a time, and as many keys, some 150 bytes each.
const REMEMBERED: usize = 65_536;

/// Keys remembered that there are none of. They have a place of their own, or anybody who makes up keys could push out
/// those that live.
const UNKNOWN: usize = 8_192;

/// After the store failed, nobody who can do without waits for it again for so long.
const AWAY_PAUSE: Duration = Duration::from_secs(1);

/// All that is known; shared by every caller.
pub(super) struct Sessions {
    sessions: Cache<SessionId, Truth>,
    keys: Cache<KeyHash, Truth>,
    unknown: Cache<KeyHash, Truth>,
    changes: Changes,
    /// How long truth may be believed without asking.
    life: Duration,
    store_away_until: Mutex<Option<Instant>>,
}

impl Sessions {
    pub(super) fn new(life: Duration) -> Self {
        Self {
            sessions: Cache::new(REMEMBERED),
            keys: Cache::new(REMEMBERED),
            unknown: Cache::new(UNKNOWN),
            changes: Changes::new(),
            life,
            store_away_until: Mutex::new(None),
        }
    }

    pub(super) fn known(&self, subject: Subject) -> Option<Truth> {
        match subject {
            Subject::Session(session) => self.sessions.get(&session),
            Subject::Key(key) => self.keys.get(&key).or_else(|| self.unknown.get(&key)),
        }
    }

    /// Whether `truth` may be believed without asking.
    pub(super) fn is_fresh(&self, truth: &Truth, now: Instant) -> bool {
        now.duration_since(truth.as_of) <= self.life
    }

    /// Whether the account may have changed since `truth` was asked for: then it counts for nothing.
    pub(super) fn is_void(&self, truth: &Truth) -> bool {
        truth.user().is_some_and(|user| self.changes.since(user, truth.as_of))
    }

    /// Remembers `truth` unless something newer is known; returns what is known then.
    pub(super) fn learn(&self, subject: impl Into<Subject>, truth: Truth) -> Truth {
        let as_of = truth.as_of;
        let is_newer = |known: &Truth| known.as_of > as_of;
        match subject.into() {
            Subject::Session(session) => self.sessions.insert_unless(session, truth, is_newer),
            // A key that was known and is gone belongs where it would be looked for first.
            Subject::Key(key) if truth.state == State::Unknown && self.keys.get(&key).is_none() => {
                self.unknown.insert_unless(key, truth, is_newer)
            }
            Subject::Key(key) => self.keys.insert_unless(key, truth, is_newer),
        }
    }

    /// Voids all that is known, or on its way, about the account's sessions and keys: the next caller waits for the store.
    ///
    /// Call it once a change of an account's state, role, limits, models or password, or of the limits or models of one of its keys, is
    /// stored. Then no cached key or token of it serves by what was true before, not even while the store is away.
    pub(super) fn reconsider(&self, user: UserId) {
        self.changes.note(user, Instant::now());
    }

    pub(super) fn store_failed(&self, now: Instant) {
        *self.store_away_until.lock() = Some(now + AWAY_PAUSE);
    }

    pub(super) fn is_store_away(&self, now: Instant) -> bool {
        self.store_away_until.lock().is_some_and(|until| now < until)
    }

    /// Forgets what nobody asked about since the last time.
    pub(super) fn age(&self) {
        self.sessions.age();
        self.keys.age();
        self.unknown.age();
    }

    pub(super) fn clear(&self) {
        self.sessions.clear();
        self.keys.clear();
        self.unknown.clear();
    }
}

#[cfg(test)]
mod tests {
    use domain::{
        limits::Limits,
        principal::{Role, Scopes},
    };

    use super::{super::truth::MAX_STALE, *};
    use crate::clock::fresh_id;

    fn room() -> Sessions {
        Sessions::new(Duration::from_secs(5))
    }

    fn live(role: Role, as_of: Instant) -> Truth {
        Truth {
            state: State::Session {
                user: fresh_id(),
                role,
                limits: Limits::default(),
                models: None,
                counter: 7,
                min_epoch: 0,
            },
            as_of,
        }
    }

    fn live_key(as_of: Instant) -> Truth {
        let (user, id, scopes) = (fresh_id(), fresh_id(), Scopes::default());
        let state = State::Key {
            user,
            role: Role::User,
            limits: Limits::default(),
            models: None,
            id,
            scopes,
            key_limits: Limits::default(),
            key_models: None,
            expires_at: None,
        };
        Truth { state, as_of }
    }

    fn key(n: u32) -> Subject {
        let mut hash = KeyHash::default();
        hash[..4].copy_from_slice(&n.to_le_bytes());
        Subject::Key(hash)
    }

    #[tokio::test(start_paused = true)]
    async fn a13_an_answer_that_was_on_its_way_when_something_ended_does_not_revive_it() {
        let sessions = room();
        let asked = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        let ended = Truth::ended(Instant::now());
        let session = Subject::Session(fresh_id());
        for (subject, live) in [(session, live(Role::User, asked)), (key(1), live_key(asked))] {
            assert_eq!(sessions.learn(subject, ended.clone()), ended);
            assert_eq!(sessions.learn(subject, live), ended, "older truth won");
            assert_eq!(sessions.known(subject), Some(ended.clone()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a13_truth_is_fresh_for_its_life_and_serves_users_for_a_minute() {
        let sessions = room();
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let (user, key, admin) = (live(Role::User, now), live_key(now), live(Role::Admin, now));
        for (seconds, is_fresh, serves_user) in
            [(5, true, true), (6, false, true), (60, false, true), (61, false, false)]
        {
            assert_eq!(sessions.is_fresh(&user, at(seconds)), is_fresh, "{seconds} s");
            assert_eq!(user.may_serve_stale(at(seconds)), serves_user, "{seconds} s");
            assert_eq!(key.may_serve_stale(at(seconds)), serves_user, "{seconds} s");
            assert!(!admin.may_serve_stale(at(seconds)), "{seconds} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a13_a_change_of_an_account_voids_what_was_known_or_on_its_way() {
        let sessions = room();
        let (session, key) = (live(Role::Admin, Instant::now()), live_key(Instant::now()));
        tokio::time::advance(Duration::from_millis(1)).await;
        let as_of = session.as_of;
        for truth in [session, key] {
            assert!(!sessions.is_void(&truth));
            sessions.reconsider(truth.user().unwrap());
            assert!(sessions.is_void(&truth));
            assert!(!sessions.is_void(&Truth { as_of: Instant::now(), ..truth }), "asked after the change");
        }
        assert!(!sessions.is_void(&Truth::ended(as_of)));
    }

    #[tokio::test(start_paused = true)]
    async fn a15_a_flood_of_keys_that_there_are_none_of_pushes_out_no_living_one() {
        let sessions = room();
        let now = Instant::now();
        let truth = live_key(now);
        sessions.learn(key(0), truth.clone());
        for n in 1..200_000 {
            assert_eq!(sessions.learn(key(n), Truth::unknown(now)), Truth::unknown(now));
        }
        assert_eq!(sessions.known(key(0)), Some(truth));
        assert_eq!(sessions.known(key(199_999)), Some(Truth::unknown(now)), "the next try is a query again");
        assert_eq!(sessions.known(key(1)), None, "nothing bounds what is remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn a15_a_key_that_was_known_and_is_gone_is_not_found_again() {
        let sessions = room();
        sessions.learn(key(0), live_key(Instant::now()));
        tokio::time::advance(MAX_STALE).await;
        let gone = Truth::unknown(Instant::now());
        sessions.learn(key(0), gone.clone());
        assert_eq!(sessions.known(key(0)), Some(gone));
    }

    #[test]
    fn a15_keys_that_differ_in_one_bit_are_strangers() {
        let sessions = room();
        let truth = live_key(Instant::now());
        let hash = [0b1010_1010; 32];
        sessions.learn(hash, truth.clone());
        for bit in 0..256 {
            let mut other = hash;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(sessions.known(Subject::Key(other)), None, "bit {bit} does not count");
        }
        assert_eq!(sessions.known(Subject::Key(hash)), Some(truth));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_failed_is_left_alone_for_a_second() {
        let sessions = room();
        let now = Instant::now();
        assert!(!sessions.is_store_away(now));
        sessions.store_failed(now);
        assert!(sessions.is_store_away(now + Duration::from_millis(999)));
        assert!(!sessions.is_store_away(now + AWAY_PAUSE));
    }
}
