//! Rows on their way out: from columns to what they mean.
//!
//! A value no version of this service writes is [`DbError::Broken`], naming the column and never the value.

mod accounts;
mod grants;
mod messages;
mod trail;
mod turns;
mod usage;

pub(super) use self::{
    accounts::{AccountColumns, SessionColumns, UserColumns, patterns},
    grants::{ApiKeyColumns, InviteColumns, SigningKeyColumns, hash},
    messages::MessageColumns,
    trail::AuditColumns,
    turns::TurnColumns,
    usage::{GroupColumns, LedgerColumns},
};
use crate::db::DbError;

pub(super) fn broken(column: &str) -> DbError {
    DbError::Broken(format!("unreadable value in {column}"))
}

/// Reads a value that its own type knows how to parse.
fn parsed<T: std::str::FromStr>(text: Option<&str>, column: &str) -> Result<Option<T>, DbError> {
    text.map(|text| text.parse().map_err(|_| broken(column))).transpose()
}
