//! One file of the spill: appended to, read, and removed as a whole, by the one process that holds its lock.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use crate::{clock::fresh_id, data_dir};

/// What files in use are called by.
pub(super) const ENDING: &str = "spill";
/// What files are called by that hold what the database refused; nobody touches them.
pub(super) const REFUSED: &str = "refused";
/// What files are called by that are made to see whether they can be.
pub(super) const TRIAL: &str = "trial";
/// What files are called by that hold something which cannot be read; nobody touches them.
const ASIDE: &str = "unread";
/// Attempts to make a file that nobody adopts before it is locked.
const CREATE_TRIES: usize = 3;

/// Locked for as long as it lives.
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    /// How much of it is on the disk.
    pub(super) bytes: u64,
    pub(super) records: usize,
    /// How many of its first records the database has.
    pub(super) replayed: usize,
    /// Whether all of it could be read; what is torn off at the end does not count.
    pub(super) is_whole: bool,
}

impl Segment {
    /// Makes an empty file of this ending in `dir`, which is known to the disk when this returns.
    pub(super) fn create(dir: &Path, ending: &str) -> io::Result<Self> {
        for _ in 0..CREATE_TRIES {
            let path = dir.join(fresh_id::<Uuid>().to_string()).with_extension(ending);
            let mut options = OpenOptions::new();
            let file = options.read(true).append(true).create_new(true).mode(0o600).open(&path)?;
            // Before it is locked, a start may adopt it, find nothing in it and remove it.
            if is_locked(&file)? {
                sync_dir(dir)?;
                return Ok(Self { path, file, bytes: 0, records: 0, replayed: 0, is_whole: true });
            }
        }
        Err(io::Error::other("every new file was adopted by somebody else"))
    }

    /// Files of this ending in `dir`, from old to new.
    pub(super) fn list(dir: &Path, ending: &str) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        let mut paths: Vec<_> =
            paths.into_iter().filter(|path| path.extension().is_some_and(|found| found == ending)).collect();
        // Their names sort by the time of their making.
        paths.sort();
        Ok(paths)
    }

    /// Takes over a file whose owner is gone; `None` if it is not, or the file is.
    pub(super) fn adopt(path: PathBuf) -> io::Result<Option<Self>> {
        let file = match OpenOptions::new().read(true).append(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        if !is_locked(&file)? {
            return Ok(None);
        }
        data_dir::tighten(&file, &path)?;
        let bytes = file.metadata()?.len();
        Ok(Some(Self { path, file, bytes, records: 0, replayed: 0, is_whole: true }))
    }

    /// Appends `frames` and returns when they are on the disk; after an error none of them are, and nothing more may be
    /// appended.
    pub(super) fn append(&mut self, frames: &[&[u8]], records: usize) -> io::Result<()> {
        let appended = frames.iter().try_for_each(|frame| self.file.write_all(frame));
        if let Err(error) = appended.and_then(|()| self.file.sync_data()) {
            // If this fails, too, half a record stays, which reads as torn off; a whole one would be written twice to the
            // database, which is as good as once.
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += frames.iter().map(|frame| frame.len() as u64).sum::<u64>();
        self.records += records;
        Ok(())
    }

    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        fs::read(&self.path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The database has all of it. Should the removal not reach the disk, it is replayed once more.
    pub(super) fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }

    /// Leaves it for somebody who can read it, under a name that nobody adopts; returns that.
    pub(super) fn set_aside(self) -> io::Result<PathBuf> {
        let aside = self.path.with_extension(ASIDE);
        fs::rename(&self.path, &aside)?;
        Ok(aside)
    }
}

/// Makes the names in a directory as lasting as what they name.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Locks a file that still has a name; says whether it is ours now.
fn is_locked(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(file.metadata()?.nlink() > 0),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_full_takes_nothing_and_says_so() {
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let path = PathBuf::from("/dev/full");
        let mut segment = Segment { path, file, bytes: 0, records: 0, replayed: 0, is_whole: true };
        let refused = segment.append(&[b"a record"], 1).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::StorageFull);
        assert_eq!((segment.bytes, segment.records), (0, 0));
    }
}
