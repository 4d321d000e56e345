//! Users.

use chrono::{DateTime, Utc};
use domain::{
    account::{Account, User},
    email::EmailAddress,
    id::UserId,
    limits::Priority,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::db::{
    DbError,
    store::{
        rows::{nobodys_address, storable},
        stored::{self, AccountColumns, UserColumns},
    },
};

pub(in crate::db::store) async fn by_email(
    db: &mut PgConnection,
    email: EmailAddress,
) -> Result<Option<Account>, DbError> {
    sqlx::query_as!(
        AccountColumns,
        "SELECT id, email, password_hash, role, disabled, requests_per_minute, tokens_per_minute, streams, priority,
                models, created_at FROM users
         WHERE email = $1 AND deleted_at IS NULL",
        email.as_str()
    )
    .fetch_optional(db)
    .await?
    .map(Account::try_from)
    .transpose()
}

pub(in crate::db::store) async fn user(db: &mut PgConnection, user: UserId) -> Result<Option<User>, DbError> {
    sqlx::query_as!(
        UserColumns,
        "SELECT id, email, role, disabled, requests_per_minute, tokens_per_minute, streams, priority, models,
                created_at FROM users WHERE id = $1 AND deleted_at IS NULL",
        user.as_uuid()
    )
    .fetch_optional(db)
    .await?
    .map(User::try_from)
    .transpose()
}

pub(in crate::db::store) async fn search(
    db: &mut PgConnection,
    text: Option<String>,
    before: Option<UserId>,
    limit: u32,
) -> Result<Vec<User>, DbError> {
    let text = text.as_deref().map(storable);
    sqlx::query_as!(
        UserColumns,
        "SELECT id, email, role, disabled, requests_per_minute, tokens_per_minute, streams, priority, models,
                created_at FROM users WHERE deleted_at IS NULL AND id < $1 AND ($2::text IS NULL OR strpos(email, $2) > 0)
         ORDER BY id DESC LIMIT $3",
        before.map_or(Uuid::max(), UserId::as_uuid),
        text.as_deref(),
        i64::from(limit)
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(User::try_from)
    .collect()
}

/// The account, which nobody else changes until the transaction ends; `None` for a deleted one.
pub(super) async fn hold(db: &mut PgConnection, user: UserId) -> Result<Option<Account>, DbError> {
    sqlx::query_as!(
        AccountColumns,
        "SELECT id, email, password_hash, role, disabled, requests_per_minute, tokens_per_minute, streams, priority,
                models, created_at FROM users
         WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE",
        user.as_uuid()
    )
    .fetch_optional(db)
    .await?
    .map(Account::try_from)
    .transpose()
}

/// Whether the e-mail was free, and the account is stored.
pub(super) async fn insert(db: &mut PgConnection, account: &Account) -> Result<bool, DbError> {
    let Account { user, password_hash } = account;
    let inserted = sqlx::query!(
        "INSERT INTO users (id, email, password_hash, role, disabled, requests_per_minute, tokens_per_minute, streams,
                            priority, models, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (email) DO NOTHING",
        user.id.as_uuid(),
        user.email.as_str(),
        password_hash.reveal(),
        user.role.as_str(),
        user.disabled,
        user.limits.requests_per_minute.map(i64::from),
        user.limits.tokens_per_minute.map(i64::from),
        user.limits.streams.map(i64::from),
        user.limits.priority.map(Priority::as_str),
        stored::patterns(user.models.as_ref()),
        user.created_at
    )
    .execute(db)
    .await?;
    Ok(inserted.rows_affected() > 0)
}

pub(super) async fn set_state(db: &mut PgConnection, user: &User) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE users SET role = $1, disabled = $2, requests_per_minute = $3, tokens_per_minute = $4, streams = $5,
                          priority = $6, models = $7
         WHERE id = $8",
        user.role.as_str(),
        user.disabled,
        user.limits.requests_per_minute.map(i64::from),
        user.limits.tokens_per_minute.map(i64::from),
        user.limits.streams.map(i64::from),
        user.limits.priority.map(Priority::as_str),
        stored::patterns(user.models.as_ref()),
        user.id.as_uuid()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Removes all that is the user's but their conversations and the row that the ledger and the audit trail point to.
pub(super) async fn erase(db: &mut PgConnection, user: UserId, now: DateTime<Utc>) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE users SET email = $1, password_hash = '', disabled = true, deleted_at = $2 WHERE id = $3",
        nobodys_address(),
        now,
        user.as_uuid()
    )
    .execute(&mut *db)
    .await?;
    for erase in [
        sqlx::query!("DELETE FROM sessions WHERE user_id = $1", user.as_uuid()),
        sqlx::query!("DELETE FROM api_keys WHERE user_id = $1", user.as_uuid()),
        sqlx::query!("DELETE FROM idempotency_keys WHERE user_id = $1", user.as_uuid()),
        sqlx::query!(
            "UPDATE turns SET cancel_requested = true WHERE id IN
                 (SELECT id FROM turns WHERE user_id = $1 AND status = 'streaming' ORDER BY id FOR NO KEY UPDATE)",
            user.as_uuid()
        ),
    ] {
        erase.execute(&mut *db).await?;
    }
    Ok(())
}
