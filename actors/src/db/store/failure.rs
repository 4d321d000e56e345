//! What a database error means to a caller: the one place that judges the errors of both stores.
//!
//! Either the change is at fault, and nothing helps it, or the database is, and the same change may fare better later. An end of
//! a turn that is taken for the former is given up, so whatever says nothing about the change itself counts as the latter.

use sqlx::{
    error::{DatabaseError, ErrorKind},
    postgres::{PgDatabaseError, PgSeverity},
};

use crate::db::DbError;

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => from_database(database.as_ref()),
            sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => Self::Unavailable(error.to_string()),
            _ => Self::Broken(error.to_string()),
        }
    }
}

/// Why there is no connection. Nothing was asked yet, so nothing that was to be asked is at fault: not by a wrong password, a
/// database that is gone or a server that has no place left either.
pub(super) fn not_let_in(error: &sqlx::Error) -> DbError {
    DbError::Away(match error {
        sqlx::Error::Database(database) => in_words(&database.code().unwrap_or_default()),
        other => other.to_string(),
    })
}

fn from_database(error: &dyn DatabaseError) -> DbError {
    let code = error.code().unwrap_or_default();
    match error.kind() {
        ErrorKind::UniqueViolation => DbError::Conflict("row"),
        ErrorKind::ForeignKeyViolation => DbError::NotFound,
        // Cancelled by the statement's limit, or by the limit on waiting for a lock.
        _ if ["57014", "55P03"].contains(&code.as_ref()) => DbError::Timeout,
        _ if LOST_RACE.contains(&code.as_ref()) => DbError::LOST_RACE,
        _ if ends_the_session(error) || postgres_is_away(&code) || sqlite_is_away(&code) => {
            DbError::Unavailable(in_words(&code))
        }
        _ => DbError::Broken(in_words(&code)),
    }
}

/// Serialization failure and deadlock: somebody else's change came first.
const LOST_RACE: [&str; 2] = ["40001", "40P01"];

/// Whether the server had done with us, whatever was asked: no statement ends a session.
fn ends_the_session(error: &dyn DatabaseError) -> bool {
    error
        .try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

/// Connection lost, resources exhausted, going down or starting up, or a failing disk; a standby, which reads but does not write, a
/// role without the rights, or a database without our tables, which somebody is putting back.
fn postgres_is_away(code: &str) -> bool {
    code.len() == 5
        && (["08", "28", "53", "57", "58"].iter().any(|class| code.starts_with(class))
            || ["25006", "3D000", "42501", "42P01"].contains(&code))
}

/// The text of a database error may quote a row; its code never does. With it goes what an operator can do something about.
fn in_words(code: &str) -> String {
    let meaning = match code {
        "25006" => "it is read-only: a standby?",
        "28000" => "it does not let the role in: see its LOGIN, and pg_hba.conf",
        "28P01" => "wrong password: was the role's changed?",
        "3D000" => "there is no such database",
        "42501" => "the role lacks a right: see deploy/postgres/roles.sql",
        "42P01" => "a table is missing: is it being restored, or another database?",
        "53100" => "its disk is full",
        "53300" => "it has no connection left",
        "55000" => "it takes no connections, or is in no state for this",
        "57P01" | "57P02" => "it ended the session",
        "57P03" => "it is starting up or shutting down",
        "58030" => "its disk fails",
        _ => match code.parse::<u32>().map(|code| code & 0xff) {
            Ok(8) if code.len() < 5 => "the file is read-only",
            Ok(10) if code.len() < 5 => "the disk fails",
            Ok(13) if code.len() < 5 => "the disk is full",
            Ok(14) if code.len() < 5 => "the file cannot be opened",
            _ => return format!("database error {code}"),
        },
    };
    format!("database error {code} ({meaning})")
}

/// Busy, locked, out of memory, read-only, I/O error, full or not to be opened: the file's fault, not the statement's.
fn sqlite_is_away(code: &str) -> bool {
    // An extended code carries the primary one in its low byte.
    code.len() < 5 && code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5..=8 | 10 | 13 | 14))
}
