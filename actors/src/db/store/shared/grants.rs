//! What lets others in: API keys, invites, and the keys that tokens are signed with.

use chrono::{DateTime, Utc};
use domain::{
    api_key::{ApiKey, KEYS_PER_USER, KeyChange, KeyChanged, KeyHash},
    audit::AuditEntry,
    id::{ApiKeyId, InviteId, UserId},
    invite::{Invite, InviteHash},
    model_access,
    signing_key::SigningKey,
};

use super::super::{Connection, accounts, administrators, api_keys, audit::record, invites, signing_keys};
use crate::db::{DbError, NextKey, store::stop::Stop};

pub(super) async fn create_key(
    db: &mut Connection,
    key: &ApiKey,
    hash: &KeyHash,
    audit: &AuditEntry,
) -> Result<(), Stop> {
    // Held, or two at once would count the same keys, and somebody who is disabled right now would find a key when enabled
    // again.
    if accounts::hold(db, key.user).await?.is_none_or(|account| account.user.disabled) {
        return Err(Stop::NOT_FOUND);
    }
    if api_keys::count(db, key.user, key.created_at).await? >= KEYS_PER_USER as u64 {
        return Err(Stop::conflict("too many keys"));
    }
    api_keys::insert(db, key, hash).await?;
    Ok(record(db, &[audit]).await?)
}

pub(super) async fn change_key(
    db: &mut Connection,
    key: ApiKeyId,
    change: &KeyChange,
    audit: &AuditEntry,
) -> Result<KeyChanged, Stop> {
    let before = api_keys::hold(db, key).await?.ok_or(Stop::NOT_FOUND)?;
    let limits = change.limits.of(before.limits);
    let models = change.models.clone().unwrap_or_else(|| before.models.clone());
    let key = ApiKey { limits, models, ..before.clone() };
    let changes = [
        key.limits.told_since(&before.limits),
        model_access::told_since(before.models.as_ref(), key.models.as_ref()),
    ];
    let changes: Vec<_> = changes.into_iter().flatten().collect();
    if changes.is_empty() {
        return Ok(KeyChanged { key, told: None });
    }
    let detail = Some(format!("{}: {}", key.id, changes.join(", ")));
    let told = AuditEntry { user: Some(key.user), detail, ..audit.clone() };
    api_keys::set_terms(db, &key).await?;
    record(db, &[&told]).await?;
    Ok(KeyChanged { key, told: Some(told) })
}

pub(super) async fn revoke_key(
    db: &mut Connection,
    owner: Option<UserId>,
    key: ApiKeyId,
    now: DateTime<Utc>,
    audit: &AuditEntry,
) -> Result<KeyHash, Stop> {
    let Some((user, hash)) = api_keys::revoke(db, owner, key, now).await? else {
        return Err(Stop::NOT_FOUND);
    };
    record(db, &[&AuditEntry { user: Some(user), ..audit.clone() }]).await?;
    Ok(hash)
}

pub(super) async fn create_invite(
    db: &mut Connection,
    invite: &Invite,
    hash: &InviteHash,
    audit: &AuditEntry,
) -> Result<(), Stop> {
    if !invites::insert(db, invite, hash).await? {
        return Err(Stop::conflict("invite"));
    }
    Ok(record(db, &[audit]).await?)
}

pub(super) async fn offer_first_admin(
    db: &mut Connection,
    invite: &Invite,
    hash: &InviteHash,
) -> Result<bool, DbError> {
    administrators::hold(db).await?;
    if administrators::exist(db, None).await? {
        return Ok(false);
    }
    invites::insert(db, invite, hash).await?;
    Ok(invites::hold(db, hash, invite.created_at).await?.is_some())
}

pub(super) async fn revoke_invite(
    db: &mut Connection,
    invite: InviteId,
    now: DateTime<Utc>,
    audit: &AuditEntry,
) -> Result<(), Stop> {
    if !invites::revoke(db, invite, now).await? {
        return Err(Stop::NOT_FOUND);
    }
    Ok(record(db, &[audit]).await?)
}

pub(super) async fn add_signing_key(
    db: &mut Connection,
    key: &SigningKey,
    audit: &AuditEntry,
) -> Result<NextKey, DbError> {
    if signing_keys::insert(db, key).await? {
        record(db, &[audit]).await?;
        return Ok(NextKey::Added(key.clone()));
    }
    Ok(NextKey::Found(signing_keys::one(db, key.generation).await?))
}
