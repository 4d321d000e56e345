//! A copy of the whole store in one file, made beside a running service, and put back where none runs.
//!
//! Beside each copy lies its SHA-256, as `sha256sum --check` reads it. A copy has its name only once it is whole and on the
//! disk, and no name is ever taken from another file.
//!
//! # When it breaks
//!
//! What was begun is removed; after a crash a file named `….partial-…` is left, which may be deleted. A restore replaces the
//! database in one step, and what was there before stays beside it. One that fails puts back what it had moved; only a crash
//! leaves a log that could not be folded into an unreadable database beside its other name.

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
use crate::{clock::fresh_id, data_dir, digest::hex};

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
    #[error("{0} belongs to another user, who could not open what is put there: restore as that user")]
    Anothers(PathBuf),
    #[error("a service runs on {0}: stop it first")]
    Running(PathBuf),
    #[error("the store cannot be read: {0}")]
    Store(String),
}

/// A file that is removed unless it is kept.
struct Unkept {
    path: PathBuf,
    is_kept: bool,
}

impl Unkept {
    const fn new(path: PathBuf) -> Self {
        Self { path, is_kept: false }
    }

    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Unkept {
    fn drop(&mut self) {
        if !self.is_kept {
            // Its contents have another name by now, or are worth nothing.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// How what was written is brought to the disk.
type ToDisk = fn(&File) -> io::Result<()>;

/// Copies the store as it is at one moment, with all that was committed, to a new file; returns its SHA-256 in hexadecimal.
///
/// # Errors
///
/// There is neither a copy nor a sum of that name, unless it was there before.
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
        .bind(partial.path.display().to_string())
        .execute(&mut store)
        .await
        .map_err(unreadable)?;
    store.close().await.map_err(unreadable)?;
    examine(&partial.path, to).await?;
    publish(partial, to, File::sync_all)
}

/// Gives a copy that is whole its name, and its sum beside it: both or neither.
fn publish(partial: Unkept, to: &Path, sync: ToDisk) -> Result<String, BackupError> {
    let mut copy = File::open(&partial.path).map_err(at(&partial.path))?;
    sync(&copy).map_err(at(&partial.path))?;
    let sum = sum_of(&mut copy, &mut io::sink()).map_err(at(&partial.path))?;
    // First the sum, so that there is none only where there is no copy.
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let mut line = private(&check_of(to))?;
    let check = Unkept::new(check_of(to));
    line.write_all(format!("{sum}  {name}\n").as_bytes())
        .and_then(|()| sync(&line))
        .map_err(at(&check.path))?;
    fs::hard_link(&partial.path, to).map_err(at(to))?;
    let copy = Unkept::new(to.to_path_buf());
    drop(partial);
    sync_directory(to, sync)?;
    copy.keep();
    check.keep();
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
    if data_dir::is_anothers(data_dir) {
        return Err(BackupError::Anothers(data_dir.to_path_buf()));
    }
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
    let sum = sum_of(&mut source, &mut copy).map_err(at(&partial.path))?;
    if sum != expected {
        return Err(BackupError::Changed(from.to_path_buf()));
    }
    copy.sync_all().map_err(at(&partial.path))?;
    examine(&partial.path, from).await?;
    fold_log(&database).await;
    replace(&database, &partial, now, File::sync_all)
}

/// Brings the store's log into its file, if the file can be read at all: it must not be taken for the copy's.
async fn fold_log(database: &Path) {
    if fs::metadata(database).is_ok_and(|file| file.len() > 0)
        && let Ok(mut store) = connect::options(database).connect().await
    {
        let _ = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut store).await;
        let _ = store.close().await;
    }
}

/// Puts a file that is whole in the place of the store; returns the other name of what was there.
fn replace(
    database: &Path,
    by: &Unkept,
    now: DateTime<Utc>,
    sync: ToDisk,
) -> Result<Option<PathBuf>, BackupError> {
    let before = set_aside(database, now)?;
    fs::rename(&by.path, database).map_err(at(database))?;
    sync_directory(database, sync)?;
    Ok(before.keep())
}

/// The store under another name, put back unless it is kept.
struct Aside {
    database: PathBuf,
    /// What it was called meanwhile; `None` once that is kept.
    name: Option<PathBuf>,
    was_used: bool,
    /// Endings of what was moved with it.
    moved: Vec<&'static str>,
}

impl Aside {
    /// What it is called from now on, if there was anything.
    fn keep(mut self) -> Option<PathBuf> {
        self.name.take().filter(|_| self.was_used)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else { return };
        if self.was_used {
            // Where both are names of one file, nothing is renamed, and one name is too many.
            let _ = fs::rename(&name, &self.database).and_then(|()| fs::remove_file(&name));
        } else {
            let _ = OpenOptions::new().write(true).truncate(true).open(&self.database);
        }
        for part in &self.moved {
            let _ = fs::rename(beside(&name, part), beside(&self.database, part));
        }
    }
}

/// Gives the store another name beside its own, under which it is whole; nothing where it was never used.
fn set_aside(database: &Path, now: DateTime<Utc>) -> Result<Aside, BackupError> {
    let length = fs::metadata(database).map_err(at(database))?.len();
    let name = beside(database, &format!(".before-{}", now.format("%Y%m%dT%H%M%SZ")));
    if length > 0 {
        fs::hard_link(database, &name).map_err(at(&name))?;
    }
    let mut aside = Aside {
        database: database.to_path_buf(),
        name: Some(name.clone()),
        was_used: length > 0,
        moved: Vec::new(),
    };
    for part in ["-wal", "-shm"] {
        match fs::rename(beside(database, part), beside(&name, part)) {
            Ok(()) => aside.moved.push(part),
            Err(cause) if cause.kind() == ErrorKind::NotFound => {}
            Err(cause) => return Err(at(&name)(cause)),
        }
    }
    Ok(aside)
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
    Ok(hex(sum.finish()))
}

/// An empty file of nobody else's beside the one that is to be.
fn begin(wanted: &Path) -> Result<(Unkept, File), BackupError> {
    let path = beside(wanted, &format!(".partial-{}", fresh_id::<uuid::Uuid>().simple()));
    let file = private(&path)?;
    Ok((Unkept::new(path), file))
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
fn sync_directory(file: &Path, sync: ToDisk) -> Result<(), BackupError> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| sync(&dir)).map_err(at(dir))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A directory of its own, gone with it.
    struct Directory(PathBuf);

    impl Directory {
        fn with(files: &[(&str, &str)]) -> Self {
            let path = std::env::temp_dir().join(format!("backup-{}", fresh_id::<uuid::Uuid>()));
            fs::create_dir(&path).unwrap();
            for (name, text) in files {
                fs::write(path.join(name), text).unwrap();
            }
            Self(path)
        }

        fn unkept(&self, name: &str) -> Unkept {
            Unkept::new(self.0.join(name))
        }

        fn files(&self) -> BTreeMap<String, String> {
            let read = |entry: io::Result<fs::DirEntry>| {
                let entry = entry.unwrap();
                (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
            };
            fs::read_dir(&self.0).unwrap().map(read).collect()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn fails(_: &File) -> io::Result<()> {
        Err(ErrorKind::StorageFull.into())
    }

    fn fails_on_the_sum(file: &File) -> io::Result<()> {
        // It alone was opened for writing.
        if file.set_len(0).is_ok() { fails(file) } else { Ok(()) }
    }

    fn fails_on_directories(file: &File) -> io::Result<()> {
        if file.metadata()?.is_dir() { fails(file) } else { Ok(()) }
    }

    #[test]
    fn e08_a_backup_that_fails_at_the_disk_leaves_neither_copy_nor_sum() {
        for sync in [fails as ToDisk, fails_on_the_sum, fails_on_directories] {
            let place = Directory::with(&[("a.partial", "all of it")]);
            let failed = publish(place.unkept("a.partial"), &place.0.join("a.db"), sync);
            assert!(matches!(failed, Err(BackupError::File { .. })), "{failed:?}");
            assert_eq!(place.files(), BTreeMap::new());
        }
        let place = Directory::with(&[("a.partial", "all of it")]);
        publish(place.unkept("a.partial"), &place.0.join("a.db"), File::sync_all).unwrap();
        assert_eq!(place.files().into_keys().collect::<Vec<_>>(), ["a.db", "a.db.sha256"]);
    }

    #[test]
    fn e08_a_backup_takes_neither_name_of_another_file() {
        for taken in ["a.db", "a.db.sha256"] {
            let place = Directory::with(&[("a.partial", "all of it"), (taken, "theirs")]);
            let failed = publish(place.unkept("a.partial"), &place.0.join("a.db"), File::sync_all);
            assert!(matches!(failed, Err(BackupError::Exists(_))), "{failed:?}");
            assert_eq!(place.files(), BTreeMap::from([(taken.to_owned(), "theirs".to_owned())]));
        }
    }

    #[test]
    fn e08_a_restore_that_fails_leaves_the_store_and_its_log_as_they_were() {
        // With a log that could not go into it.
        let unreadable = [("a.db", "the store"), ("a.db-wal", "its log"), ("a.db-shm", "its index")];
        let unused = [("a.db", ""), ("a.db-wal", "its log")];
        let now = DateTime::UNIX_EPOCH;
        for before in [&unreadable[..], &unused] {
            let place = Directory::with(before);
            let (database, before) = (place.0.join("a.db"), place.files());
            let missing = replace(&database, &place.unkept("missing"), now, File::sync_all);
            assert!(matches!(missing, Err(BackupError::File { .. })), "{missing:?}");
            assert_eq!(place.files(), before, "before the copy had the name");

            fs::write(place.0.join("copy"), "the copy").unwrap();
            let unsynced = replace(&database, &place.unkept("copy"), now, fails);
            assert!(matches!(unsynced, Err(BackupError::File { .. })), "{unsynced:?}");
            assert_eq!(place.files(), before, "after it");
        }
        let place = Directory::with(&unreadable);
        fs::write(place.0.join("copy"), "the copy").unwrap();
        let aside = replace(&place.0.join("a.db"), &place.unkept("copy"), now, File::sync_all).unwrap();
        let name = "a.db.before-19700101T000000Z";
        assert_eq!(aside, Some(place.0.join(name)));
        let expected = [
            ("a.db".to_owned(), "the copy"),
            (name.to_owned(), "the store"),
            (format!("{name}-shm"), "its index"),
            (format!("{name}-wal"), "its log"),
        ];
        assert_eq!(place.files(), expected.map(|(name, text)| (name, text.to_owned())).into());
    }
}
