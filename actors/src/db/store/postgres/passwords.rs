//! Password hashes.

use domain::{account::PasswordHash, id::UserId};
use sqlx::PgConnection;

use crate::db::DbError;

pub(super) async fn set(db: &mut PgConnection, user: UserId, new: &PasswordHash) -> Result<(), DbError> {
    sqlx::query!("UPDATE users SET password_hash = $1 WHERE id = $2", new.reveal(), user.as_uuid())
        .execute(db)
        .await?;
    Ok(())
}

/// Whether the hash was still `old`, and is `new` now.
pub(super) async fn replace(
    db: &mut PgConnection,
    user: UserId,
    old: &PasswordHash,
    new: &PasswordHash,
) -> Result<bool, DbError> {
    let replaced = sqlx::query!(
        "UPDATE users SET password_hash = $1 WHERE id = $2 AND password_hash = $3 AND deleted_at IS NULL",
        new.reveal(),
        user.as_uuid(),
        old.reveal()
    )
    .execute(db)
    .await?;
    Ok(replaced.rows_affected() > 0)
}
