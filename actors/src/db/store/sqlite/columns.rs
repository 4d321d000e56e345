//! Reading columns: times are microseconds since 1970.

use chrono::{DateTime, Utc};
use sqlx::{Row, sqlite::SqliteRow};

use crate::db::{DbError, store::stored::broken};

pub(super) fn time(row: &SqliteRow, column: &str) -> Result<DateTime<Utc>, DbError> {
    DateTime::from_timestamp_micros(row.try_get(column)?).ok_or_else(|| broken(column))
}

pub(super) fn optional_time(row: &SqliteRow, column: &str) -> Result<Option<DateTime<Utc>>, DbError> {
    let micros: Option<i64> = row.try_get(column)?;
    micros.map(|micros| DateTime::from_timestamp_micros(micros).ok_or_else(|| broken(column))).transpose()
}
