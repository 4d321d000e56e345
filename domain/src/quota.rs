//! Rate limiting arithmetic: exact GCRA in integers; the clock is an argument.
//!
//! GCRA keeps one number per key, the *theoretical arrival time* (TAT): when the bucket would be full again. Spending
//! pushes it into the future, time passing catches up with it. One permit is worth `period / permits`, which is rarely a
//! whole number of microseconds; so time is counted in units of `1 / permits` µs, in which one permit is worth exactly
//! `period`. Nothing is ever divided on the way in, so no fraction is lost.
//!
//! ```text
//!            now                    TAT                      now + burst                  now + 2 bursts
//!  ───────────┼──────────────────────┼─────────────────────────┼─────────────────────────────┼────▶ time × permits
//!             ╰─ spent, flowing back ─╯╰──── can be spent ──────╯╰───── debt, if TAT is here ──╯
//! ```
//!
//! What something costs may be known only when it is over. Then a guess is taken first and corrected by [`Quota::settle`]:
//! what was too much is given back, what was too little is spent without asking. So a bucket may come to owe as much as it
//! holds, and what it would owe beyond that is forgiven. While it owes, nothing is admitted.
//!
//! # When the clock breaks
//!
//! A step back can neither lock a caller out for longer than a bucket of the deepest debt takes to refill (two bursts), nor
//! forgive more than the length of the step. A step forward refills at most that.

#[cfg(test)]
mod tests;

use std::time::Duration;

/// Returned as [`Verdict::retry_after`] when waiting cannot help: the cost is more than the bucket ever holds.
pub const NEVER: Duration = Duration::MAX;

/// A point in time, in microseconds since an origin that the caller keeps fixed for the life of its buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

/// What a key has spent. Starts full.
///
/// Means something only together with the [`Quota`] it was made under, since it counts in that quota's units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bucket {
    /// When it is full again, in µs × permits.
    tat: u128,
}

/// `permits` per `period`, with `burst` at once.
///
/// No permits or no burst means that nothing is ever admitted beyond what is in the bucket; a period below one
/// microsecond means no limit on the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    pub permits: u32,
    pub period: Duration,
    pub burst: u32,
}

/// What a bucket answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub quota: Quota,
    /// Whether the cost was spent. A refusal costs nothing.
    pub allowed: bool,
    /// How much can be spent at once right now, after this decision.
    pub remaining: u32,
    /// Until the same cost would be admitted, in whole microseconds and exact; zero when `allowed`, [`NEVER`] when waiting
    /// does not help.
    pub retry_after: Duration,
    /// Until the bucket is full again; [`NEVER`] when it does not refill.
    pub reset_after: Duration,
}

/// A span of time, or a point in it, exact in the units of a [`Quota`]: for stores whose numbers are too small for the
/// product of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub micros: u64,
    /// In units of `1 / permits` µs, less than one µs.
    pub part: u32,
}

impl Quota {
    /// How long `cost` takes to flow back; `None` for ever.
    pub fn price(&self, cost: u32) -> Option<Span> {
        let price = self.period.as_micros() * u128::from(cost);
        let permits = u128::from(self.permits);
        let micros = u64::try_from(price.checked_div(permits)?).unwrap_or(u64::MAX);
        let part = u32::try_from(price.checked_rem(permits)?).ok()?;
        Some(Span { micros, part })
    }

    /// The bucket that is full again at this point in time.
    pub fn bucket(&self, full_at: Span) -> Bucket {
        Bucket { tat: self.scaled(Micros(full_at.micros)) + u128::from(full_at.part) }
    }

    /// Spends `cost` from `bucket`, if it holds that much. A bucket that owes refuses even what costs nothing.
    pub fn take(&self, bucket: &mut Bucket, now: Micros, cost: u32) -> Verdict {
        // The largest sum here stays below 2^119: no step can overflow.
        let start = self.scaled(now);
        let permit = self.period.as_micros();
        let capacity = permit * u128::from(self.burst);
        // Further ahead is only possible after the clock stepped back.
        let tat = bucket.tat.clamp(start, start + 2 * capacity);
        let spent = tat + permit * u128::from(cost);
        let allowed = cost <= self.burst && spent <= start + capacity;
        let tat = if allowed { spent } else { tat };
        let left = (start + capacity).saturating_sub(tat);
        let remaining = left.checked_div(permit).map_or(self.burst, |whole| {
            // Never above `burst`, so it fits.
            u32::try_from(whole).unwrap_or(self.burst)
        });
        let retry_after = if allowed {
            Duration::ZERO
        } else if cost > self.burst {
            NEVER
        } else {
            self.until(spent - capacity, now)
        };
        bucket.tat = tat;
        Verdict { quota: *self, allowed, remaining, retry_after, reset_after: self.until(tat, now) }
    }

    /// Lets what was taken as `reserved` cost what it really `spent`: gives the difference back, though a bucket is never
    /// fuller than full, or spends it as well, though a bucket never owes more than a burst.
    pub fn settle(&self, bucket: &mut Bucket, now: Micros, reserved: u32, spent: u32) {
        let start = self.scaled(now);
        let permit = self.period.as_micros();
        let deepest = start + 2 * permit * u128::from(self.burst);
        let tat = bucket.tat.clamp(start, deepest);
        let difference = permit * u128::from(reserved.abs_diff(spent));
        let settled = if spent <= reserved { tat.saturating_sub(difference) } else { tat + difference };
        bucket.tat = settled.clamp(start, deepest);
    }

    /// Whether forgetting `bucket` would change no later decision.
    pub fn is_full(&self, bucket: &Bucket, now: Micros) -> bool {
        bucket.tat <= self.scaled(now)
    }

    fn scaled(&self, at: Micros) -> u128 {
        u128::from(at.0) * u128::from(self.permits)
    }

    /// The wait until the clock, scaled, has reached `target`.
    fn until(&self, target: u128, now: Micros) -> Duration {
        if target <= self.scaled(now) {
            return Duration::ZERO;
        }
        if self.permits == 0 {
            return NEVER;
        }
        let micros = target.div_ceil(u128::from(self.permits)) - u128::from(now.0);
        u64::try_from(micros).map_or(NEVER, Duration::from_micros)
    }
}
