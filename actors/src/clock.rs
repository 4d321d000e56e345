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

/// Makes an identity that also sorts after `other`, which an instance may have made whose clock is ahead of ours: its time
/// is that one's and a millisecond.
pub fn fresh_id_after<Id: From<Uuid>>(other: Uuid) -> Id {
    /// The time stands in the first 48 of 128 bits.
    const RANDOM_BITS: u32 = 80;
    let fresh = Uuid::now_v7();
    if fresh > other {
        return Id::from(fresh);
    }
    let (time, random) = (other.as_u128() >> RANDOM_BITS, fresh.as_u128() & ((1 << RANDOM_BITS) - 1));
    Id::from(Uuid::from_u128(((time + 1) << RANDOM_BITS) | random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_sorts_after_one_of_a_clock_that_is_ahead() {
        let ours: Uuid = fresh_id();
        assert!(fresh_id_after::<Uuid>(ours) > ours);
        let (ahead, version) = (Uuid::from_u128(ours.as_u128() + (60_000 << 80)), ours.get_version());
        let mut last = ahead;
        for _ in 0..1_000 {
            let next: Uuid = fresh_id_after(last);
            assert!(next > last && next.get_version() == version, "{next} after {last}");
            last = next;
        }
        let time = |id: Uuid| id.as_u128() >> 80;
        assert_eq!(time(last) - time(ahead), 1_000);
        assert_ne!(fresh_id_after::<Uuid>(ahead), fresh_id_after::<Uuid>(ahead));
    }
}
