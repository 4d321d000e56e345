//! The files of one process: one that grows, and those before it, which are replayed from the oldest on and removed.
//!
//! Everything here waits for the disk, so it runs on the blocking pool.

use std::{collections::VecDeque, io, path::PathBuf};

use domain::turn::Settlement;

use super::{
    SpillError, frame, record,
    segment::{self, Segment},
};
use crate::data_dir;

/// The directory within the data directory.
const DIRECTORY: &str = "spill";
/// A file of this size grows no more.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// The most text handed to the disk at once by one lane, unless a single settlement has more.
const FRAMES_BYTES: usize = 8 * 1024 * 1024;
/// What may lie there that the database refused; beyond it, that is given up.
pub(super) const REFUSED_BYTES_MAX: u64 = 256 * 1024 * 1024;

pub(super) struct Files {
    data_dir: PathBuf,
    bytes_max: u64,
    open: Option<Segment>,
    /// From old to new; only the replayer takes the first away.
    sealed: VecDeque<Segment>,
    bytes: u64,
    /// What the database refused.
    refused: Option<Segment>,
}

/// Records that go to the disk together, or not at all.
#[derive(Default)]
pub(in crate::db) struct Frames {
    pub(super) bytes: Vec<u8>,
    pub(in crate::db) records: usize,
}

impl Frames {
    /// The first of these settlements, as many as go to the disk together and fit into `room`; one at least, if there is one.
    pub(in crate::db) fn of<'a>(settlements: impl Iterator<Item = &'a Settlement>, room: u64) -> Self {
        let mut frames = Self::default();
        for settlement in settlements {
            let before = frames.bytes.len();
            let is_put =
                record::write(settlement).is_some_and(|record| frame::put(&record, &mut frames.bytes));
            if !is_put || (frames.records > 0 && frames.bytes.len() as u64 > room) {
                frames.bytes.truncate(before);
                break;
            }
            frames.records += 1;
            if frames.bytes.len() >= FRAMES_BYTES {
                break;
            }
        }
        frames
    }
}

impl Files {
    pub(super) const fn new(data_dir: PathBuf, bytes_max: u64) -> Self {
        Self { data_dir, bytes_max, open: None, sealed: VecDeque::new(), bytes: 0, refused: None }
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    fn dir(&self) -> PathBuf {
        self.data_dir.join(DIRECTORY)
    }

    /// Takes over what processes left that are gone. Returns how many records that is, and what was in the way of more.
    pub(super) fn adopt(&mut self) -> (usize, io::Result<()>) {
        let mut adopted = 0;
        let looked = self.adoptable().and_then(|paths| {
            paths
                .into_iter()
                .map(|path| self.adopt_one(path).map(|records| adopted += records))
                .fold(Ok(()), Result::and)
        });
        (adopted, looked)
    }

    fn adoptable(&self) -> io::Result<Vec<PathBuf>> {
        let dir = self.dir();
        if !dir.exists() {
            return Ok(Vec::new());
        }
        // Where others may write, they may have put turns of their own.
        data_dir::prepare(&self.data_dir)?;
        data_dir::prepare(&dir)?;
        Segment::list(&dir, segment::ENDING)
    }

    fn adopt_one(&mut self, path: PathBuf) -> io::Result<usize> {
        let Some(mut segment) = Segment::adopt(path)? else { return Ok(0) };
        segment.records = frame::read(&segment.read()?).records.len();
        let (path, turns) = (segment.path().display().to_string(), segment.records);
        tracing::info!(path, turns, "ends of turns are left from before; the database gets them");
        self.bytes += segment.bytes;
        self.sealed.push_back(segment);
        Ok(turns)
    }

    /// Puts all groups that fit on the disk, which is waited for once; what became of each.
    pub(super) fn append(&mut self, groups: &[Frames]) -> Vec<Result<(), SpillError>> {
        let mut bytes = self.bytes;
        let fits: Vec<bool> = groups
            .iter()
            .map(|group| {
                let fits = bytes + group.bytes.len() as u64 <= self.bytes_max;
                bytes += if fits { group.bytes.len() as u64 } else { 0 };
                fits
            })
            .collect();
        let fitting = || groups.iter().zip(&fits).filter(|(_, fits)| **fits).map(|(group, _)| group);
        let frames: Vec<_> = fitting().map(|group| group.bytes.as_slice()).collect();
        let records = fitting().map(|group| group.records).sum();
        let written = if frames.is_empty() { Ok(()) } else { self.append_all(&frames, records) };
        fits.iter()
            .map(|fits| match &written {
                _ if !fits => Err(SpillError::Full),
                Ok(()) => Ok(()),
                Err(error) => Err(error.clone()),
            })
            .collect()
    }

    fn append_all(&mut self, frames: &[&[u8]], records: usize) -> Result<(), SpillError> {
        let mut segment = match self.open.take() {
            Some(segment) if segment.bytes < SEGMENT_BYTES => segment,
            full => {
                self.sealed.extend(full);
                self.create(segment::ENDING)?
            }
        };
        let before = segment.bytes;
        let appended = segment.append(frames, records);
        self.bytes += segment.bytes - before;
        match appended {
            Ok(()) => self.open = Some(segment),
            // After a failed fsync nobody knows what a second one would tell.
            Err(_) if segment.bytes > 0 => self.sealed.push_back(segment),
            Err(_) => drop(segment.remove()),
        }
        Ok(appended?)
    }

    fn create(&self, ending: &str) -> io::Result<Segment> {
        let dir = self.dir();
        if !dir.exists() {
            data_dir::prepare(&self.data_dir)?;
            data_dir::prepare(&dir)?;
            segment::sync_dir(&self.data_dir)?;
        }
        data_dir::prepare(&dir)?;
        Segment::create(&dir, ending)
    }

    /// Whether the disk takes anything, which only writing tells.
    pub(super) fn try_out(&self) -> io::Result<()> {
        let mut trial = self.create(segment::TRIAL)?;
        let taken = trial.append(&[b"trial"], 0);
        trial.remove()?;
        taken
    }

    /// Keeps what the database refused, for people; returns where.
    pub(super) fn set_aside(&mut self, refused: &[Settlement]) -> Result<PathBuf, SpillError> {
        let mut bytes = Vec::new();
        for settlement in refused {
            let record = record::write(settlement).unwrap_or_default();
            frame::put(&record, &mut bytes);
        }
        let found = Segment::list(&self.dir(), segment::REFUSED)?;
        let kept: u64 = found.iter().filter_map(|path| path.metadata().ok()).map(|file| file.len()).sum();
        if kept + bytes.len() as u64 > REFUSED_BYTES_MAX {
            return Err(SpillError::Full);
        }
        let mut segment = match self.refused.take() {
            Some(segment) => segment,
            None => self.create(segment::REFUSED)?,
        };
        segment.append(&[&bytes], refused.len())?;
        let path = segment.path().to_owned();
        self.refused = Some(segment);
        Ok(path)
    }

    /// What the database does not have of the oldest file, which grows no more; `None` when there is none.
    pub(super) fn oldest(&mut self) -> Option<io::Result<VecDeque<Settlement>>> {
        if self.sealed.is_empty() {
            self.sealed.extend(self.open.take());
        }
        let segment = self.sealed.front_mut()?;
        Some(segment.read().map(|bytes| {
            let found = frame::read(&bytes);
            let path = segment.path().display().to_string();
            if found.torn_bytes > 0 {
                let bytes = found.torn_bytes;
                tracing::warn!(
                    path,
                    bytes,
                    "the end of a turn was cut short; nobody was told that it is stored"
                );
            }
            let (strange, known): (Vec<_>, Vec<_>) =
                found.records.iter().map(|bytes| record::read(bytes)).partition(Option::is_none);
            segment.is_whole = found.damaged_bytes == 0 && strange.is_empty();
            if !segment.is_whole {
                let (bytes, turns) = (found.damaged_bytes, strange.len());
                tracing::error!(path, bytes, turns, "ends of turns are damaged, or of a newer binary");
            }
            // Only what is known was ever given to the database.
            known.into_iter().flatten().skip(segment.replayed).collect()
        }))
    }

    /// The database has so many more records of the oldest file.
    pub(super) fn replayed(&mut self, records: usize) {
        if let Some(segment) = self.sealed.front_mut() {
            segment.replayed += records;
        }
    }

    /// The database has all that could be read of the oldest file. Returns how many of its records it does not have, and
    /// whether the file is gone.
    pub(super) fn done_with_oldest(&mut self) -> (usize, Result<(), SpillError>) {
        let Some(segment) = self.sealed.pop_front() else { return (0, Ok(())) };
        self.bytes = self.bytes.saturating_sub(segment.bytes);
        let left = segment.records.saturating_sub(segment.replayed);
        let gone = if segment.is_whole {
            segment.remove().map_err(SpillError::from)
        } else {
            segment.set_aside().map_err(SpillError::from).and_then(|path| Err(SpillError::Damaged(path)))
        };
        (left, gone)
    }

    /// The oldest file cannot be read at all.
    pub(super) fn cannot_read_oldest(&mut self) {
        if let Some(segment) = self.sealed.front_mut() {
            segment.is_whole = false;
        }
    }
}
