//! Users, their password hashes, and the audit trail.

use domain::{
    account::{Account, AuditEntry, PasswordHash, User},
    email::EmailAddress,
    id::UserId,
};
use sqlx::PgConnection;

use crate::db::{
    DbError,
    message::Written,
    store::stored::{AccountColumns, UserColumns},
};

pub(super) async fn by_email(
    db: &mut PgConnection,
    email: &EmailAddress,
) -> Result<Option<Account>, DbError> {
    sqlx::query_as!(
        AccountColumns,
        "SELECT id, email, password_hash, role, disabled, created_at FROM users WHERE email = $1",
        email.as_str()
    )
    .fetch_optional(db)
    .await?
    .map(Account::try_from)
    .transpose()
}

pub(super) async fn user(db: &mut PgConnection, user: UserId) -> Result<Option<User>, DbError> {
    sqlx::query_as!(
        UserColumns,
        "SELECT id, email, role, disabled, created_at FROM users WHERE id = $1",
        user.as_uuid()
    )
    .fetch_optional(db)
    .await?
    .map(User::try_from)
    .transpose()
}

pub(super) async fn create(
    db: &mut PgConnection,
    account: &Account,
    audit: &AuditEntry,
) -> Result<Result<Written, DbError>, DbError> {
    let Account { user, password_hash } = account;
    let created = sqlx::query!(
        "INSERT INTO users (id, email, password_hash, role, disabled, created_at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (email) DO NOTHING",
        user.id.as_uuid(),
        user.email.as_str(),
        password_hash.reveal(),
        user.role.as_str(),
        user.disabled,
        user.created_at
    )
    .execute(&mut *db)
    .await?;
    if created.rows_affected() == 0 {
        return Ok(Err(DbError::Conflict("e-mail")));
    }
    record(db, audit).await?;
    Ok(Ok(Written::Done))
}

pub(super) async fn replace_hash(
    db: &mut PgConnection,
    user: UserId,
    old: &PasswordHash,
    new: &PasswordHash,
) -> Result<Written, DbError> {
    let replaced = sqlx::query!(
        "UPDATE users SET password_hash = $1 WHERE id = $2 AND password_hash = $3",
        new.reveal(),
        user.as_uuid(),
        old.reveal()
    )
    .execute(db)
    .await?;
    Ok(Written::Replaced(replaced.rows_affected() > 0))
}

/// Appends to the audit trail, inside the transaction of what it records.
pub(super) async fn record(db: &mut PgConnection, entry: &AuditEntry) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO audit_log (id, event, user_id, address, request_id, at) VALUES ($1, $2, $3, $4, $5, $6)",
        entry.id.as_uuid(),
        entry.event.as_str(),
        entry.user.map(UserId::as_uuid),
        entry.address.map(|address| address.to_string()),
        entry.request_id.as_deref(),
        entry.at
    )
    .execute(db)
    .await?;
    Ok(())
}
