//! What a database error means to a caller.

use sqlx::error::{DatabaseError, ErrorKind};

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

fn from_database(error: &dyn DatabaseError) -> DbError {
    // The text of a database error may quote a row; its code never does.
    let code = error.code().unwrap_or_default();
    match error.kind() {
        ErrorKind::UniqueViolation => DbError::Conflict("row"),
        ErrorKind::ForeignKeyViolation => DbError::NotFound,
        // Cancelled by the statement's limit, or by the limit on waiting for a lock.
        _ if ["57014", "55P03"].contains(&code.as_ref()) => DbError::Timeout,
        _ if LOST_RACE.contains(&code.as_ref()) => DbError::LOST_RACE,
        _ if postgres_is_away(&code) || sqlite_is_away(&code) => {
            DbError::Unavailable(format!("database error {code}{}", in_words(&code)))
        }
        _ => DbError::Broken(format!("database error {code}")),
    }
}

/// Serialization failure and deadlock: somebody else's change came first.
const LOST_RACE: [&str; 2] = ["40001", "40P01"];

/// Connection lost, resources exhausted, going down or starting up; or a standby, which reads but does not write, or a role
/// without the rights.
fn postgres_is_away(code: &str) -> bool {
    code.len() == 5
        && (["08", "53", "57"].iter().any(|class| code.starts_with(class))
            || ["25006", "42501"].contains(&code))
}

/// What an operator can do something about, said in the log.
fn in_words(code: &str) -> &'static str {
    match code {
        "25006" => " (it is read-only: a standby?)",
        "42501" => " (the role lacks a right: see deploy/postgres/roles.sql)",
        "53100" => " (its disk is full)",
        "53300" => " (it has no connection left)",
        _ => match code.parse::<u32>().map(|code| code & 0xff) {
            Ok(8) if code.len() < 5 => " (the file is read-only)",
            Ok(10) if code.len() < 5 => " (the disk fails)",
            Ok(13) if code.len() < 5 => " (the disk is full)",
            _ => "",
        },
    }
}

/// Busy, locked, out of memory, read-only, I/O error, full or not to be opened: the file's fault, not the statement's.
fn sqlite_is_away(code: &str) -> bool {
    // An extended code carries the primary one in its low byte.
    code.len() < 5 && code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5..=8 | 10 | 13 | 14))
}
