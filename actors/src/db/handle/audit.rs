//! The audit trail.

#[cfg(doc)]
use domain::conversation::PAGE_LIMIT_MAX;
use domain::{
    audit::{AuditEntry, AuditFilter},
    conversation::Page,
    id::AuditId,
};

use crate::db::{DbError, DbHandle, message::Write};

impl DbHandle {
    /// Writes an entry about something that changed nothing, such as a refusal. Nobody waits for it: when the lane is
    /// half full or the database is away it is dropped and counted, and its log line is what remains.
    pub fn note(&self, entry: AuditEntry) {
        self.lane(entry.id.as_uuid()).place_note(Write::Note(Box::new(entry)));
    }

    /// Entries that the filter lets through, newest first; at most [`PAGE_LIMIT_MAX`].
    pub async fn audit(
        &self,
        filter: AuditFilter,
        before: Option<AuditId>,
        limit: u32,
    ) -> Result<Page<AuditEntry>, DbError> {
        let id = |entry: &AuditEntry| entry.id.as_uuid();
        self.page(limit, id, move |store, limit| store.audit(filter, before, limit)).await
    }
}
