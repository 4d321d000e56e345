//! A borrowed connection that is thrown away unless its work came to an end.

use sqlx::{Database, pool::PoolConnection};

use super::pool::{InUse, Pool};
use crate::db::DbError;

/// Drops its connection for good when it is dropped before [`Cut::keep`]: in the middle of a query or transaction nobody
/// knows what state the server's side is in.
pub(super) struct Cut<DB: Database> {
    connection: Option<PoolConnection<DB>>,
    _in_use: InUse,
}

impl<DB: Database> Cut<DB> {
    pub(super) async fn acquire(pool: &Pool<DB>) -> Result<Self, DbError> {
        Ok(Self { connection: Some(pool.acquire().await?), _in_use: pool.in_use() })
    }

    pub(super) fn connection(&mut self) -> Result<&mut DB::Connection, sqlx::Error> {
        self.connection.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// The work is over: the connection goes back to its pool.
    pub(super) fn keep(mut self) {
        drop(self.connection.take());
    }
}

impl<DB: Database> Drop for Cut<DB> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            // Detached first: a connection dropped as it is would go back to the pool.
            drop(connection.detach());
        }
    }
}
