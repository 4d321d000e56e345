//! Making, listing, limiting and revoking API keys (A15).
//!
//! A key is shown once and only its hash is stored. Nothing is remembered here when one is made: its first use asks the
//! store. One that is revoked is dead here at once.

use std::sync::Arc;

use aws_lc_rs::rand;
use chrono::{DateTime, Utc};
use domain::{
    api_key::{ApiKey, KeyChange, NAME_CHARS},
    audit::{AuditEntry, AuditEvent},
    conversation::Page,
    expiry,
    id::{ApiKeyId, UserId},
    limits::Limits,
    model_access::ModelPatterns,
    principal::{Principal, Role, Scope, Scopes},
    secret::Secret,
    token_text::{self, RANDOM_BYTES, TokenKind},
};
use tokio::time::Instant;

use super::{
    Administrator, AuthError, AuthHandle, Origin, Room, audit::Line, error::store_failed,
    self_service::session_of, truth::Truth,
};
use crate::{clock::fresh_id, db::DbError, digest::sha256};

/// A key as its owner asks for it.
#[derive(Debug, Clone)]
pub struct KeyRequest {
    /// 1 to [`NAME_CHARS`] characters, none of them a control character; blanks around it are dropped.
    pub name: String,
    /// At least one; [`Scope::Admin`] for administrators only.
    pub scopes: Scopes,
    /// Its own, within their bounds ([`Limits::fault`]). They stand beside the account's, so they only narrow those.
    pub limits: Limits,
    /// The models it opens of those that its account may ask; `None`: all of them.
    pub models: Option<ModelPatterns>,
    /// In the future, and at most [`expiry::LIFE_DAYS_MAX`] days away.
    pub expires_at: Option<DateTime<Utc>>,
}

impl KeyRequest {
    fn check(&self, role: Role, now: DateTime<Utc>) -> Result<(), AuthError> {
        let refuse = |field, why| Err(AuthError::BadRequest { field, why });
        let name = self.name.trim();
        if name.is_empty() {
            return refuse("name", "give the key a name");
        }
        if name.chars().count() > NAME_CHARS {
            return refuse("name", "use at most 100 characters");
        }
        if name.chars().any(char::is_control) {
            return refuse("name", "use no control characters");
        }
        if self.scopes.is_empty() {
            return refuse("scopes", "name at least one");
        }
        if self.scopes.contains(Scope::Admin) && role != Role::Admin {
            return refuse("scopes", "only administrators' keys can have the scope admin");
        }
        if let Some((field, why)) = self.limits.fault() {
            return refuse(field, why);
        }
        match self.expires_at.and_then(|end| expiry::fault(end, now)) {
            Some(why) => refuse("expires_at", why),
            None => Ok(()),
        }
    }
}

impl AuthHandle {
    /// Makes a key; what is returned beside its description is shown this once.
    ///
    /// # Errors
    ///
    /// [`AuthError::NeedsSession`] when the caller came with a key; [`AuthError::BadRequest`] names the field of
    /// [`KeyRequest`] that will not do; [`AuthError::TooMany`] when there are too many live ones. After
    /// [`AuthError::Unavailable`] there may be a key that nobody holds: it is in the list, to be revoked.
    pub async fn create_key(
        &self,
        caller: &Principal,
        wanted: KeyRequest,
        origin: Origin,
    ) -> Result<(ApiKey, Secret<String>), AuthError> {
        session_of(caller)?;
        let now = self.0.clock.now();
        wanted.check(caller.role, now)?;
        let mut random = [0; RANDOM_BYTES];
        rand::fill(&mut random).map_err(|_| AuthError::Internal("there is no randomness".to_owned()))?;
        let secret = token_text::compose(TokenKind::ApiKey, &random);
        let key = ApiKey {
            id: fresh_id(),
            user: caller.user,
            name: wanted.name.trim().to_owned(),
            prefix: token_text::recognisable(&secret).to_owned(),
            scopes: wanted.scopes,
            limits: wanted.limits,
            models: wanted.models,
            created_at: now,
            expires_at: wanted.expires_at,
            last_used_at: None,
            revoked_at: None,
        };
        let described = key.clone();
        let hash = sha256(secret.reveal());
        let entry = self.0.entry(AuditEvent::AuthnTokenCreated, &origin);
        let by = Some(caller.user);
        let entry = AuditEntry { actor: by, user: by, detail: Some(key.id.to_string()), ..entry };
        let made = self.0.recorded(entry, |room, entry| async move {
            room.db.create_api_key(described, hash, entry).await
        });
        match made.await? {
            Ok(()) => Ok((key, secret)),
            Err(DbError::Conflict(_)) => Err(AuthError::TooMany("API keys")),
            // The account went while the caller's truth was still fresh.
            Err(DbError::NotFound) => Err(AuthError::BadToken),
            Err(error) => Err(store_failed(error)),
        }
    }

    /// The caller's keys that are not revoked, newest first.
    ///
    /// # Errors
    ///
    /// [`AuthError::NeedsSession`] when the caller came with a key.
    pub async fn keys(
        &self,
        caller: &Principal,
        before: Option<ApiKeyId>,
        limit: u32,
    ) -> Result<Page<ApiKey>, AuthError> {
        session_of(caller)?;
        self.user_keys(caller.user, before, limit).await
    }

    /// Revokes one key of the caller's; it is dead here at once, elsewhere within the session cache's life.
    ///
    /// # Errors
    ///
    /// [`AuthError::NeedsSession`] when the caller came with a key; [`AuthError::NotFound`] when it is not a live one of
    /// theirs. After [`AuthError::Unavailable`] it may be revoked: repeat.
    pub async fn revoke_key(
        &self,
        caller: &Principal,
        key: ApiKeyId,
        origin: Origin,
    ) -> Result<(), AuthError> {
        session_of(caller)?;
        self.0.revoke(Some(caller.user), key, Some(caller.user), &origin).await
    }

    /// An account's keys that are not revoked, newest first.
    ///
    /// # Errors
    ///
    /// [`AuthError::Unavailable`] when the store is away.
    pub async fn user_keys(
        &self,
        user: UserId,
        before: Option<ApiKeyId>,
        limit: u32,
    ) -> Result<Page<ApiKey>, AuthError> {
        self.0.db.api_keys(user, before, limit).await.map_err(store_failed)
    }

    /// Changes the limits of anybody's key, or the models it opens; they count here at once, elsewhere within the session cache's life.
    ///
    /// # Errors
    ///
    /// [`AuthError::BadRequest`] names the limit that is out of its bounds; [`AuthError::NotFound`] when there is no such
    /// live key. After [`AuthError::Unavailable`] they may be changed: repeat.
    pub async fn change_key(
        &self,
        by: &Administrator,
        key: ApiKeyId,
        change: KeyChange,
    ) -> Result<ApiKey, AuthError> {
        if let Some((field, why)) = change.limits.fault() {
            return Err(AuthError::BadRequest { field, why });
        }
        let room = Arc::clone(&self.0);
        let entry = room.entry(AuditEvent::PrivilegePermissionsChanged, &by.origin);
        let entry = AuditEntry { actor: by.user, ..entry };
        let changed = self.0.to_the_end(async move {
            let changed = room.db.change_api_key(key, change, entry).await?;
            room.sessions.reconsider(changed.key.user);
            changed.told.iter().for_each(|entry| Line::of(entry).write());
            Ok(changed.key)
        });
        changed.await?.map_err(no_such_key)
    }

    /// Revokes anybody's key.
    ///
    /// # Errors
    ///
    /// [`AuthError::NotFound`] when there is no such live key.
    pub async fn revoke_any_key(&self, by: &Administrator, key: ApiKeyId) -> Result<(), AuthError> {
        self.0.revoke(None, key, by.user, &by.origin).await
    }
}

impl Room {
    /// Revokes a key of `owner`, or of anybody; the end of it is known here even if the caller leaves.
    async fn revoke(
        self: &Arc<Self>,
        owner: Option<UserId>,
        key: ApiKeyId,
        by: Option<UserId>,
        origin: &Origin,
    ) -> Result<(), AuthError> {
        let entry = self.entry(AuditEvent::AuthnTokenRevoked, origin);
        let entry = AuditEntry { actor: by, user: owner, detail: Some(key.to_string()), ..entry };
        let revoked = self.recorded(entry, |room, entry| async move {
            let hash = room.db.revoke_api_key(owner, key, entry.at, entry).await?;
            room.sessions.learn(hash, Truth::ended(Instant::now()));
            Ok(())
        });
        revoked.await?.map_err(no_such_key)
    }
}

fn no_such_key(error: DbError) -> AuthError {
    match error {
        DbError::NotFound => AuthError::NotFound("API key"),
        error => store_failed(error),
    }
}
