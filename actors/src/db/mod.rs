//! The db room: everything that must outlive the process.
//!
//! ```text
//! read  ── DbHandle ──▶ factory of N DbWorkers ──▶ Store (reader pool)
//! write ── DbHandle ──▶ lane = hash(turn, session or account) ──▶ DbWriter ──▶ Store: one transaction per batch
//!                        ▲                                        │ settlements, when the database is away
//!                        └──── SpillReplayer ◀──── Spill ◀────────┘
//! ```
//!
//! # When it breaks
//!
//! A killed DbWorker loses the read in its hand: that caller gets [`DbError::Unavailable`]. A lane's queue lives
//! outside its DbWriter: what waits there survives the writer; of what the writer had in hand, openings of ledger
//! rows, settlements, checkpoints, uses and audit notes run again (they are idempotent) and everything else is answered
//! [`DbError::Unavailable`], outcome unknown. A database that is away, or lets nobody in, costs those who find out the acquire
//! timeout, and whoever comes after them nothing: [`DbError::Away`] at once, with the cause (see [`store::Door`]).

mod config;
#[cfg(test)]
mod contract;
mod error;
mod handle;
mod indexing;
mod lane;
mod message;
mod metrics;
mod replica_watch;
mod room;
mod spill;
mod store;
#[cfg(test)]
mod tests;
mod worker;
mod writer;
mod writing;
mod written;

pub(crate) use self::room::build;
pub use self::{
    config::{DbConfig, OldSchema},
    error::{Ailment, DbError},
    handle::{NextKey, RotateSession, SetPassword, Touched, UserSearch},
    store::{BackupError, Schema, Standing, back_up, migrate, restore},
};

use std::{sync::Arc, time::Duration};

use ractor::factory::FactoryMessage;
use tokio::sync::Semaphore;

use self::{
    lane::{Lane, Unsettled},
    metrics::DbMetrics,
    spill::Spill,
    worker::ReadMessage,
    writing::Writing,
};
use crate::{
    handle::{Handle, Permit},
    system::StartError,
    tree::Tree,
};

type Reads = Handle<FactoryMessage<(), ReadMessage>>;

/// Which schema the configured database has; nothing is written, and nothing is made.
///
/// # Errors
///
/// [`StartError::Store`]: it cannot be asked.
pub async fn schema(config: &DbConfig) -> Result<Schema, StartError> {
    store::schema_of(config).await.map_err(|error| StartError::Store(error.to_string()))
}

/// Asks the db room; clones share one room.
#[derive(Clone)]
pub struct DbHandle {
    reads: Reads,
    lanes: Arc<[Arc<Lane>]>,
    unsettled: Arc<Unsettled>,
    writing: Writing,
    spill: Arc<Spill>,
    metrics: DbMetrics,
    tree: Tree,
    call_timeout: Duration,
    /// Whether no other service can be on the store.
    is_exclusive: bool,
    /// Readers that may be busy with reports and searches.
    long_reads: Arc<Semaphore>,
}

/// A place in a lane, held from admission on, so that a settlement never waits for one.
pub struct SettlePermit(Permit);

/// Called once, by the DbWriter, after the settlement was committed, went to the disk, or failed; see [`DbHandle::settle`].
pub type OnSettled = Box<dyn FnOnce(Result<(), DbError>) + Send>;
