//! The turns of this instance whose answer is in memory: those that live, and those that ended less than a minute ago.
//!
//! ```text
//! start_turn ── enter ─▶ live ── ended ─▶ kept a minute ── sweep, make_room, KEPT_MAX ─▶ forgotten; the store answers
//!                          ╰── longer than a turn may take: expired, wherever it is
//! ```
//!
//! A turn leaves when its [`Registered`] is dropped, so none is left behind. Ended ones are swept by whoever enters or ends a turn,
//! and by the tick of the leases, which also finds turns that have lived too long.
//!
//! # When it breaks
//!
//! It is lost with its process only; then the store has the text up to its last checkpoint.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use domain::{
    id::{TurnId, UserId},
    turn::{Claim, StoredTurn, TurnStatus},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::TurnNames;
use crate::reply::{ReplyBudget, ReplyLog};

/// Ended answers in memory; beyond it the oldest goes.
const KEPT_MAX: usize = 2_048;

/// One per room.
pub(super) struct Turns {
    inner: Mutex<Inner>,
    budget: ReplyBudget,
    kept_for: Duration,
}

#[derive(Default)]
struct Inner {
    /// Live ones are bounded by places in queues and by slots, ended ones by [`KEPT_MAX`].
    turns: HashMap<TurnId, Entry>,
    /// Those that ended, oldest first.
    ended: VecDeque<(Instant, TurnId)>,
    claims: HashMap<(UserId, [u8; 32]), TurnId>,
}

/// A turn that can be read.
#[derive(Clone)]
pub(super) struct Entry {
    /// As it stands.
    pub turn: StoredTurn,
    pub names: TurnNames,
    pub log: ReplyLog,
    pub claim: Option<Claim>,
    /// Whether somebody may ask for it once it has ended.
    pub is_kept: bool,
    /// It may live no longer.
    pub until: Instant,
}

/// A turn's place among them. Dropping it without [`Registered::ended`] takes the turn out: it never was.
pub(super) struct Registered {
    turns: Arc<Turns>,
    turn: TurnId,
    last: Option<Box<StoredTurn>>,
}

impl Turns {
    /// `kept_for` is how long an ended answer stays.
    pub fn new(budget: ReplyBudget, kept_for: Duration) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), budget, kept_for })
    }

    pub fn enter(self: &Arc<Self>, entry: Entry) -> Registered {
        let turn = entry.turn.turn;
        self.change(|inner| {
            if let Some(claim) = entry.claim {
                inner.claims.insert((entry.turn.user, claim.key), turn);
            }
            inner.turns.insert(turn, entry);
        });
        Registered { turns: self.clone(), turn, last: None }
    }

    /// The turn of this name; somebody else's is not found.
    pub fn find(&self, user: UserId, turn: TurnId) -> Option<Entry> {
        self.inner.lock().turns.get(&turn).filter(|entry| entry.turn.user == user).cloned()
    }

    /// Ends a live turn as cancelled; says whether this is what ends it.
    pub fn cancel(&self, turn: TurnId) -> bool {
        let inner = self.inner.lock();
        let live = inner.turns.get(&turn).filter(|entry| entry.turn.status == TurnStatus::Streaming);
        let log = live.map(|entry| entry.log.clone());
        drop(inner);
        log.is_some_and(|log| log.cancel())
    }

    pub fn has_live(&self) -> bool {
        let inner = self.inner.lock();
        inner.turns.len() > inner.ended.len()
    }

    /// The turn that this key of the user's stands for, and what was asked with it.
    pub fn claimed(&self, user: UserId, key: [u8; 32]) -> Option<(TurnId, [u8; 32])> {
        let inner = self.inner.lock();
        let turn = *inner.claims.get(&(user, key))?;
        Some((turn, inner.turns.get(&turn)?.claim?.request))
    }

    pub fn len(&self) -> usize {
        self.inner.lock().turns.len()
    }

    /// Forgets all that have ended, as if their time were over.
    #[cfg(test)]
    pub fn forget_all(&self) {
        while let Some(entry) = { self.inner.lock().forget_oldest() } {
            drop(entry);
        }
    }

    /// Whether a new turn finds memory for its answer; answers that have ended make room for it, the oldest first.
    pub fn make_room(&self) -> bool {
        while !self.budget.admits() {
            let Some(oldest) = self.inner.lock().forget_oldest() else { return false };
            drop(oldest);
        }
        true
    }

    /// Forgets what ended long enough ago, and ends what has lived too long.
    pub fn sweep(&self) {
        self.change(|_| ());
        let now = Instant::now();
        let late: Vec<ReplyLog> = {
            let inner = self.inner.lock();
            let live = inner.turns.values().filter(|entry| entry.turn.status == TurnStatus::Streaming);
            live.filter(|entry| entry.until <= now).map(|entry| entry.log.clone()).collect()
        };
        late.iter().for_each(ReplyLog::expire);
    }

    /// Changes them under their lock, and lets go of what is too old or too much; its text is freed outside.
    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let now = Instant::now();
        let mut forgotten = Vec::new();
        let mut inner = self.inner.lock();
        change(&mut inner);
        while inner.ended.len() > KEPT_MAX
            || inner.ended.front().is_some_and(|(at, _)| now.duration_since(*at) >= self.kept_for)
        {
            forgotten.extend(inner.forget_oldest());
        }
        drop(inner);
    }
}

impl Inner {
    fn end(&mut self, last: StoredTurn) {
        let turn = last.turn;
        let Some(entry) = self.turns.get_mut(&turn) else { return };
        entry.turn = last;
        if !entry.is_kept {
            self.forget(turn);
            return;
        }
        // A key whose turn brought nothing is free again.
        if entry.turn.status != TurnStatus::Complete && entry.log.is_empty() {
            let claim = entry.claim.take();
            let user = entry.turn.user;
            self.release(user, turn, claim);
        }
        self.ended.push_back((Instant::now(), turn));
    }

    fn forget_oldest(&mut self) -> Option<Entry> {
        let (_, turn) = self.ended.pop_front()?;
        self.forget(turn)
    }

    fn forget(&mut self, turn: TurnId) -> Option<Entry> {
        let entry = self.turns.remove(&turn)?;
        self.release(entry.turn.user, turn, entry.claim);
        Some(entry)
    }

    /// Frees the key, unless it stands for a later turn by now.
    fn release(&mut self, user: UserId, turn: TurnId, claim: Option<Claim>) {
        let Some(claim) = claim else { return };
        if self.claims.get(&(user, claim.key)) == Some(&turn) {
            self.claims.remove(&(user, claim.key));
        }
    }
}

impl Registered {
    /// The turn has ended so: it stays for a while if somebody may ask for it.
    pub fn ended(mut self, last: StoredTurn) {
        self.last = Some(Box::new(last));
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let (turn, last) = (self.turn, self.last.take());
        self.turns.change(|inner| match last {
            Some(last) => inner.end(*last),
            None => drop(inner.forget(turn)),
        });
    }
}
