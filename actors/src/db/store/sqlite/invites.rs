//! Invites. One is open while it is not used, revoked or expired.

use chrono::{DateTime, Utc};
use domain::{
    id::{InviteId, UserId},
    invite::{Invite, InviteHash},
};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::columns::{optional_time, time};
use crate::db::{
    DbError,
    store::{
        rows::{micros, storable},
        stored::InviteColumns,
    },
};

pub(in crate::db::store) async fn list(
    db: &mut SqliteConnection,
    before: Option<InviteId>,
    limit: u32,
) -> Result<Vec<Invite>, DbError> {
    sqlx::query("SELECT * FROM invites WHERE id < ? AND NOT is_first_admin ORDER BY id DESC LIMIT ?")
        .bind(before.map_or(Uuid::max(), InviteId::as_uuid))
        .bind(limit)
        .fetch_all(db)
        .await?
        .iter()
        .map(|row| columns(row)?.try_into())
        .collect()
}

/// An open invite. A transaction is the only one that writes, so nobody else uses or revokes it.
pub(super) async fn hold(
    db: &mut SqliteConnection,
    hash: &InviteHash,
    now: DateTime<Utc>,
) -> Result<Option<Invite>, DbError> {
    sqlx::query(
        "SELECT * FROM invites WHERE hash = ? AND used_at IS NULL AND revoked_at IS NULL
                                 AND (expires_at IS NULL OR expires_at > ?)",
    )
    .bind(hash.as_slice())
    .bind(micros(now))
    .fetch_optional(db)
    .await?
    .map(|row| columns(&row)?.try_into())
    .transpose()
}

pub(super) async fn use_up(
    db: &mut SqliteConnection,
    hash: &InviteHash,
    user: UserId,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    sqlx::query("UPDATE invites SET used_at = ?, used_by = ? WHERE hash = ?")
        .bind(micros(now))
        .bind(user.as_uuid())
        .bind(hash.as_slice())
        .execute(db)
        .await?;
    Ok(())
}

/// Whether there was none of this hash, and this one is stored.
pub(super) async fn insert(
    db: &mut SqliteConnection,
    invite: &Invite,
    hash: &InviteHash,
) -> Result<bool, DbError> {
    let inserted = sqlx::query(
        "INSERT INTO invites (id, hash, role, is_first_admin, note, created_by, created_at, expires_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (hash) DO NOTHING",
    )
    .bind(invite.id.as_uuid())
    .bind(hash.as_slice())
    .bind(invite.role.as_str())
    .bind(invite.is_first_admin)
    .bind(invite.note.as_deref().map(storable))
    .bind(invite.created_by.map(UserId::as_uuid))
    .bind(micros(invite.created_at))
    .bind(invite.expires_at.map(micros))
    .execute(db)
    .await?;
    Ok(inserted.rows_affected() > 0)
}

/// Whether it was open, and is revoked now.
pub(super) async fn revoke(
    db: &mut SqliteConnection,
    invite: InviteId,
    now: DateTime<Utc>,
) -> Result<bool, DbError> {
    let revoked = sqlx::query(
        "UPDATE invites SET revoked_at = ?1
         WHERE id = ?2 AND NOT is_first_admin AND used_at IS NULL AND revoked_at IS NULL
           AND (expires_at IS NULL OR expires_at > ?1)",
    )
    .bind(micros(now))
    .bind(invite.as_uuid())
    .execute(db)
    .await?;
    Ok(revoked.rows_affected() > 0)
}

fn columns(row: &SqliteRow) -> Result<InviteColumns, DbError> {
    Ok(InviteColumns {
        id: row.try_get("id")?,
        role: row.try_get("role")?,
        is_first_admin: row.try_get("is_first_admin")?,
        note: row.try_get("note")?,
        created_by: row.try_get("created_by")?,
        created_at: time(row, "created_at")?,
        expires_at: optional_time(row, "expires_at")?,
        used_at: optional_time(row, "used_at")?,
        used_by: row.try_get("used_by")?,
        revoked_at: optional_time(row, "revoked_at")?,
    })
}
