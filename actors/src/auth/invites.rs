//! Invites: codes that make one account each, and the first administrator's.
//!
//! The first administrator's code is not drawn but derived from the master secret, so that every start and every instance
//! shows the same one, and nothing of it is kept (A18).

use aws_lc_rs::rand;
use chrono::{DateTime, Utc};
use domain::{
    audit::{AuditEntry, AuditEvent},
    conversation::Page,
    expiry,
    id::InviteId,
    invite::{Invite, InviteHash, NOTE_CHARS},
    principal::Role,
    secret::Secret,
    token_text::{self, RANDOM_BYTES, TokenKind},
};

use super::{Administrator, AuthError, AuthHandle, error::store_failed, keys::Keys};
use crate::{clock::fresh_id, db::DbError, digest::sha256};

/// An invite as an administrator asks for it.
#[derive(Debug, Clone)]
pub struct InviteRequest {
    pub role: Role,
    pub note: Option<String>,
    /// In the future, and at most [`expiry::LIFE_DAYS_MAX`] days away.
    pub expires_at: Option<DateTime<Utc>>,
}

impl AuthHandle {
    /// Makes an invite; its code is shown this once.
    ///
    /// # Errors
    ///
    /// [`AuthError::BadRequest`] names the field; [`AuthError::NeedsSession`] when a key asks for an administrator's.
    pub async fn create_invite(
        &self,
        by: &Administrator,
        wanted: InviteRequest,
    ) -> Result<(Invite, Secret<String>), AuthError> {
        let room = &self.0;
        let now = room.clock.now();
        if by.is_by_key && wanted.role == Role::Admin {
            return Err(AuthError::NeedsSession);
        }
        wanted.check(now)?;
        let mut random = [0; RANDOM_BYTES];
        rand::fill(&mut random).map_err(|_| AuthError::Internal("no randomness".to_owned()))?;
        let code = token_text::compose(TokenKind::Invite, &random);
        let invite = Invite { created_by: by.user, ..wanted.into_invite(now) };
        let entry = AuditEntry {
            actor: by.user,
            detail: Some(format!("{} as {}", invite.id, invite.role.as_str())),
            ..room.entry(AuditEvent::InviteCreated, &by.origin)
        };
        let hash = sha256(code.reveal());
        let stored = invite.clone();
        room.recorded(entry, |room, entry| async move { room.db.create_invite(stored, hash, entry).await })
            .await?
            .map_err(store_failed)?;
        Ok((invite, code))
    }

    /// Newest first, without the first administrator's.
    ///
    /// # Errors
    ///
    /// [`AuthError::Unavailable`] when the store is away.
    pub async fn invites(&self, before: Option<InviteId>, limit: u32) -> Result<Page<Invite>, AuthError> {
        self.0.db.invites(before, limit).await.map_err(store_failed)
    }

    /// # Errors
    ///
    /// [`AuthError::NotFound`] when it cannot be used any more anyway.
    pub async fn revoke_invite(&self, by: &Administrator, invite: InviteId) -> Result<(), AuthError> {
        let entry = AuditEntry {
            actor: by.user,
            detail: Some(invite.to_string()),
            ..self.0.entry(AuditEvent::InviteRevoked, &by.origin)
        };
        let revoked = self.0.recorded(entry, |room, entry| async move {
            room.db.revoke_invite(invite, entry.at, entry).await
        });
        revoked.await?.map_err(|error| match error {
            DbError::NotFound => AuthError::NotFound("invite"),
            error => store_failed(error),
        })
    }

    /// The code that makes the first administrator, as long as there is none; the same at every start.
    ///
    /// # Errors
    ///
    /// [`AuthError::Unavailable`] when the store is away: nobody knows whether there is one. Ask again; it changes
    /// nothing.
    pub async fn first_admin_code(&self) -> Result<Option<Secret<String>>, AuthError> {
        let room = &self.0;
        let code = first_admin(&room.keys);
        let wanted = InviteRequest { role: Role::Admin, note: None, expires_at: None };
        let invite = Invite { is_first_admin: true, ..wanted.into_invite(room.clock.now()) };
        let is_open = room.db.offer_first_admin(invite, sha256(code.reveal())).await.map_err(store_failed)?;
        Ok(is_open.then_some(code))
    }
}

impl InviteRequest {
    fn check(&self, now: DateTime<Utc>) -> Result<(), AuthError> {
        let refused = |field, why| Err(AuthError::BadRequest { field, why });
        if self.note.as_ref().is_some_and(|note| note.chars().count() > NOTE_CHARS) {
            return refused("note", "a note may have at most 200 characters");
        }
        if self.note.as_ref().is_some_and(|note| note.chars().any(char::is_control)) {
            return refused("note", "a note is one line of text");
        }
        match self.expires_at.and_then(|end| expiry::fault(end, now)) {
            Some(why) => refused("expires_at", why),
            None => Ok(()),
        }
    }

    fn into_invite(self, now: DateTime<Utc>) -> Invite {
        Invite {
            id: fresh_id(),
            role: self.role,
            is_first_admin: false,
            note: self.note,
            created_by: None,
            created_at: now,
            expires_at: self.expires_at,
            used_at: None,
            used_by: None,
            revoked_at: None,
        }
    }
}

/// What is stored of a code that somebody shows; `None` for what was never one, which costs no question to the store.
pub(super) fn hash_of(code: &Secret<String>) -> Option<InviteHash> {
    token_text::is_well_formed(TokenKind::Invite, code.reveal()).then(|| sha256(code.reveal()))
}

/// The first administrator's code.
pub(super) fn first_admin(keys: &Keys) -> Secret<String> {
    token_text::compose(TokenKind::Invite, keys.first_admin.reveal())
}
