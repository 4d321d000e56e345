//! Whether there is anybody who can administer the service.

use domain::id::UserId;
use sqlx::PgConnection;

use crate::db::DbError;

/// The advisory lock of whoever may change that. Any number does that nobody else locks here.
const ADMINISTRATORS: i64 = 0x6164_6d69_6e73;

/// Lets nobody else hold the administrators until the transaction ends.
pub(super) async fn hold(db: &mut PgConnection) -> Result<(), DbError> {
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", ADMINISTRATORS).execute(db).await?;
    Ok(())
}

/// Whether there is an enabled administrator, other than this one.
pub(super) async fn exist(db: &mut PgConnection, beside: Option<UserId>) -> Result<bool, DbError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM users WHERE role = 'admin' AND NOT disabled AND id IS DISTINCT FROM $1) AS "exist!""#,
        beside.map(UserId::as_uuid)
    )
    .fetch_one(db)
    .await?)
}
