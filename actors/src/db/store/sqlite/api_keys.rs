//! API keys.

use chrono::{DateTime, Utc};
use domain::{
    account::User,
    api_key::{ApiKey, KeyHash},
    id::{ApiKeyId, UserId},
    limits::Priority,
};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::columns::{optional_time, time};
use crate::db::{
    DbError,
    store::{
        rows::{micros, storable},
        stored::{self, ApiKeyColumns},
    },
};

pub(in crate::db::store) async fn by_hash(
    db: &mut SqliteConnection,
    hash: KeyHash,
) -> Result<Option<(ApiKey, User)>, DbError> {
    sqlx::query(
        "SELECT k.*, u.email, u.role, u.disabled, u.requests_per_minute AS user_requests_per_minute,
                u.tokens_per_minute AS user_tokens_per_minute, u.streams AS user_streams, u.priority AS user_priority,
                u.models AS user_models, u.created_at AS user_created_at
         FROM api_keys k JOIN users u ON u.id = k.user_id WHERE k.hash = ?",
    )
    .bind(hash.as_slice())
    .fetch_optional(db)
    .await?
    .map(|row| columns(&row)?.try_into())
    .transpose()
}

pub(in crate::db::store) async fn list(
    db: &mut SqliteConnection,
    owner: UserId,
    before: Option<ApiKeyId>,
    limit: u32,
) -> Result<Vec<ApiKey>, DbError> {
    sqlx::query(
        "SELECT k.*, u.email, u.role, u.disabled, u.requests_per_minute AS user_requests_per_minute,
                u.tokens_per_minute AS user_tokens_per_minute, u.streams AS user_streams, u.priority AS user_priority,
                u.models AS user_models, u.created_at AS user_created_at
         FROM api_keys k JOIN users u ON u.id = k.user_id
         WHERE k.user_id = ? AND k.id < ? AND k.revoked_at IS NULL ORDER BY k.id DESC LIMIT ?",
    )
    .bind(owner.as_uuid())
    .bind(before.map_or(Uuid::max(), ApiKeyId::as_uuid))
    .bind(limit)
    .fetch_all(db)
    .await?
    .iter()
    .map(|row| Ok(<(ApiKey, User)>::try_from(columns(row)?)?.0))
    .collect()
}

/// How many keys of the account live: neither revoked nor expired.
pub(super) async fn count(
    db: &mut SqliteConnection,
    user: UserId,
    now: DateTime<Utc>,
) -> Result<u64, DbError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM api_keys
         WHERE user_id = ? AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?)",
    )
    .bind(user.as_uuid())
    .bind(micros(now))
    .fetch_one(db)
    .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

pub(super) async fn insert(db: &mut SqliteConnection, key: &ApiKey, hash: &KeyHash) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO api_keys (id, user_id, name, prefix, hash, scopes, requests_per_minute, tokens_per_minute, streams,
                               priority, models, created_at, expires_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(key.id.as_uuid())
    .bind(key.user.as_uuid())
    .bind(storable(&key.name))
    .bind(&key.prefix)
    .bind(hash.as_slice())
    .bind(key.scopes.to_string())
    .bind(key.limits.requests_per_minute)
    .bind(key.limits.tokens_per_minute)
    .bind(key.limits.streams)
    .bind(key.limits.priority.map(Priority::as_str))
    .bind(stored::patterns(key.models.as_ref()))
    .bind(micros(key.created_at))
    .bind(key.expires_at.map(micros))
    .execute(db)
    .await?;
    Ok(())
}

/// The key; `None` for a revoked one. A transaction is the only one that writes, so nobody else changes it.
pub(super) async fn hold(db: &mut SqliteConnection, key: ApiKeyId) -> Result<Option<ApiKey>, DbError> {
    sqlx::query(
        "SELECT k.*, u.email, u.role, u.disabled, u.requests_per_minute AS user_requests_per_minute,
                u.tokens_per_minute AS user_tokens_per_minute, u.streams AS user_streams, u.priority AS user_priority,
                u.models AS user_models, u.created_at AS user_created_at
         FROM api_keys k JOIN users u ON u.id = k.user_id WHERE k.id = ? AND k.revoked_at IS NULL",
    )
    .bind(key.as_uuid())
    .fetch_optional(db)
    .await?
    .map(|row| Ok(<(ApiKey, User)>::try_from(columns(&row)?)?.0))
    .transpose()
}

pub(super) async fn set_terms(db: &mut SqliteConnection, key: &ApiKey) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE api_keys SET requests_per_minute = ?, tokens_per_minute = ?, streams = ?, priority = ?, models = ?
         WHERE id = ?",
    )
    .bind(key.limits.requests_per_minute)
    .bind(key.limits.tokens_per_minute)
    .bind(key.limits.streams)
    .bind(key.limits.priority.map(Priority::as_str))
    .bind(stored::patterns(key.models.as_ref()))
    .bind(key.id.as_uuid())
    .execute(db)
    .await?;
    Ok(())
}

/// Revokes a key that was not revoked, of this owner if one is named; says whose it was, and its hash.
pub(super) async fn revoke(
    db: &mut SqliteConnection,
    owner: Option<UserId>,
    key: ApiKeyId,
    now: DateTime<Utc>,
) -> Result<Option<(UserId, KeyHash)>, DbError> {
    sqlx::query(
        "UPDATE api_keys SET revoked_at = ?1
         WHERE id = ?2 AND (?3 IS NULL OR user_id = ?3) AND revoked_at IS NULL RETURNING user_id, hash",
    )
    .bind(micros(now))
    .bind(key.as_uuid())
    .bind(owner.map(UserId::as_uuid))
    .fetch_optional(db)
    .await?
    .map(|row| {
        let user: Uuid = row.try_get("user_id")?;
        Ok((user.into(), stored::hash(row.try_get("hash")?, "api_keys.hash")?))
    })
    .transpose()
}

pub(super) fn columns(row: &SqliteRow) -> Result<ApiKeyColumns, DbError> {
    Ok(ApiKeyColumns {
        id: row.try_get("id")?,
        user_id: row.try_get("user_id")?,
        name: row.try_get("name")?,
        prefix: row.try_get("prefix")?,
        scopes: row.try_get("scopes")?,
        requests_per_minute: row.try_get("requests_per_minute")?,
        tokens_per_minute: row.try_get("tokens_per_minute")?,
        streams: row.try_get("streams")?,
        priority: row.try_get("priority")?,
        models: row.try_get("models")?,
        created_at: time(row, "created_at")?,
        expires_at: optional_time(row, "expires_at")?,
        used_at: optional_time(row, "used_at")?,
        revoked_at: optional_time(row, "revoked_at")?,
        email: row.try_get("email")?,
        role: row.try_get("role")?,
        disabled: row.try_get("disabled")?,
        user_requests_per_minute: row.try_get("user_requests_per_minute")?,
        user_tokens_per_minute: row.try_get("user_tokens_per_minute")?,
        user_streams: row.try_get("user_streams")?,
        user_priority: row.try_get("user_priority")?,
        user_models: row.try_get("user_models")?,
        user_created_at: time(row, "user_created_at")?,
    })
}
