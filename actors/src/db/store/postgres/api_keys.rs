//! API keys.

use chrono::{DateTime, Utc};
use domain::{
    account::User,
    api_key::{ApiKey, KeyHash},
    id::{ApiKeyId, UserId},
    limits::Priority,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::db::{
    DbError,
    store::{
        rows::storable,
        stored::{self, ApiKeyColumns},
    },
};

pub(in crate::db::store) async fn by_hash(
    db: &mut PgConnection,
    hash: KeyHash,
) -> Result<Option<(ApiKey, User)>, DbError> {
    sqlx::query_as!(
        ApiKeyColumns,
        "SELECT k.id, k.user_id, k.name, k.prefix, k.scopes, k.requests_per_minute, k.tokens_per_minute, k.streams,
                k.priority, k.models, k.created_at, k.expires_at, k.used_at, k.revoked_at, u.email, u.role, u.disabled,
                u.requests_per_minute AS user_requests_per_minute, u.tokens_per_minute AS user_tokens_per_minute,
                u.streams AS user_streams, u.priority AS user_priority, u.models AS user_models,
                u.created_at AS user_created_at
         FROM api_keys k JOIN users u ON u.id = k.user_id WHERE k.hash = $1",
        hash.as_slice()
    )
    .fetch_optional(db)
    .await?
    .map(ApiKeyColumns::try_into)
    .transpose()
}

pub(in crate::db::store) async fn list(
    db: &mut PgConnection,
    owner: UserId,
    before: Option<ApiKeyId>,
    limit: u32,
) -> Result<Vec<ApiKey>, DbError> {
    sqlx::query_as!(
        ApiKeyColumns,
        "SELECT k.id, k.user_id, k.name, k.prefix, k.scopes, k.requests_per_minute, k.tokens_per_minute, k.streams,
                k.priority, k.models, k.created_at, k.expires_at, k.used_at, k.revoked_at, u.email, u.role, u.disabled,
                u.requests_per_minute AS user_requests_per_minute, u.tokens_per_minute AS user_tokens_per_minute,
                u.streams AS user_streams, u.priority AS user_priority, u.models AS user_models,
                u.created_at AS user_created_at
         FROM api_keys k JOIN users u ON u.id = k.user_id
         WHERE k.user_id = $1 AND k.id < $2 AND k.revoked_at IS NULL ORDER BY k.id DESC LIMIT $3",
        owner.as_uuid(),
        before.map_or(Uuid::max(), ApiKeyId::as_uuid),
        i64::from(limit)
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(|row| Ok(<(ApiKey, User)>::try_from(row)?.0))
    .collect()
}

/// How many keys of the account live: neither revoked nor expired.
pub(super) async fn count(db: &mut PgConnection, user: UserId, now: DateTime<Utc>) -> Result<u64, DbError> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM api_keys
           WHERE user_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)"#,
        user.as_uuid(),
        now
    )
    .fetch_one(db)
    .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

pub(super) async fn insert(db: &mut PgConnection, key: &ApiKey, hash: &KeyHash) -> Result<(), DbError> {
    let name = storable(&key.name);
    sqlx::query!(
        "INSERT INTO api_keys (id, user_id, name, prefix, hash, scopes, requests_per_minute, tokens_per_minute, streams,
                               priority, models, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        key.id.as_uuid(),
        key.user.as_uuid(),
        name.as_ref(),
        key.prefix,
        hash.as_slice(),
        key.scopes.to_string(),
        key.limits.requests_per_minute.map(i64::from),
        key.limits.tokens_per_minute.map(i64::from),
        key.limits.streams.map(i64::from),
        key.limits.priority.map(Priority::as_str),
        stored::patterns(key.models.as_ref()),
        key.created_at,
        key.expires_at
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The key, which nobody else changes until the transaction ends; `None` for a revoked one.
pub(super) async fn hold(db: &mut PgConnection, key: ApiKeyId) -> Result<Option<ApiKey>, DbError> {
    sqlx::query_as!(
        ApiKeyColumns,
        "SELECT k.id, k.user_id, k.name, k.prefix, k.scopes, k.requests_per_minute, k.tokens_per_minute, k.streams,
                k.priority, k.models, k.created_at, k.expires_at, k.used_at, k.revoked_at, u.email, u.role, u.disabled,
                u.requests_per_minute AS user_requests_per_minute, u.tokens_per_minute AS user_tokens_per_minute,
                u.streams AS user_streams, u.priority AS user_priority, u.models AS user_models,
                u.created_at AS user_created_at
         FROM api_keys k JOIN users u ON u.id = k.user_id
         WHERE k.id = $1 AND k.revoked_at IS NULL FOR NO KEY UPDATE OF k",
        key.as_uuid()
    )
    .fetch_optional(db)
    .await?
    .map(|row| Ok(<(ApiKey, User)>::try_from(row)?.0))
    .transpose()
}

pub(super) async fn set_terms(db: &mut PgConnection, key: &ApiKey) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE api_keys SET requests_per_minute = $1, tokens_per_minute = $2, streams = $3, priority = $4, models = $5
         WHERE id = $6",
        key.limits.requests_per_minute.map(i64::from),
        key.limits.tokens_per_minute.map(i64::from),
        key.limits.streams.map(i64::from),
        key.limits.priority.map(Priority::as_str),
        stored::patterns(key.models.as_ref()),
        key.id.as_uuid()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Revokes a key that was not revoked, of this owner if one is named; says whose it was, and its hash.
pub(super) async fn revoke(
    db: &mut PgConnection,
    owner: Option<UserId>,
    key: ApiKeyId,
    now: DateTime<Utc>,
) -> Result<Option<(UserId, KeyHash)>, DbError> {
    sqlx::query!(
        "UPDATE api_keys SET revoked_at = $1
         WHERE id = $2 AND ($3::uuid IS NULL OR user_id = $3) AND revoked_at IS NULL RETURNING user_id, hash",
        now,
        key.as_uuid(),
        owner.map(UserId::as_uuid)
    )
    .fetch_optional(db)
    .await?
    .map(|row| Ok((row.user_id.into(), stored::hash(&row.hash, "api_keys.hash")?)))
    .transpose()
}
