//! Requests with the same `Idempotency-Key` come in one after another, so that the first begins the turn and the others find it.
//!
//! Across instances the store decides; here nobody pays, queues or asks the store for what a neighbour is just beginning.

use std::{collections::HashMap, sync::Arc};

use domain::{id::UserId, turn::Claim};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ModelError;
use crate::digest::sha256;

/// Keys with a request that is being let in.
const KEYS_MAX: usize = 4_096;

/// Requests of one key that are being let in or wait for it; they wait no longer than their callers do.
const IN_LINE_MAX: usize = 64;

type Key = (UserId, [u8; 32]);

/// One line for each key, while there is anybody in it.
#[derive(Default)]
pub(super) struct Lines(Mutex<HashMap<Key, Arc<Semaphore>>>);

/// The only request of its key that is being let in; dropping it lets the next one in.
pub struct LetIn {
    /// Goes first, so that whoever leaves last finds the line held by nobody.
    _pass: OwnedSemaphorePermit,
    _place: Place,
}

/// Somebody in line; the last to leave takes the line away.
struct Place {
    lines: Arc<Lines>,
    key: Key,
}

/// What a key and a body are remembered by.
pub fn claim_of(key: &[u8], body: &[u8]) -> Claim {
    Claim { key: sha256(key), request: sha256(body) }
}

impl Lines {
    /// Waits until every earlier request of this key has been let in.
    ///
    /// # Errors
    ///
    /// [`ModelError::NoRoom`]: too many wait already.
    pub async fn line_up(self: &Arc<Self>, user: UserId, claim: Claim) -> Result<LetIn, ModelError> {
        let key = (user, claim.key);
        let (place, line) = self.join(key)?;
        // Nobody closes it.
        let pass = line.acquire_owned().await.map_err(|_| ModelError::ShuttingDown)?;
        Ok(LetIn { _pass: pass, _place: place })
    }

    fn join(self: &Arc<Self>, key: Key) -> Result<(Place, Arc<Semaphore>), ModelError> {
        let mut lines = self.0.lock();
        if lines.len() >= KEYS_MAX && !lines.contains_key(&key) {
            return Err(ModelError::NoRoom("too many requests with an Idempotency-Key are being let in"));
        }
        let line = lines.entry(key).or_insert_with(|| Arc::new(Semaphore::new(1)));
        // Each in it holds it once, and so does the map.
        if Arc::strong_count(line) > IN_LINE_MAX {
            return Err(ModelError::NoRoom("too many requests of one Idempotency-Key wait"));
        }
        Ok((Place { lines: self.clone(), key }, line.clone()))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.lines.0.lock();
        if lines.get(&self.key).is_some_and(|line| Arc::strong_count(line) == 1) {
            lines.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::clock::fresh_id;

    #[tokio::test]
    async fn requests_of_one_key_come_in_one_by_one_and_leave_no_line_behind() {
        let lines = Arc::new(Lines::default());
        let (ada, eve) = (fresh_id(), fresh_id());
        let claim = claim_of(b"k", b"{}");
        let first = lines.line_up(ada, claim).await.unwrap();
        let mut second = Box::pin(lines.line_up(ada, claim));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(lines.line_up(eve, claim).now_or_never().is_some(), "another user's key is another key");
        assert!(lines.line_up(ada, claim_of(b"l", b"{}")).now_or_never().is_some());
        drop(first);
        let second = second.await.unwrap();
        let gave_up = Box::pin(lines.line_up(ada, claim));
        drop(gave_up);
        drop(second);
        assert_eq!(lines.len(), 0);
    }

    #[tokio::test]
    async fn a_line_has_an_end() {
        let lines = Arc::new(Lines::default());
        let (user, claim) = (fresh_id(), claim_of(b"k", b"{}"));
        let mut waiting: Vec<_> = (0..IN_LINE_MAX).map(|_| Box::pin(lines.line_up(user, claim))).collect();
        let _first = waiting[0].as_mut().now_or_never().unwrap().unwrap();
        assert!(waiting[1..].iter_mut().all(|one| one.as_mut().now_or_never().is_none()));
        assert!(matches!(lines.line_up(user, claim).await, Err(ModelError::NoRoom(_))));
    }

    #[test]
    fn a_claim_tells_keys_and_bodies_apart() {
        let claim = claim_of(b"key", b"body");
        assert_eq!(claim, claim_of(b"key", b"body"));
        assert_ne!(claim.key, claim_of(b"kez", b"body").key);
        assert_ne!(claim.request, claim_of(b"key", b"bodies").request);
    }
}
