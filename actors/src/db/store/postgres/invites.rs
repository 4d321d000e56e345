//! Invites. One is open while it is not used, revoked or expired.

use chrono::{DateTime, Utc};
use domain::{
    id::{InviteId, UserId},
    invite::{Invite, InviteHash},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::db::{
    DbError,
    store::{rows::storable, stored::InviteColumns},
};

pub(in crate::db::store) async fn list(
    db: &mut PgConnection,
    before: Option<InviteId>,
    limit: u32,
) -> Result<Vec<Invite>, DbError> {
    sqlx::query_as!(
        InviteColumns,
        "SELECT id, role, is_first_admin, note, created_by, created_at, expires_at, used_at, used_by, revoked_at
         FROM invites WHERE id < $1 AND NOT is_first_admin ORDER BY id DESC LIMIT $2",
        before.map_or(Uuid::max(), InviteId::as_uuid),
        i64::from(limit)
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .map(Invite::try_from)
    .collect()
}

/// An open invite, which nobody else uses or revokes until the transaction ends.
pub(super) async fn hold(
    db: &mut PgConnection,
    hash: &InviteHash,
    now: DateTime<Utc>,
) -> Result<Option<Invite>, DbError> {
    sqlx::query_as!(
        InviteColumns,
        "SELECT id, role, is_first_admin, note, created_by, created_at, expires_at, used_at, used_by, revoked_at
         FROM invites WHERE hash = $1 AND used_at IS NULL AND revoked_at IS NULL
                        AND (expires_at IS NULL OR expires_at > $2) FOR UPDATE",
        hash.as_slice(),
        now
    )
    .fetch_optional(db)
    .await?
    .map(Invite::try_from)
    .transpose()
}

pub(super) async fn use_up(
    db: &mut PgConnection,
    hash: &InviteHash,
    user: UserId,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE invites SET used_at = $1, used_by = $2 WHERE hash = $3",
        now,
        user.as_uuid(),
        hash.as_slice()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whether there was none of this hash, and this one is stored.
pub(super) async fn insert(
    db: &mut PgConnection,
    invite: &Invite,
    hash: &InviteHash,
) -> Result<bool, DbError> {
    let note = invite.note.as_deref().map(storable);
    let inserted = sqlx::query!(
        "INSERT INTO invites (id, hash, role, is_first_admin, note, created_by, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (hash) DO NOTHING",
        invite.id.as_uuid(),
        hash.as_slice(),
        invite.role.as_str(),
        invite.is_first_admin,
        note.as_deref(),
        invite.created_by.map(UserId::as_uuid),
        invite.created_at,
        invite.expires_at
    )
    .execute(db)
    .await?;
    Ok(inserted.rows_affected() > 0)
}

/// Whether it was open, and is revoked now.
pub(super) async fn revoke(
    db: &mut PgConnection,
    invite: InviteId,
    now: DateTime<Utc>,
) -> Result<bool, DbError> {
    let revoked = sqlx::query!(
        "UPDATE invites SET revoked_at = $1
         WHERE id = $2 AND NOT is_first_admin AND used_at IS NULL AND revoked_at IS NULL
           AND (expires_at IS NULL OR expires_at > $1)",
        now,
        invite.as_uuid()
    )
    .execute(db)
    .await?;
    Ok(revoked.rows_affected() > 0)
}
