//! Keys and the turns they stand for.
//!
//! All lanes insert in one order, so that one waits for the other rather than both for each other. Who removes keys
//! leaves alone what somebody else is removing.

use chrono::{DateTime, Utc};
use domain::{
    id::{TurnId, UserId},
    turn::BeginTurn,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::db::{
    DbError,
    store::{
        plan::Standing,
        rows::{ClaimRow, json},
        stored::hash,
    },
};

/// Has the keys that are free stand for these turns. A key that another transaction is taking is waited for.
pub(super) async fn insert(db: &mut PgConnection, with_keys: &[&BeginTurn]) -> Result<(), DbError> {
    sqlx::query!(
        r#"INSERT INTO idempotency_keys (user_id, key, request, turn_id, created_at)
           SELECT r."user", decode(r.key, 'hex'), decode(r.request, 'hex'), r.turn, to_timestamp(r.at / 1e6)
           FROM ROWS FROM (json_to_recordset($1::text::json) AS (turn uuid, "user" uuid, key text, request text, at bigint))
                WITH ORDINALITY AS r (turn, "user", key, request, at, place)
           ORDER BY r.place
           ON CONFLICT DO NOTHING"#,
        rows(with_keys)?
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Which turn the key of each of these stands for.
pub(super) async fn standings(
    db: &mut PgConnection,
    with_keys: &[&BeginTurn],
) -> Result<Vec<Standing>, DbError> {
    Ok(sqlx::query_as!(
        Standing,
        r#"SELECT r.turn AS "asked!", k.turn_id AS turn, k.request = decode(r.request, 'hex') AS "same_request!"
           FROM json_to_recordset($1::text::json) AS r (turn uuid, "user" uuid, key text, request text)
           JOIN idempotency_keys k ON k.user_id = r."user" AND k.key = decode(r.key, 'hex')"#,
        rows(with_keys)?
    )
    .fetch_all(db)
    .await?)
}

/// Frees the keys of turns that this transaction took them for.
pub(super) async fn release(db: &mut PgConnection, turns: &[TurnId]) -> Result<(), DbError> {
    sqlx::query!("DELETE FROM idempotency_keys WHERE turn_id = ANY($1)", &ids(turns)).execute(db).await?;
    Ok(())
}

/// Frees the keys of those of these turns that are not settled.
pub(super) async fn release_unsettled(db: &mut PgConnection, turns: &[TurnId]) -> Result<(), DbError> {
    sqlx::query!(
        "DELETE FROM idempotency_keys WHERE turn_id IN
             (SELECT k.turn_id FROM idempotency_keys k JOIN turns t ON t.id = k.turn_id
              WHERE k.turn_id = ANY($1) AND t.status IN ('streaming', 'interrupted') FOR UPDATE OF k SKIP LOCKED)",
        &ids(turns)
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn release_before(
    db: &mut PgConnection,
    before: DateTime<Utc>,
    limit: u32,
) -> Result<u64, DbError> {
    let released = sqlx::query!(
        "DELETE FROM idempotency_keys WHERE turn_id IN
             (SELECT turn_id FROM idempotency_keys WHERE created_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
        before,
        i64::from(limit)
    )
    .execute(db)
    .await?;
    Ok(released.rows_affected())
}

pub(in crate::db::store) async fn of_key(
    db: &mut PgConnection,
    user: UserId,
    key: [u8; 32],
) -> Result<Option<(TurnId, [u8; 32])>, DbError> {
    sqlx::query!(
        "SELECT turn_id, request FROM idempotency_keys WHERE user_id = $1 AND key = $2",
        user.as_uuid(),
        key.as_slice()
    )
    .fetch_optional(db)
    .await?
    .map(|row| Ok((row.turn_id.into(), hash(&row.request, "idempotency_keys.request")?)))
    .transpose()
}

fn rows(with_keys: &[&BeginTurn]) -> Result<String, DbError> {
    json(&with_keys.iter().filter_map(|begin| ClaimRow::of(begin)).collect::<Vec<_>>())
}

fn ids(turns: &[TurnId]) -> Vec<Uuid> {
    turns.iter().map(|turn| turn.as_uuid()).collect()
}
