//! Invites: codes that make one account each.

use chrono::{DateTime, Utc};

use crate::{
    id::{InviteId, UserId},
    principal::Role,
};

/// SHA-256 of a whole code: all that is stored of it.
pub type InviteHash = [u8; 32];

/// Longest note, in characters.
pub const NOTE_CHARS: usize = 200;

/// An invite as administrators see it later; the code itself was shown once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    pub id: InviteId,
    /// What the account that it makes may do.
    pub role: Role,
    /// The first administrator's: worthless as soon as there is any administrator.
    pub is_first_admin: bool,
    /// For whom it is, or what for.
    pub note: Option<String>,
    /// `None` when it was made at the command line.
    pub created_by: Option<UserId>,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub used_at: Option<DateTime<Utc>>,
    pub used_by: Option<UserId>,
    pub revoked_at: Option<DateTime<Utc>>,
}
