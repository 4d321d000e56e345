//! Keys and the turns they stand for.

use chrono::{DateTime, Utc};
use domain::{
    id::{TurnId, UserId},
    turn::BeginTurn,
};
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use crate::db::{
    DbError,
    store::{
        plan::Standing,
        rows::{ClaimRow, json, micros},
        stored::hash,
    },
};

/// Has the keys that are free stand for these turns.
pub(super) async fn insert(db: &mut SqliteConnection, with_keys: &[&BeginTurn]) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO idempotency_keys (user_id, key, request, turn_id, created_at)
         SELECT unhex(value->>'user', '-'), unhex(value->>'key'), unhex(value->>'request'), unhex(value->>'turn', '-'),
                value->>'at'
         FROM jsonb_each(?1) WHERE true ORDER BY jsonb_each.key
         ON CONFLICT DO NOTHING",
    )
    .bind(rows(with_keys)?)
    .execute(db)
    .await?;
    Ok(())
}

/// Which turn the key of each of these stands for.
pub(super) async fn standings(
    db: &mut SqliteConnection,
    with_keys: &[&BeginTurn],
) -> Result<Vec<Standing>, DbError> {
    let standings = sqlx::query(
        "SELECT unhex(value->>'turn', '-') AS asked, k.turn_id AS turn, k.request = unhex(value->>'request') AS same_request
         FROM jsonb_each(?)
         JOIN idempotency_keys k ON k.user_id = unhex(value->>'user', '-') AND k.key = unhex(value->>'key')",
    )
    .bind(rows(with_keys)?)
    .fetch_all(db)
    .await?;
    let standing = |row: &sqlx::sqlite::SqliteRow| {
        Ok(Standing {
            asked: row.try_get::<Uuid, _>("asked")?.into(),
            turn: row.try_get::<Uuid, _>("turn")?.into(),
            same_request: row.try_get("same_request")?,
        })
    };
    standings.iter().map(standing).collect()
}

/// Frees the keys of turns that this transaction took them for.
pub(super) async fn release(db: &mut SqliteConnection, turns: &[TurnId]) -> Result<(), DbError> {
    sqlx::query(
        "DELETE FROM idempotency_keys WHERE turn_id IN (SELECT unhex(value, '-') FROM jsonb_each(?))",
    )
    .bind(json(turns)?)
    .execute(db)
    .await?;
    Ok(())
}

/// Frees the keys of those of these turns that are not settled.
pub(super) async fn release_unsettled(db: &mut SqliteConnection, turns: &[TurnId]) -> Result<(), DbError> {
    sqlx::query(
        "DELETE FROM idempotency_keys WHERE turn_id IN
             (SELECT id FROM turns WHERE id IN (SELECT unhex(value, '-') FROM jsonb_each(?))
                                     AND status IN ('streaming', 'interrupted'))",
    )
    .bind(json(turns)?)
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn release_before(
    db: &mut SqliteConnection,
    before: DateTime<Utc>,
    limit: u32,
) -> Result<u64, DbError> {
    let released = sqlx::query(
        "DELETE FROM idempotency_keys WHERE turn_id IN
             (SELECT turn_id FROM idempotency_keys WHERE created_at < ? LIMIT ?)",
    )
    .bind(micros(before))
    .bind(limit)
    .execute(db)
    .await?;
    Ok(released.rows_affected())
}

pub(in crate::db::store) async fn of_key(
    db: &mut SqliteConnection,
    user: UserId,
    key: [u8; 32],
) -> Result<Option<(TurnId, [u8; 32])>, DbError> {
    sqlx::query("SELECT turn_id, request FROM idempotency_keys WHERE user_id = ? AND key = ?")
        .bind(user.as_uuid())
        .bind(key.as_slice())
        .fetch_optional(db)
        .await?
        .map(|row| {
            let request: Vec<u8> = row.try_get("request")?;
            Ok((row.try_get::<Uuid, _>("turn_id")?.into(), hash(&request, "idempotency_keys.request")?))
        })
        .transpose()
}

fn rows(with_keys: &[&BeginTurn]) -> Result<String, DbError> {
    json(&with_keys.iter().filter_map(|begin| ClaimRow::of(begin)).collect::<Vec<_>>())
}
