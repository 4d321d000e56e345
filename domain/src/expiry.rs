//! When a key or an invite ends, if whoever makes it says so.

use chrono::{DateTime, TimeDelta, Utc};

/// Longest life of what ends at all, in days: ten years. Whoever needs longer wants no end.
pub const LIFE_DAYS_MAX: u16 = 3_650;

/// What is wrong with this end, for the person who chose it.
pub fn fault(end: DateTime<Utc>, now: DateTime<Utc>) -> Option<&'static str> {
    if end <= now {
        return Some("this time has passed");
    }
    let is_too_far = end - now > TimeDelta::days(LIFE_DAYS_MAX.into());
    is_too_far.then_some("use at most ten years, or leave it out")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_after_now_and_within_ten_years() {
        let now = DateTime::UNIX_EPOCH;
        let (moment, longest) = (TimeDelta::microseconds(1), TimeDelta::days(3_650));
        for fit in [now + moment, now + longest] {
            assert_eq!(fault(fit, now), None, "{fit}");
        }
        for unfit in [now - moment, now, now + longest + moment] {
            assert!(fault(unfit, now).is_some(), "{unfit}");
        }
    }
}
