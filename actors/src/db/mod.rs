//! The db room: everything that must outlive the process.
//!
//! ```text
//! read  ── DbHandle ──▶ factory of N DbWorkers ──▶ Store (reader pool)
//! write ── DbHandle ──▶ lane = hash(turn or user) ──▶ DbWriter ──▶ Store: one transaction per batch
//! ```
//!
//! # When it breaks
//!
//! A killed DbWorker loses the read in its hand: that caller gets [`DbError::Unavailable`]. A lane's queue lives
//! outside its DbWriter: what waits there survives the writer; of what the writer had in hand, settlements and
//! checkpoints run again (they are idempotent) and everything else is answered [`DbError::Unavailable`], outcome
//! unknown. A database that is away costs each caller at most the acquire timeout.

mod config;
#[cfg(test)]
mod contract;
mod error;
mod handle;
mod lane;
mod message;
mod metrics;
mod room;
mod store;
#[cfg(test)]
mod tests;
mod worker;
mod writer;

pub(crate) use self::room::build;
pub use self::{config::DbConfig, error::DbError, store::migrate};

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use domain::{account::AuditEntry, id::SessionId};
use ractor::factory::FactoryMessage;

use self::{lane::Lane, metrics::DbMetrics, worker::ReadMessage};
use crate::{
    handle::{Handle, Permit},
    tree::Tree,
};

type Reads = Handle<FactoryMessage<(), ReadMessage>>;

/// Asks the db room; clones share one room.
#[derive(Clone)]
pub struct DbHandle {
    reads: Reads,
    lanes: Arc<[Arc<Lane>]>,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests count commits"))]
    metrics: DbMetrics,
    tree: Tree,
    call_timeout: Duration,
}

/// A place in a lane, held from admission on, so that a settlement never waits for one.
pub struct SettlePermit(Permit);

/// Called once, by the DbWriter, after the settlement committed or failed; see [`DbHandle::settle`].
pub type OnSettled = Box<dyn FnOnce(Result<(), DbError>) + Send>;

/// A presented refresh token, and the rules to judge it by.
#[derive(Debug, Clone)]
pub struct RotateSession {
    pub session: SessionId,
    /// The counter inside the presented token.
    pub counter: u32,
    pub now: DateTime<Utc>,
    /// How long the direct parent still gets its successor.
    pub grace: chrono::Duration,
    /// How long a session may rest between rotations.
    pub idle: chrono::Duration,
    /// Written if, and only if, this turns out to be reuse.
    pub reuse_audit: AuditEntry,
}
