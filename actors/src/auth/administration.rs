//! What administrators do with other people's accounts. The caller's right to do so was checked by the route.

use std::sync::Arc;

use domain::{
    account::{User, UserChange},
    audit::{AuditEntry, AuditEvent, AuditFilter},
    conversation::Page,
    id::{AuditId, UserId},
    principal::{Credential, Principal, Role},
    session::{Ending, Session},
};

use super::{AuthError, AuthHandle, Origin, Room, audit::Line, error::store_failed};
use crate::db::{DbError, UserSearch};

/// Who acts: an administrator of the service, or whoever runs its command line.
#[derive(Debug, Clone, Default)]
pub struct Administrator {
    pub user: Option<UserId>,
    /// By an API key, which makes no administrators: a stolen one must not outlive its end.
    pub is_by_key: bool,
    pub origin: Origin,
}

impl Administrator {
    pub fn of(caller: &Principal, origin: Origin) -> Self {
        let is_by_key = matches!(caller.credential, Credential::Key { .. });
        Self { user: Some(caller.user), is_by_key, origin }
    }

    /// An entry about what this administrator does to an account.
    fn entry(&self, room: &Room, event: AuditEvent, user: UserId) -> AuditEntry {
        AuditEntry { actor: self.user, user: Some(user), ..room.entry(event, &self.origin) }
    }
}

impl AuthHandle {
    /// # Errors
    ///
    /// [`AuthError::Unavailable`] when the store is away.
    pub async fn users(&self, search: UserSearch) -> Result<Page<User>, AuthError> {
        self.0.db.users(search).await.map_err(store_failed)
    }

    /// # Errors
    ///
    /// [`AuthError::NotFound`]
    pub async fn user(&self, user: UserId) -> Result<User, AuthError> {
        self.0.db.user(user).await.map_err(store_failed)?.ok_or(AuthError::NotFound("account"))
    }

    /// Changes a role or limits, or disables; that counts here at once, elsewhere within the session cache's life. A
    /// disabled account's sessions and keys are dead.
    ///
    /// # Errors
    ///
    /// [`AuthError::NotFound`]; [`AuthError::LastAdministrator`] when nobody could administer afterwards;
    /// [`AuthError::NeedsSession`] when a key would make an administrator; [`AuthError::BadRequest`] names the limit that is
    /// out of its bounds.
    pub async fn change_user(
        &self,
        by: &Administrator,
        user: UserId,
        change: UserChange,
    ) -> Result<User, AuthError> {
        if by.is_by_key && change.role == Some(Role::Admin) {
            return Err(AuthError::NeedsSession);
        }
        if let Some((field, why)) = change.limits.fault() {
            return Err(AuthError::BadRequest { field, why });
        }
        let room = Arc::clone(&self.0);
        let events = [AuditEvent::PrivilegePermissionsChanged, AuditEvent::UserUpdated];
        let entries = events.map(|event| by.entry(&room, event, user)).into();
        let now = room.clock.now();
        let changed = self.0.to_the_end(async move {
            let changed = room.db.update_user(user, change, now, entries).await?;
            room.forget(&changed.ended);
            room.sessions.reconsider(user);
            changed.told.iter().for_each(|entry| Line::of(entry).write());
            Ok(changed.user)
        });
        changed.await?.map_err(not_changed)
    }

    /// Removes the account and all that it said; see [`DbHandle::delete_user`](crate::db::DbHandle::delete_user).
    ///
    /// # Errors
    ///
    /// As for [`AuthHandle::change_user`].
    pub async fn delete_user(&self, by: &Administrator, user: UserId) -> Result<(), AuthError> {
        let entry = by.entry(&self.0, AuditEvent::UserDeleted, user);
        self.0.delete_user(user, entry).await?.map_err(not_changed)
    }

    /// # Errors
    ///
    /// [`AuthError::NotFound`]
    pub async fn user_sessions(&self, user: UserId) -> Result<Vec<Session>, AuthError> {
        self.user(user).await?;
        self.0.sessions_of(user).await
    }

    /// Ends all sessions of an account.
    ///
    /// # Errors
    ///
    /// [`AuthError::NotFound`]
    pub async fn end_user_sessions(&self, by: &Administrator, user: UserId) -> Result<(), AuthError> {
        self.user(user).await?;
        self.0.end_sessions(user, Ending::All, by.user, &by.origin).await
    }

    /// Tells the audit trail what an operator did to the service as a whole; whoever did it says so in the log. Nobody waits for
    /// the entry: with the store away only that line remains.
    pub fn record_operation(&self, by: &Administrator, event: AuditEvent, detail: String) {
        let room = &self.0;
        let entry = AuditEntry { actor: by.user, detail: Some(detail), ..room.entry(event, &by.origin) };
        room.db.note(entry);
    }

    /// What happened, newest first.
    ///
    /// # Errors
    ///
    /// [`AuthError::Unavailable`] when the store is away.
    pub async fn audit_trail(
        &self,
        filter: AuditFilter,
        before: Option<AuditId>,
        limit: u32,
    ) -> Result<Page<AuditEntry>, AuthError> {
        self.0.db.audit(filter, before, limit).await.map_err(store_failed)
    }
}

impl Room {
    /// Removes an account, here at once.
    pub(super) async fn delete_user(
        self: &Arc<Self>,
        user: UserId,
        entry: AuditEntry,
    ) -> Result<Result<(), DbError>, AuthError> {
        self.recorded(entry, |room, entry| async move {
            let deleted = room.db.delete_user(user, entry.at, entry).await?;
            room.forget(&deleted.ended);
            room.sessions.reconsider(user);
            Ok(())
        })
        .await
    }
}

pub(super) fn not_changed(error: DbError) -> AuthError {
    match error {
        DbError::NotFound => AuthError::NotFound("account"),
        DbError::Conflict("last administrator") => AuthError::LastAdministrator,
        // Of two changes that met, one gave way.
        DbError::Conflict(_) => AuthError::Unavailable(error.to_string()),
        error => store_failed(error),
    }
}
