//! When something ends, as requests say it.

use actors::clock::Clock;
use chrono::{DateTime, TimeDelta, Utc};
use domain::expiry::LIFE_DAYS_MAX;

use crate::http::ApiError;

/// The end that is so many days away.
///
/// # Errors
///
/// 422 unless it is 1 to [`LIFE_DAYS_MAX`] days away.
pub(super) fn in_days(days: u32, clock: &Clock) -> Result<DateTime<Utc>, ApiError> {
    if !(1..=LIFE_DAYS_MAX.into()).contains(&days) {
        let message = format!("give a number of days from 1 to {LIFE_DAYS_MAX}");
        return Err(ApiError::unfit(message).at("expires_in_days"));
    }
    Ok(clock.now() + TimeDelta::days(days.into()))
}
