//! The days of a report.

use chrono::{DateTime, Datelike as _, Days as Count, NaiveDate, NaiveTime, Utc};

/// The most days of one report: a leap year.
pub const DAYS_MAX: u32 = 366;
/// How many days a report has if nobody says where it begins.
pub const DAYS_DEFAULT: u32 = 30;

/// UTC days in a row, the first and the last included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days {
    first: NaiveDate,
    last: NaiveDate,
}

/// Why two days are no range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadDays {
    #[error("the first day is after the last")]
    Reversed,
    #[error("more than {DAYS_MAX} days")]
    TooMany,
}

impl Days {
    /// From one day to another. Without a last day it is `today`; without a first, [`DAYS_DEFAULT`] days end there.
    ///
    /// # Errors
    ///
    /// What is wrong with the two; tell whoever named them.
    pub fn asked(from: Option<NaiveDate>, to: Option<NaiveDate>, today: NaiveDate) -> Result<Self, BadDays> {
        let last = to.unwrap_or(today);
        let before = || last.checked_sub_days(Count::new(u64::from(DAYS_DEFAULT) - 1)).unwrap_or(last);
        let first = from.unwrap_or_else(before);
        match (last - first).num_days() {
            ..0 => Err(BadDays::Reversed),
            days if days >= i64::from(DAYS_MAX) => Err(BadDays::TooMany),
            _ => Ok(Self { first, last }),
        }
    }

    /// Reads a day such as `2026-11-30`, of the years that every database knows.
    pub fn parse_day(text: &str) -> Option<NaiveDate> {
        let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
        // Written in full, so that one day has one name.
        (day.to_string() == text && (1_970..=9_998).contains(&day.year())).then_some(day)
    }

    pub const fn first(self) -> NaiveDate {
        self.first
    }

    pub const fn last(self) -> NaiveDate {
        self.last
    }

    /// When they begin.
    pub fn since(self) -> DateTime<Utc> {
        midnight(self.first)
    }

    /// When they are over: the first instant that is none of theirs.
    pub fn until(self) -> DateTime<Utc> {
        midnight(self.last.succ_opt().unwrap_or(self.last))
    }
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}
