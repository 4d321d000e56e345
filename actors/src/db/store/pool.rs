//! A pool of connections that keeps books of itself for operators.

use sqlx::{Database, pool::PoolConnection};
use tokio::time::Instant;

use crate::histogram::Histogram;

/// From a connection that lies ready to one that has to be opened, up to where callers give up.
static BOUNDS: [f64; 9] = [0.000_1, 0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0];

pub(in crate::db) type Waits = Histogram<9>;

pub(super) struct Pool<DB: Database> {
    name: &'static str,
    connections: sqlx::Pool<DB>,
    waits: Waits,
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
    pub(super) const fn new(name: &'static str, connections: sqlx::Pool<DB>) -> Self {
        Self { name, connections, waits: Waits::new(&BOUNDS) }
    }

    /// Waits for a connection, or to be told that there is none.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<DB>, sqlx::Error> {
        let asked = Instant::now();
        let acquired = self.connections.acquire().await;
        self.waits.observe(asked.elapsed());
        acquired
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
