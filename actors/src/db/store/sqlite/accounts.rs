//! Users.

use chrono::{DateTime, Utc};
use domain::{
    account::{Account, User},
    email::EmailAddress,
    id::UserId,
    limits::Priority,
};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::columns::time;
use crate::db::{
    DbError,
    store::{
        rows::{micros, nobodys_address, storable},
        stored::{self, AccountColumns, UserColumns},
    },
};

pub(in crate::db::store) async fn by_email(
    db: &mut SqliteConnection,
    email: EmailAddress,
) -> Result<Option<Account>, DbError> {
    sqlx::query(
        "SELECT id, email, password_hash, role, disabled, requests_per_minute, tokens_per_minute, streams, priority,
                models, created_at FROM users
         WHERE email = ? AND deleted_at IS NULL",
    )
    .bind(email.as_str())
    .fetch_optional(db)
    .await?
    .map(|row| account_columns(&row)?.try_into())
    .transpose()
}

pub(in crate::db::store) async fn user(
    db: &mut SqliteConnection,
    user: UserId,
) -> Result<Option<User>, DbError> {
    sqlx::query(
        "SELECT id, email, role, disabled, requests_per_minute, tokens_per_minute, streams, priority, models,
                created_at FROM users WHERE id = ? AND deleted_at IS NULL",
    )
    .bind(user.as_uuid())
    .fetch_optional(db)
    .await?
    .map(|row| user_columns(&row)?.try_into())
    .transpose()
}

pub(in crate::db::store) async fn search(
    db: &mut SqliteConnection,
    text: Option<String>,
    before: Option<UserId>,
    limit: u32,
) -> Result<Vec<User>, DbError> {
    sqlx::query(
        "SELECT id, email, role, disabled, requests_per_minute, tokens_per_minute, streams, priority, models,
                created_at FROM users WHERE deleted_at IS NULL AND id < ?1 AND (?2 IS NULL OR instr(email, ?2) > 0)
         ORDER BY id DESC LIMIT ?3",
    )
    .bind(before.map_or(Uuid::max(), UserId::as_uuid))
    .bind(text.as_deref().map(storable))
    .bind(limit)
    .fetch_all(db)
    .await?
    .iter()
    .map(|row| user_columns(row)?.try_into())
    .collect()
}

/// The account; `None` for a deleted one. A transaction is the only one that writes, so nobody else changes it.
pub(super) async fn hold(db: &mut SqliteConnection, user: UserId) -> Result<Option<Account>, DbError> {
    sqlx::query(
        "SELECT id, email, password_hash, role, disabled, requests_per_minute, tokens_per_minute, streams, priority,
                models, created_at FROM users
         WHERE id = ? AND deleted_at IS NULL",
    )
    .bind(user.as_uuid())
    .fetch_optional(db)
    .await?
    .map(|row| account_columns(&row)?.try_into())
    .transpose()
}

/// Whether the e-mail was free, and the account is stored.
pub(super) async fn insert(db: &mut SqliteConnection, account: &Account) -> Result<bool, DbError> {
    let Account { user, password_hash } = account;
    let inserted = sqlx::query(
        "INSERT INTO users (id, email, password_hash, role, disabled, requests_per_minute, tokens_per_minute, streams,
                            priority, models, created_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (email) DO NOTHING",
    )
    .bind(user.id.as_uuid())
    .bind(user.email.as_str())
    .bind(password_hash.reveal())
    .bind(user.role.as_str())
    .bind(user.disabled)
    .bind(user.limits.requests_per_minute)
    .bind(user.limits.tokens_per_minute)
    .bind(user.limits.streams)
    .bind(user.limits.priority.map(Priority::as_str))
    .bind(stored::patterns(user.models.as_ref()))
    .bind(micros(user.created_at))
    .execute(db)
    .await?;
    Ok(inserted.rows_affected() > 0)
}

pub(super) async fn set_state(db: &mut SqliteConnection, user: &User) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE users SET role = ?, disabled = ?, requests_per_minute = ?, tokens_per_minute = ?, streams = ?,
                          priority = ?, models = ?
         WHERE id = ?",
    )
    .bind(user.role.as_str())
    .bind(user.disabled)
    .bind(user.limits.requests_per_minute)
    .bind(user.limits.tokens_per_minute)
    .bind(user.limits.streams)
    .bind(user.limits.priority.map(Priority::as_str))
    .bind(stored::patterns(user.models.as_ref()))
    .bind(user.id.as_uuid())
    .execute(db)
    .await?;
    Ok(())
}

/// Removes all that is the user's but their conversations and the row that the ledger and the audit trail point to.
pub(super) async fn erase(
    db: &mut SqliteConnection,
    user: UserId,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE users SET email = ?, password_hash = '', disabled = TRUE, deleted_at = ? WHERE id = ?",
    )
    .bind(nobodys_address())
    .bind(micros(now))
    .bind(user.as_uuid())
    .execute(&mut *db)
    .await?;
    for erase in [
        "DELETE FROM sessions WHERE user_id = ?",
        "DELETE FROM api_keys WHERE user_id = ?",
        "DELETE FROM idempotency_keys WHERE user_id = ?",
        "UPDATE turns SET cancel_requested = TRUE WHERE user_id = ? AND status = 'streaming'",
    ] {
        sqlx::query(erase).bind(user.as_uuid()).execute(&mut *db).await?;
    }
    Ok(())
}

fn user_columns(row: &SqliteRow) -> Result<UserColumns, DbError> {
    Ok(UserColumns {
        id: row.try_get("id")?,
        email: row.try_get("email")?,
        role: row.try_get("role")?,
        disabled: row.try_get("disabled")?,
        requests_per_minute: row.try_get("requests_per_minute")?,
        tokens_per_minute: row.try_get("tokens_per_minute")?,
        streams: row.try_get("streams")?,
        priority: row.try_get("priority")?,
        models: row.try_get("models")?,
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
        requests_per_minute: row.try_get("requests_per_minute")?,
        tokens_per_minute: row.try_get("tokens_per_minute")?,
        streams: row.try_get("streams")?,
        priority: row.try_get("priority")?,
        models: row.try_get("models")?,
        created_at: time(row, "created_at")?,
    })
}
