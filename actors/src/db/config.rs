//! Settings of the db room.

use std::{path::PathBuf, time::Duration};

use domain::secret::Secret;

use super::spill::SPILL_BYTES_MAX;

/// SQLite's file in the data directory.
pub(super) const DATABASE_FILE: &str = "deepersensor.db";

#[derive(Debug, Clone)]
pub struct DbConfig {
    /// `postgres://…`; `None` keeps everything in SQLite under `data_dir`.
    pub database_url: Option<Secret<String>>,
    /// The same database by the role that owns its schema; `None` when `database_url` may change the schema itself.
    pub migrate_url: Option<Secret<String>>,
    /// A streaming replica of it, for reads that may be a little behind.
    pub read_url: Option<Secret<String>>,
    /// What is done about a schema that is older than this binary.
    pub old_schema: OldSchema,
    /// Where SQLite, generated secrets and the spill live; created with mode 0700.
    pub data_dir: PathBuf,
    /// Whether this process must be the only service on `data_dir`; admin verbs work beside one and say `false`.
    pub exclusive: bool,
    /// DbWorkers, and connections for reads; to a replica there are as many again, and one more.
    pub readers: usize,
    /// Lanes of writes, each with a connection of its own, on Postgres; SQLite has one.
    pub writers: usize,
    /// Services that share the database, each with as many connections.
    pub instances: usize,
    /// Reads that may wait or run at once.
    pub read_queue: usize,
    /// Jobs that may wait in one write lane, settlement places included.
    pub lane_capacity: usize,
    /// How long a caller waits for a connection before it gets an error.
    pub acquire_timeout: Duration,
    /// How long any one call may take.
    pub call_timeout: Duration,
    /// How long the usage row of an unstored turn may wait for company.
    pub usage_linger: Duration,
    /// How much of settlements is kept on the disk, under `data_dir`, for a database that is away; beyond it, or when the
    /// disk does not take them, they are kept in memory. Only an exclusive room keeps any there.
    pub spill_bytes: u64,
    /// How much text of settlements is kept in memory for a database that is away; beyond it they are given up.
    pub kept_bytes: usize,
}

/// What is done about a schema that is older than this binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldSchema {
    /// It is brought up to date.
    Migrated,
    /// It is left alone, and the store is not opened: for those who only want to look.
    Refused,
}

impl DbConfig {
    /// Whether there is a store to open; otherwise opening makes one. Of Postgres only connecting tells, so it counts as
    /// one.
    pub fn has_store(&self) -> bool {
        self.database_url.is_some() || self.data_dir.join(DATABASE_FILE).exists()
    }

    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            database_url: None,
            migrate_url: None,
            read_url: None,
            old_schema: OldSchema::Migrated,
            data_dir,
            exclusive: true,
            readers: 4,
            writers: 4,
            instances: 1,
            read_queue: 1_024,
            lane_capacity: 4_096,
            acquire_timeout: Duration::from_secs(2),
            call_timeout: Duration::from_secs(5),
            usage_linger: Duration::from_millis(15),
            spill_bytes: SPILL_BYTES_MAX,
            kept_bytes: 64 * 1024 * 1024,
        }
    }
}
