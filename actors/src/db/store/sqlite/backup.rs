//! A copy of the whole store in one file, made beside a running service, and put back where none runs.
//!
//! Beside each copy lies its SHA-256, as `sha256sum --check` reads it. A copy has its name only once it is whole and on the
//! disk, and no name is ever taken from another file.
//!
//! # When it breaks
//!
//! What was begun is removed; after a crash a file named `….partial-…` is left, which may be deleted. A restore replaces the
//! database in one step, and what was there before stays beside it.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{self, SHA256};
use chrono::{DateTime, Utc};
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{connect, place::Place};
use crate::clock::fresh_id;

/// Why there is no copy, or nothing was put back; for the operator.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{path}: {cause}")]
    File { path: PathBuf, cause: io::Error },
    #[error("{0} is there already, and nothing is overwritten: give another name")]
    Exists(PathBuf),
    #[error("{0} is not as it was when it was made: its SHA-256 is another one")]
    Changed(PathBuf),
    #[error("{0} is damaged: {1}")]
    Damaged(PathBuf, String),
    #[error("{0} is no store of this service")]
    Foreign(PathBuf),
    #[error("a service runs on {0}: stop it first")]
    Running(PathBuf),
    #[error("the store cannot be read: {0}")]
    Store(String),
}

/// A file that is removed unless it was given its name.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // Its contents have another name by now, or are worth nothing.
        let _ = fs::remove_file(&self.0);
    }
}

/// Copies the store as it is at one moment, with all that was committed, to a new file; returns its SHA-256 in hexadecimal.
///
/// # Errors
///
/// There is no file of that name, unless it was there before.
pub async fn back_up(data_dir: &Path, to: &Path) -> Result<String, BackupError> {
    let check = check_of(to);
    for taken in [to, &check] {
        if taken.symlink_metadata().is_ok() {
            return Err(BackupError::Exists(taken.to_path_buf()));
        }
    }
    let (partial, file) = begin(to)?;
    drop(file);
    let place = Place::prepare(data_dir).map_err(|error| BackupError::Store(error.to_string()))?;
    let mut store =
        connect::options(&place.database()).create_if_missing(false).connect().await.map_err(unreadable)?;
    sqlx::query("VACUUM INTO ?")
        .bind(partial.0.display().to_string())
        .execute(&mut store)
        .await
        .map_err(unreadable)?;
    store.close().await.map_err(unreadable)?;
    examine(&partial.0, to).await?;

    let mut copy = File::open(&partial.0).map_err(at(&partial.0))?;
    copy.sync_all().map_err(at(&partial.0))?;
    let sum = sum_of(&mut copy, &mut io::sink()).map_err(at(&partial.0))?;
    // First the sum, so that there is none only where there is no copy.
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let mut line = private(&check)?;
    line.write_all(format!("{sum}  {name}\n").as_bytes())
        .and_then(|()| line.sync_all())
        .map_err(at(&check))?;
    if let Err(cause) = fs::hard_link(&partial.0, to) {
        let _ = fs::remove_file(&check);
        return Err(at(to)(cause));
    }
    drop(partial);
    sync_directory(to)?;
    Ok(sum)
}

/// Puts a copy in the place of the store; returns where the store lies now that was there before, if there was one. A copy
/// of an older schema is brought up to date by the next start.
///
/// # Errors
///
/// The store is what it was before.
pub async fn restore(
    data_dir: &Path,
    from: &Path,
    now: DateTime<Utc>,
) -> Result<Option<PathBuf>, BackupError> {
    let expected = expected_sum(from)?;
    let refused = |error: super::OpenError| match error {
        super::OpenError::InUse(path) => BackupError::Running(path),
        other => BackupError::Store(other.to_string()),
    };
    let place = Place::prepare(data_dir).map_err(refused)?;
    let _lock = place.lock().map_err(refused)?;
    let _verbs = place.lock_for_migration().await.map_err(refused)?;
    let database = place.database();

    let (partial, mut copy) = begin(&database)?;
    let mut source = File::open(from).map_err(at(from))?;
    let sum = sum_of(&mut source, &mut copy).map_err(at(&partial.0))?;
    if sum != expected {
        return Err(BackupError::Changed(from.to_path_buf()));
    }
    copy.sync_all().map_err(at(&partial.0))?;
    examine(&partial.0, from).await?;

    let before = set_aside(&database, now).await?;
    fs::rename(&partial.0, &database).map_err(at(&database))?;
    sync_directory(&database)?;
    Ok(before)
}

/// Gives the store another name beside its own, under which it is whole; nothing where it was never used.
async fn set_aside(database: &Path, now: DateTime<Utc>) -> Result<Option<PathBuf>, BackupError> {
    let length = fs::metadata(database).map_err(at(database))?.len();
    // Its log goes into the file, if the file can be read at all: it must not be taken for the copy's.
    if length > 0
        && let Ok(mut store) = connect::options(database).connect().await
    {
        let _ = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut store).await;
        let _ = store.close().await;
    }
    let aside = beside(database, &format!(".before-{}", now.format("%Y%m%dT%H%M%SZ")));
    if length > 0 {
        fs::hard_link(database, &aside).map_err(at(&aside))?;
    }
    for part in ["-wal", "-shm"] {
        match fs::rename(beside(database, part), beside(&aside, part)) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(at(&aside)(cause)),
            _ => {}
        }
    }
    Ok((length > 0).then_some(aside))
}

/// Whether the file is whole and holds what we stored; it is called `name` in what is said about it.
async fn examine(file: &Path, name: &Path) -> Result<(), BackupError> {
    let damaged = |error: sqlx::Error| BackupError::Damaged(name.to_path_buf(), error.to_string());
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(false);
    let mut copy = SqliteConnection::connect_with(&options).await.map_err(damaged)?;
    let said: Vec<String> =
        sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_all(&mut copy).await.map_err(damaged)?;
    if said != ["ok"] {
        return Err(BackupError::Damaged(name.to_path_buf(), said.join("; ")));
    }
    if !connect::is_ours(&mut copy).await {
        return Err(BackupError::Foreign(name.to_path_buf()));
    }
    copy.close().await.map_err(damaged)
}

/// What the file beside the copy says.
fn expected_sum(from: &Path) -> Result<String, BackupError> {
    let check = check_of(from);
    let said = fs::read_to_string(&check).map_err(at(&check))?;
    Ok(said.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Copies all of it; its SHA-256 in hexadecimal.
fn sum_of(source: &mut impl Read, copy: &mut impl Write) -> io::Result<String> {
    let mut sum = digest::Context::new(&SHA256);
    let mut part = vec![0; 1 << 20];
    loop {
        let length = source.read(&mut part)?;
        let Some(read) = part.get(..length).filter(|read| !read.is_empty()) else { break };
        sum.update(read);
        copy.write_all(read)?;
    }
    Ok(sum.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// An empty file of nobody else's beside the one that is to be.
fn begin(wanted: &Path) -> Result<(Partial, File), BackupError> {
    let path = beside(wanted, &format!(".partial-{}", fresh_id::<uuid::Uuid>().simple()));
    let file = private(&path)?;
    Ok((Partial(path), file))
}

fn private(path: &Path) -> Result<File, BackupError> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(at(path))
}

fn check_of(file: &Path) -> PathBuf {
    beside(file, ".sha256")
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(ending);
    name.into()
}

/// A name is on the disk when its directory is.
fn sync_directory(file: &Path) -> Result<(), BackupError> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_path_buf();
    move |cause| match cause.kind() {
        ErrorKind::AlreadyExists => BackupError::Exists(path),
        _ => BackupError::File { path, cause },
    }
}

fn unreadable(error: sqlx::Error) -> BackupError {
    BackupError::Store(error.to_string())
}
