//! The audit trail.

use chrono::{DateTime, Utc};
use domain::audit::{AuditEntry, AuditEvent};
use uuid::Uuid;

use super::{broken, parsed};
use crate::db::DbError;

pub(in crate::db::store) struct AuditColumns {
    pub id: Uuid,
    pub event: String,
    pub actor_id: Option<Uuid>,
    pub user_id: Option<Uuid>,
    pub detail: Option<String>,
    pub address: Option<String>,
    pub request_id: Option<String>,
    pub at: DateTime<Utc>,
}

impl TryFrom<AuditColumns> for AuditEntry {
    type Error = DbError;

    fn try_from(row: AuditColumns) -> Result<Self, DbError> {
        Ok(Self {
            id: row.id.into(),
            event: AuditEvent::parse(&row.event).ok_or_else(|| broken("audit_log.event"))?,
            actor: row.actor_id.map(Into::into),
            user: row.user_id.map(Into::into),
            detail: row.detail,
            address: parsed(row.address.as_deref(), "audit_log.address")?,
            request_id: row.request_id,
            at: row.at,
        })
    }
}
