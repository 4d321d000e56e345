//! The audit trail.

use domain::{
    audit::{AuditEntry, AuditEvent, AuditFilter},
    id::{AuditId, UserId},
};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::columns::time;
use crate::db::{
    DbError,
    store::{
        rows::{AuditRow, json, micros},
        stored::AuditColumns,
    },
};

/// Appends to the audit trail, inside the transaction of what it records. What is there already is not repeated.
pub(super) async fn record(db: &mut SqliteConnection, entries: &[&AuditEntry]) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO audit_log (id, event, actor_id, user_id, detail, address, request_id, at)
         SELECT unhex(value->>'id', '-'), value->>'event', unhex(value->>'actor', '-'), unhex(value->>'user', '-'),
                value->>'detail', value->>'address', value->>'request_id', value->>'at'
         FROM jsonb_each(?) WHERE true
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(json(&entries.iter().map(|entry| AuditRow::of(entry)).collect::<Vec<_>>())?)
    .execute(db)
    .await?;
    Ok(())
}

pub(in crate::db::store) async fn list(
    db: &mut SqliteConnection,
    filter: AuditFilter,
    before: Option<AuditId>,
    limit: u32,
) -> Result<Vec<AuditEntry>, DbError> {
    // Only the conditions that are asked for: SQLite plans before it knows which values are null.
    let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM audit_log WHERE id < ");
    query.push_bind(before.map_or(Uuid::max(), AuditId::as_uuid));
    if let Some(event) = filter.event.map(AuditEvent::as_str) {
        query.push(" AND event = ").push_bind(event);
    }
    if let Some(actor) = filter.actor.map(UserId::as_uuid) {
        query.push(" AND actor_id = ").push_bind(actor);
    }
    if let Some(user) = filter.user.map(UserId::as_uuid) {
        query.push(" AND user_id = ").push_bind(user);
    }
    if let Some(address) = filter.address {
        query.push(" AND address = ").push_bind(address.to_string());
    }
    if let Some(since) = filter.since {
        query.push(" AND at >= ").push_bind(micros(since));
    }
    if let Some(until) = filter.until {
        query.push(" AND at < ").push_bind(micros(until));
    }
    query.push(" ORDER BY id DESC LIMIT ").push_bind(limit);
    query.build().fetch_all(db).await?.iter().map(|row| columns(row)?.try_into()).collect()
}

fn columns(row: &SqliteRow) -> Result<AuditColumns, DbError> {
    Ok(AuditColumns {
        id: row.try_get("id")?,
        event: row.try_get("event")?,
        actor_id: row.try_get("actor_id")?,
        user_id: row.try_get("user_id")?,
        detail: row.try_get("detail")?,
        address: row.try_get("address")?,
        request_id: row.try_get("request_id")?,
        at: time(row, "at")?,
    })
}
