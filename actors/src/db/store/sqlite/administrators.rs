//! Whether there is anybody who can administer the service.

use domain::id::UserId;
use sqlx::SqliteConnection;

use crate::db::DbError;

/// Nothing to do: a transaction is the only one that writes.
pub(super) async fn hold(_: &mut SqliteConnection) -> Result<(), DbError> {
    Ok(())
}

/// Whether there is an enabled administrator, other than this one.
pub(super) async fn exist(db: &mut SqliteConnection, beside: Option<UserId>) -> Result<bool, DbError> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM users WHERE role = 'admin' AND NOT disabled AND id IS NOT ?)",
    )
    .bind(beside.map(UserId::as_uuid))
    .fetch_one(db)
    .await?)
}
