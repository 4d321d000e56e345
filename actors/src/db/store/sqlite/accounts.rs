//! Users, their password hashes, and the audit trail.

use domain::{
    account::{Account, AuditEntry, PasswordHash, User},
    email::EmailAddress,
    id::UserId,
};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::batch::time;
use crate::db::{
    DbError,
    message::Written,
    store::{
        rows::micros,
        stored::{AccountColumns, UserColumns},
    },
};

pub(super) async fn by_email(
    db: &mut SqliteConnection,
    email: &EmailAddress,
) -> Result<Option<Account>, DbError> {
    sqlx::query("SELECT id, email, password_hash, role, disabled, created_at FROM users WHERE email = ?")
        .bind(email.as_str())
        .fetch_optional(db)
        .await?
        .map(|row| account_columns(&row)?.try_into())
        .transpose()
}

pub(super) async fn user(db: &mut SqliteConnection, user: UserId) -> Result<Option<User>, DbError> {
    sqlx::query("SELECT id, email, role, disabled, created_at FROM users WHERE id = ?")
        .bind(user.as_uuid())
        .fetch_optional(db)
        .await?
        .map(|row| user_columns(&row)?.try_into())
        .transpose()
}

pub(super) async fn create(
    db: &mut SqliteConnection,
    account: &Account,
    audit: &AuditEntry,
) -> Result<Result<Written, DbError>, DbError> {
    let Account { user, password_hash } = account;
    let created = sqlx::query(
        "INSERT INTO users (id, email, password_hash, role, disabled, created_at) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (email) DO NOTHING",
    )
    .bind(user.id.as_uuid())
    .bind(user.email.as_str())
    .bind(password_hash.reveal())
    .bind(user.role.as_str())
    .bind(user.disabled)
    .bind(micros(user.created_at))
    .execute(&mut *db)
    .await?;
    if created.rows_affected() == 0 {
        return Ok(Err(DbError::Conflict("e-mail")));
    }
    record(db, audit).await?;
    Ok(Ok(Written::Done))
}

pub(super) async fn replace_hash(
    db: &mut SqliteConnection,
    user: UserId,
    old: &PasswordHash,
    new: &PasswordHash,
) -> Result<Written, DbError> {
    let replaced = sqlx::query("UPDATE users SET password_hash = ? WHERE id = ? AND password_hash = ?")
        .bind(new.reveal())
        .bind(user.as_uuid())
        .bind(old.reveal())
        .execute(db)
        .await?;
    Ok(Written::Replaced(replaced.rows_affected() > 0))
}

/// Appends to the audit trail, inside the transaction of what it records.
pub(super) async fn record(db: &mut SqliteConnection, entry: &AuditEntry) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO audit_log (id, event, user_id, address, request_id, at) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(entry.id.as_uuid())
    .bind(entry.event.as_str())
    .bind(entry.user.map(UserId::as_uuid))
    .bind(entry.address.map(|address| address.to_string()))
    .bind(entry.request_id.as_deref())
    .bind(micros(entry.at))
    .execute(db)
    .await?;
    Ok(())
}

fn user_columns(row: &SqliteRow) -> Result<UserColumns, DbError> {
    Ok(UserColumns {
        id: row.try_get("id")?,
        email: row.try_get("email")?,
        role: row.try_get("role")?,
        disabled: row.try_get("disabled")?,
        created_at: time(row, "created_at")?,
    })
}

fn account_columns(row: &SqliteRow) -> Result<AccountColumns, DbError> {
    Ok(AccountColumns {
        id: row.try_get("id")?,
        email: row.try_get("email")?,
        password_hash: row.try_get("password_hash")?,
        role: row.try_get("role")?,
        disabled: row.try_get("disabled")?,
        created_at: time(row, "created_at")?,
    })
}
