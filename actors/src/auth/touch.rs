//! When sessions and keys were last used, on its way to the store.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use domain::id::{ApiKeyId, SessionId};

use super::truth::{State, Subject, Truth};
use crate::db::{DbHandle, Touched};

/// Uses that wait to be written; more are dropped, and come again if they matter.
const NOTED: usize = 65_536;

/// Uses written at a time: nobody else's write waits long behind them.
const BATCH: usize = 1_000;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Used {
    Session(SessionId),
    Key(ApiKeyId),
}

#[derive(Default)]
pub(super) struct Uses(HashMap<Used, DateTime<Utc>>);

impl Uses {
    /// Notes that somebody just showed what `truth` is about, if it lives.
    pub(super) fn note(&mut self, subject: Subject, truth: &Truth, now: DateTime<Utc>) {
        let used = match (subject, &truth.state) {
            (Subject::Session(session), State::Session { .. }) => Used::Session(session),
            (Subject::Key(_), State::Key { id, expires_at, .. })
                if expires_at.is_none_or(|end| now < end) =>
            {
                Used::Key(*id)
            }
            _ => return,
        };
        if self.0.len() < NOTED || self.0.contains_key(&used) {
            self.0.insert(used, now);
        }
    }

    /// Tells the store, which may be away: these are then lost.
    pub(super) async fn tell(self, db: DbHandle) {
        for batch in self.into_batches() {
            if let Err(error) = db.touch(batch).await {
                tracing::debug!(%error, "auth.touch.failed");
                return;
            }
        }
    }

    fn into_batches(self) -> Vec<Touched> {
        let uses: Vec<_> = self.0.into_iter().collect();
        let touched = |uses: &[(Used, DateTime<Utc>)]| {
            let mut touched = Touched::default();
            for (used, at) in uses {
                match used {
                    Used::Session(id) => touched.sessions.push((*id, *at)),
                    Used::Key(id) => touched.keys.push((*id, *at)),
                }
            }
            touched
        };
        uses.chunks(BATCH).map(touched).collect()
    }
}

#[cfg(test)]
mod tests {
    use domain::{id::UserId, limits::Limits, principal::Role};
    use tokio::time::Instant;

    use super::*;
    use crate::clock::fresh_id;

    #[test]
    fn a15_uses_are_bounded_as_a_whole_and_in_what_is_written_at_a_time() {
        let user: UserId = fresh_id();
        let state = State::Session {
            user,
            role: Role::User,
            limits: Limits::default(),
            models: None,
            counter: 0,
            min_epoch: 0,
        };
        let truth = Truth { state, as_of: Instant::now() };
        let at = |seconds: i64| DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        let first = Subject::Session(fresh_id());
        let mut uses = Uses::default();
        uses.note(first, &truth, at(0));
        for _ in 0..NOTED + 100 {
            uses.note(Subject::Session(fresh_id()), &truth, at(0));
        }
        uses.note(first, &truth, at(9));
        let batches = uses.into_batches();
        assert!(batches.iter().all(|batch| batch.sessions.len() <= BATCH && batch.keys.is_empty()));
        let uses: Vec<_> = batches.into_iter().flat_map(|batch| batch.sessions).collect();
        assert_eq!(uses.len(), NOTED);
        let of_first: Vec<_> = uses.iter().filter(|(id, _)| Subject::Session(*id) == first).collect();
        assert!(matches!(of_first[..], [(_, last)] if *last == at(9)), "{of_first:?}");
    }
}
