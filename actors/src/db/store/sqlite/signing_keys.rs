//! Generations of signing keys.

use domain::signing_key::SigningKey;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::columns::time;
use crate::db::{
    DbError,
    store::{rows::micros, stored::SigningKeyColumns},
};

pub(in crate::db::store) async fn list(db: &mut SqliteConnection) -> Result<Vec<SigningKey>, DbError> {
    sqlx::query(
        "SELECT generation, algorithm, kid, created_at, signs_from FROM signing_keys ORDER BY generation",
    )
    .fetch_all(db)
    .await?
    .iter()
    .map(key)
    .collect()
}

pub(super) async fn one(db: &mut SqliteConnection, generation: u32) -> Result<SigningKey, DbError> {
    let row = sqlx::query(
        "SELECT generation, algorithm, kid, created_at, signs_from FROM signing_keys WHERE generation = ?",
    )
    .bind(generation)
    .fetch_one(db)
    .await?;
    key(&row)
}

/// Whether there was no such generation, and this one is stored.
pub(super) async fn insert(db: &mut SqliteConnection, key: &SigningKey) -> Result<bool, DbError> {
    let inserted = sqlx::query(
        "INSERT INTO signing_keys (generation, algorithm, kid, created_at, signs_from) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (generation) DO NOTHING",
    )
    .bind(key.generation)
    .bind(key.algorithm.as_str())
    .bind(&key.kid)
    .bind(micros(key.created_at))
    .bind(micros(key.signs_from))
    .execute(db)
    .await?;
    Ok(inserted.rows_affected() > 0)
}

/// Writes a key as it is, to see whether anything can be written. Small, and nobody waits for it.
pub(super) async fn rewrite(db: &mut SqliteConnection) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE signing_keys SET created_at = created_at WHERE generation = (SELECT max(generation) FROM signing_keys)",
    )
    .execute(db)
    .await?;
    Ok(())
}

fn key(row: &SqliteRow) -> Result<SigningKey, DbError> {
    SigningKeyColumns {
        generation: row.try_get("generation")?,
        algorithm: row.try_get("algorithm")?,
        kid: row.try_get("kid")?,
        created_at: time(row, "created_at")?,
        signs_from: time(row, "signs_from")?,
    }
    .try_into()
}
