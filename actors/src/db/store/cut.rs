//! A borrowed connection that is thrown away unless its work came to an end.

use sqlx::{Database, pool::PoolConnection};

use super::pool::Pool;

/// Drops its connection for good when it is dropped before [`Cut::keep`]: in the middle of a query or transaction nobody
/// knows what state the server's side is in.
pub(super) struct Cut<DB: Database>(Option<PoolConnection<DB>>);

impl<DB: Database> Cut<DB> {
    pub(super) async fn acquire(pool: &Pool<DB>) -> Result<Self, sqlx::Error> {
        Ok(Self(Some(pool.acquire().await?)))
    }

    pub(super) fn connection(&mut self) -> Result<&mut DB::Connection, sqlx::Error> {
        self.0.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// The work is over: the connection goes back to its pool.
    pub(super) fn keep(mut self) {
        drop(self.0.take());
    }
}

impl<DB: Database> Drop for Cut<DB> {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            // Detached first: a connection dropped as it is would go back to the pool.
            drop(connection.detach());
        }
    }
}
