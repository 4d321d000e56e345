//! API keys, invites and signing keys. Each change is one transaction together with its audit entry.

use chrono::{DateTime, Utc};
use domain::{
    account::User,
    api_key::{ApiKey, KeyChange, KeyChanged, KeyHash},
    audit::AuditEntry,
    conversation::Page,
    id::{ApiKeyId, InviteId, UserId},
    invite::{Invite, InviteHash},
    signing_key::SigningKey,
};
#[cfg(doc)]
use domain::{api_key::KEYS_PER_USER, conversation::PAGE_LIMIT_MAX};
use uuid::Uuid;

use crate::db::{DbError, DbHandle, message::Write};

/// The generation of signing keys that follows another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextKey {
    /// As it was asked for, and audited.
    Added(SigningKey),
    /// Somebody else was faster: this is theirs.
    Found(SigningKey),
}

impl NextKey {
    pub fn key(self) -> SigningKey {
        match self {
            Self::Added(key) | Self::Found(key) => key,
        }
    }
}

impl DbHandle {
    /// Stores a key.
    ///
    /// # Errors
    ///
    /// [`DbError::Conflict`] when the account has [`KEYS_PER_USER`] that live at `created_at`; [`DbError::NotFound`] when the
    /// account is gone.
    pub async fn create_api_key(&self, key: ApiKey, hash: KeyHash, audit: AuditEntry) -> Result<(), DbError> {
        let (key, audit) = (Box::new(key), Box::new(audit));
        self.write(key.user.as_uuid(), Write::CreateApiKey { key, hash, audit }).await
    }

    /// The key of this hash and its user, whatever their state. It is what the next request is let in by, so it must come
    /// from the database that is written to, never from a replica that lags.
    pub async fn api_key(&self, hash: KeyHash) -> Result<Option<(ApiKey, User)>, DbError> {
        self.read(move |store| store.api_key(hash)).await
    }

    /// The account's keys that are not revoked, expired ones included, newest first; at most [`PAGE_LIMIT_MAX`].
    pub async fn api_keys(
        &self,
        owner: UserId,
        before: Option<ApiKeyId>,
        limit: u32,
    ) -> Result<Page<ApiKey>, DbError> {
        let id = |key: &ApiKey| key.id.as_uuid();
        self.page(limit, id, move |store, limit| store.api_keys(owner, before, limit)).await
    }

    /// Changes the limits of a key, or the models it opens. What is so already changes nothing, and is not told of; the entry's `user` becomes the
    /// key's owner, and its `detail` the key and what changed.
    ///
    /// # Errors
    ///
    /// [`DbError::NotFound`] when there is no such key, or it is revoked.
    pub async fn change_api_key(
        &self,
        key: ApiKeyId,
        change: KeyChange,
        audit: AuditEntry,
    ) -> Result<KeyChanged, DbError> {
        self.write(
            key.as_uuid(),
            Write::ChangeApiKey { key, change: Box::new(change), audit: Box::new(audit) },
        )
        .await
    }

    /// Revokes a key and returns its hash; `owner` is `None` for administrators only. The entry's `user` becomes the
    /// key's owner.
    ///
    /// # Errors
    ///
    /// [`DbError::NotFound`] when this owner has no such key, or it is revoked already.
    pub async fn revoke_api_key(
        &self,
        owner: Option<UserId>,
        key: ApiKeyId,
        now: DateTime<Utc>,
        audit: AuditEntry,
    ) -> Result<KeyHash, DbError> {
        let audit = Box::new(audit);
        self.write(key.as_uuid(), Write::RevokeApiKey { owner, key, now, audit }).await
    }

    /// Stores an invite.
    ///
    /// # Errors
    ///
    /// [`DbError::Conflict`] when there is one of this hash.
    pub async fn create_invite(
        &self,
        invite: Invite,
        hash: InviteHash,
        audit: AuditEntry,
    ) -> Result<(), DbError> {
        let (invite, audit) = (Box::new(invite), Box::new(audit));
        self.write(invite.id.as_uuid(), Write::CreateInvite { invite, hash, audit }).await
    }

    /// Makes the first administrator's invite unless it was made before or there is an administrator; returns whether it
    /// can be used now. Nothing is audited: it is the same code at each start.
    pub async fn offer_first_admin(&self, invite: Invite, hash: InviteHash) -> Result<bool, DbError> {
        self.write(Uuid::nil(), Write::OfferFirstAdmin { invite: Box::new(invite), hash }).await
    }

    /// Newest first, without the first administrator's; at most [`PAGE_LIMIT_MAX`].
    pub async fn invites(&self, before: Option<InviteId>, limit: u32) -> Result<Page<Invite>, DbError> {
        let id = |invite: &Invite| invite.id.as_uuid();
        self.page(limit, id, move |store, limit| store.invites(before, limit)).await
    }

    /// Ends an invite.
    ///
    /// # Errors
    ///
    /// [`DbError::NotFound`] when there is no such invite that could still be used.
    pub async fn revoke_invite(
        &self,
        invite: InviteId,
        now: DateTime<Utc>,
        audit: AuditEntry,
    ) -> Result<(), DbError> {
        self.write(invite.as_uuid(), Write::RevokeInvite { invite, now, audit: Box::new(audit) }).await
    }

    /// Every generation, oldest first.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKey>, DbError> {
        self.read(|store| store.signing_keys()).await
    }

    /// Adds a generation, unless there is one of its number. The entry is written if it is ours.
    pub async fn add_signing_key(&self, key: SigningKey, audit: AuditEntry) -> Result<NextKey, DbError> {
        self.write(Uuid::nil(), Write::AddSigningKey { key, audit: Box::new(audit) }).await
    }
}
