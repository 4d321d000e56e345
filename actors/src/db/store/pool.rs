//! A pool of connections that keeps books of itself for operators, and makes nobody wait for what cannot be had.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::{Database, pool::PoolConnection};
use tokio::time::{Instant, timeout};

use super::{door::Door, failure};
use crate::{db::DbError, histogram::Histogram};

/// Who waits longer has the door looked at, so that the cause is known when the wait is over.
const SUSPECT_AFTER: Duration = Duration::from_millis(250);

/// From a connection that lies ready to one that has to be opened, up to where callers give up.
static BOUNDS: [f64; 9] = [0.000_1, 0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0];

pub(in crate::db) type Waits = Histogram<9>;

pub(super) struct Pool<DB: Database> {
    name: &'static str,
    connections: sqlx::Pool<DB>,
    waits: Waits,
    /// Of the database that nobody can do without.
    door: Option<Arc<Door>>,
    in_use: Arc<AtomicUsize>,
    /// Callers that wait for one, or open it.
    acquiring: AtomicUsize,
}

/// A connection that is there, for as long as it is in somebody's hands.
pub(super) struct InUse(Arc<AtomicUsize>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A caller who waits.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a pool shows of itself at the moment of asking.
pub(in crate::db) struct PoolUse<'a> {
    pub name: &'static str,
    pub open: u32,
    pub idle: u32,
    pub limit: u32,
    pub waits: &'a Waits,
}

impl<DB: Database> Pool<DB> {
    /// `name` is its metric label.
    pub(super) fn new(name: &'static str, connections: sqlx::Pool<DB>, door: Option<&Arc<Door>>) -> Self {
        let (in_use, acquiring) = (Arc::default(), AtomicUsize::new(0));
        Self { name, connections, waits: Waits::new(&BOUNDS), door: door.cloned(), in_use, acquiring }
    }

    /// Waits for a connection, or to be told why there is none; at once, if that is known and there is none to wait for.
    ///
    /// # Errors
    ///
    /// [`DbError::Away`]; where there is no door, [`DbError::Timeout`] when none came free.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<DB>, DbError> {
        let closed = self.door.as_ref().and_then(|door| door.closed());
        if let Some(cause) = closed.filter(|_| !self.has_any()) {
            return Err(cause);
        }
        let _acquiring = Counted::new(&self.acquiring);
        let asked = Instant::now();
        let mut acquiring = pin!(self.connections.acquire());
        let acquired = match timeout(SUSPECT_AFTER, &mut acquiring).await {
            Ok(acquired) => acquired,
            Err(_) => {
                self.suspect();
                acquiring.await
            }
        };
        self.waits.observe(asked.elapsed());
        acquired.map_err(|error| self.refused(&error))
    }

    /// Whether there is a connection that is not just being opened.
    fn has_any(&self) -> bool {
        let open = usize::try_from(self.connections.size()).unwrap_or(usize::MAX);
        // One that is being given back is neither idle nor in use.
        self.connections.num_idle() > 0
            || self.in_use.load(Ordering::Acquire) > 0
            || open > self.acquiring.load(Ordering::Acquire)
    }

    /// Counts a connection that was acquired.
    pub(super) fn in_use(&self) -> InUse {
        self.in_use.fetch_add(1, Ordering::AcqRel);
        InUse(Arc::clone(&self.in_use))
    }

    fn suspect(&self) {
        if let Some(door) = &self.door {
            door.suspect();
        }
    }

    fn refused(&self, error: &sqlx::Error) -> DbError {
        match (error, &self.door) {
            (sqlx::Error::PoolTimedOut, None) => DbError::Timeout,
            (sqlx::Error::PoolTimedOut, Some(door)) => {
                door.closed().unwrap_or_else(|| DbError::Away("no connection came free in time".to_owned()))
            }
            _ => {
                self.suspect();
                failure::not_let_in(error)
            }
        }
    }

    pub(super) async fn close(&self) {
        self.connections.close().await;
    }

    pub(super) fn usage(&self) -> PoolUse<'_> {
        let open = self.connections.size();
        // The two are read one after the other.
        let idle = u32::try_from(self.connections.num_idle()).unwrap_or(u32::MAX).min(open);
        let limit = self.connections.options().get_max_connections();
        PoolUse { name: self.name, open, idle, limit, waits: &self.waits }
    }
}
