//! Password hashes.

use domain::{account::PasswordHash, id::UserId};
use sqlx::SqliteConnection;

use crate::db::DbError;

pub(super) async fn set(db: &mut SqliteConnection, user: UserId, new: &PasswordHash) -> Result<(), DbError> {
    sqlx::query("UPDATE users SET password_hash = ? WHERE id = ?")
        .bind(new.reveal())
        .bind(user.as_uuid())
        .execute(db)
        .await?;
    Ok(())
}

/// Whether the hash was still `old`, and is `new` now.
pub(super) async fn replace(
    db: &mut SqliteConnection,
    user: UserId,
    old: &PasswordHash,
    new: &PasswordHash,
) -> Result<bool, DbError> {
    let replaced = sqlx::query(
        "UPDATE users SET password_hash = ? WHERE id = ? AND password_hash = ? AND deleted_at IS NULL",
    )
    .bind(new.reveal())
    .bind(user.as_uuid())
    .bind(old.reveal())
    .execute(db)
    .await?;
    Ok(replaced.rows_affected() > 0)
}
