//! Invites: codes that make one account each.

use std::sync::Arc;

use actors::{auth::InviteRequest, system::System};
use chrono::{DateTime, Utc};
use domain::{
    id::{InviteId, UserId},
    invite::Invite,
    principal::Role,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::administrator;
use crate::{
    http::{ApiError, Call, Reply, empty_reply, json_reply},
    routes::{
        expiry,
        list::{List, PageParams, PageRequest},
        shapes,
    },
};

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewInvite {
    /// What the account that it makes may do: `user` (default) or `admin`.
    #[schema(schema_with = shapes::role)]
    role: Option<Role>,
    /// For whom it is, or what for; up to 200 characters.
    #[schema(max_length = 200)]
    note: Option<String>,
    /// It is good until it is used or revoked if this is left out.
    #[schema(minimum = 1, maximum = 3650)]
    expires_in_days: Option<u32>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct InviteView {
    #[schema(value_type = Uuid)]
    id: InviteId,
    /// `user` or `admin`.
    role: &'static str,
    note: Option<String>,
    /// `null` when it was made at the command line.
    #[schema(value_type = Option<Uuid>)]
    created_by: Option<UserId>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    used_at: Option<DateTime<Utc>>,
    #[schema(value_type = Option<Uuid>)]
    used_by: Option<UserId>,
    revoked_at: Option<DateTime<Utc>>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedInvite {
    /// Shown this once: only a hash of it is kept. Whoever signs up gives it as `invite`.
    code: String,
    #[serde(flatten)]
    view: InviteView,
}

impl From<Invite> for InviteView {
    fn from(invite: Invite) -> Self {
        Self {
            id: invite.id,
            role: invite.role.as_str(),
            note: invite.note,
            created_by: invite.created_by,
            created_at: invite.created_at,
            expires_at: invite.expires_at,
            used_at: invite.used_at,
            used_by: invite.used_by,
            revoked_at: invite.revoked_at,
        }
    }
}

/// Makes an invite.
#[utoipa::path(post, path = "/v1/admin/invites", operation_id = "createInvite", tag = "admin",
    request_body = Option<NewInvite>, responses((status = 201, body = CreatedInvite), (status = 422)))]
pub(crate) async fn create(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let NewInvite { role, note, expires_in_days } = call.account_or_default().await?;
    let expires_at = expires_in_days.map(|days| expiry::in_days(days, system.clock())).transpose()?;
    let wanted = InviteRequest { role: role.unwrap_or(Role::User), note, expires_at };
    let (made, code) = system.auth.create_invite(&administrator(&call)?, wanted).await?;
    Ok(json_reply(StatusCode::CREATED, &CreatedInvite { code: code.into_inner(), view: made.into() }))
}

/// Lists invites, newest first, used ones too.
#[utoipa::path(get, path = "/v1/admin/invites", operation_id = "listInvites", tag = "admin",
    params(PageParams),
    responses((status = 200, body = List<InviteView>)))]
pub(crate) async fn list(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let page = PageRequest::of(&call)?;
    let found = system.auth.invites(page.before(), page.limit).await?;
    Ok(json_reply(StatusCode::OK, &List::<InviteView>::of(found)))
}

/// Revokes an invite that was not used yet.
#[utoipa::path(delete, path = "/v1/admin/invites/{id}", operation_id = "revokeInvite", tag = "admin",
    params(("id" = Uuid, Path)), responses((status = 204)))]
pub(crate) async fn revoke(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    system.auth.revoke_invite(&administrator(&call)?, call.id()?).await?;
    Ok(empty_reply())
}
