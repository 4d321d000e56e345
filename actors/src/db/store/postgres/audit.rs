//! The audit trail.

use domain::{
    audit::{AuditEntry, AuditEvent, AuditFilter},
    id::{AuditId, UserId},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::db::{
    DbError,
    store::{
        rows::{AuditRow, json},
        stored::AuditColumns,
    },
};

/// Appends to the audit trail, inside the transaction of what it records. What is there already is not repeated.
pub(super) async fn record(db: &mut PgConnection, entries: &[&AuditEntry]) -> Result<(), DbError> {
    let rows = json(&entries.iter().map(|entry| AuditRow::of(entry)).collect::<Vec<_>>())?;
    sqlx::query!(
        r#"INSERT INTO audit_log (id, event, actor_id, user_id, detail, address, request_id, at)
           SELECT r.id, r.event, r.actor, r."user", r.detail, r.address, r.request_id, to_timestamp(r.at / 1e6)
           FROM json_to_recordset($1::text::json)
                AS r (id uuid, event text, actor uuid, "user" uuid, detail text, address text, request_id text, at bigint)
           ON CONFLICT (id) DO NOTHING"#,
        rows
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(in crate::db::store) async fn list(
    db: &mut PgConnection,
    filter: AuditFilter,
    before: Option<AuditId>,
    limit: u32,
) -> Result<Vec<AuditEntry>, DbError> {
    // Planned anew for the values given, conditions on what is null fall away and the others find their index.
    sqlx::query_as!(
        AuditColumns,
        "SELECT id, event, actor_id, user_id, detail, address, request_id, at FROM audit_log
         WHERE id < $1 AND ($2::text IS NULL OR event = $2) AND ($3::uuid IS NULL OR actor_id = $3)
           AND ($4::uuid IS NULL OR user_id = $4) AND ($5::text IS NULL OR address = $5)
           AND ($6::timestamptz IS NULL OR at >= $6) AND ($7::timestamptz IS NULL OR at < $7)
         ORDER BY id DESC LIMIT $8",
        before.map_or(Uuid::max(), AuditId::as_uuid),
        filter.event.map(AuditEvent::as_str),
        filter.actor.map(UserId::as_uuid),
        filter.user.map(UserId::as_uuid),
        filter.address.map(|address| address.to_string()),
        filter.since,
        filter.until,
        i64::from(limit)
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(AuditEntry::try_from)
    .collect()
}
