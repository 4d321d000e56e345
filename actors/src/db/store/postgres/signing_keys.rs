//! Generations of signing keys.

use domain::signing_key::SigningKey;
use sqlx::PgConnection;

use crate::db::{DbError, store::stored::SigningKeyColumns};

pub(in crate::db::store) async fn list(db: &mut PgConnection) -> Result<Vec<SigningKey>, DbError> {
    sqlx::query_as!(
        SigningKeyColumns,
        "SELECT generation, algorithm, kid, created_at, signs_from FROM signing_keys ORDER BY generation"
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(SigningKey::try_from)
    .collect()
}

pub(super) async fn one(db: &mut PgConnection, generation: u32) -> Result<SigningKey, DbError> {
    sqlx::query_as!(
        SigningKeyColumns,
        "SELECT generation, algorithm, kid, created_at, signs_from FROM signing_keys WHERE generation = $1",
        i64::from(generation)
    )
    .fetch_one(db)
    .await?
    .try_into()
}

/// Whether there was no such generation, and this one is stored.
pub(super) async fn insert(db: &mut PgConnection, key: &SigningKey) -> Result<bool, DbError> {
    let inserted = sqlx::query!(
        "INSERT INTO signing_keys (generation, algorithm, kid, created_at, signs_from) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (generation) DO NOTHING",
        i64::from(key.generation),
        key.algorithm.as_str(),
        key.kid,
        key.created_at,
        key.signs_from
    )
    .execute(db)
    .await?;
    Ok(inserted.rows_affected() > 0)
}

/// Writes a key as it is, to see whether anything can be written. Small, and nobody waits for it.
pub(super) async fn rewrite(db: &mut PgConnection) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE signing_keys SET created_at = created_at WHERE generation = (SELECT max(generation) FROM signing_keys)"
    )
    .execute(db)
    .await?;
    Ok(())
}
