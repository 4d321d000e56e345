//! The caller's own account: who they are, and their password.

use std::sync::Arc;

use actors::{auth::AuthError, system::System};
use chrono::{DateTime, Utc};
use domain::{
    id::UserId,
    password::Password,
    principal::{Credential, Principal, Role, Scope},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::tokens::{Delivery, Tokens, Transport};
use crate::{
    http::{ApiError, Call, Reply, json_reply},
    routes::limits::LimitsView,
};

#[derive(Serialize, ToSchema)]
pub(crate) struct Me {
    #[schema(value_type = Uuid)]
    id: UserId,
    email: String,
    /// `user` or `admin`.
    role: &'static str,
    created_at: DateTime<Utc>,
    /// What an administrator set for the account, in place of the service's own.
    limits: LimitsView,
    credential: CredentialView,
}

/// With what the caller proved who they are.
#[derive(Serialize, ToSchema)]
pub(crate) struct CredentialView {
    /// `session` or `api_key`.
    r#type: &'static str,
    /// The session's or the key's.
    id: Uuid,
    /// What it opens.
    scopes: Vec<&'static str>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordChange {
    #[schema(value_type = String)]
    current_password: Password,
    #[schema(value_type = String)]
    new_password: Password,
    /// Whether sessions on other devices go on.
    #[serde(default)]
    keep_other_sessions: bool,
    transport: Option<Transport>,
}

impl CredentialView {
    fn of(principal: &Principal) -> Self {
        let (r#type, id, scopes): (_, _, Vec<Scope>) = match principal.credential {
            Credential::Session(id) => {
                let may = |scope: &Scope| *scope != Scope::Admin || principal.role == Role::Admin;
                ("session", id.as_uuid(), Scope::ALL.into_iter().filter(may).collect())
            }
            Credential::Key { id, scopes, .. } => ("api_key", id.as_uuid(), scopes.iter().collect()),
        };
        Self { r#type, id, scopes: scopes.into_iter().map(Scope::as_str).collect() }
    }
}

/// Tells who is asking, and with what.
#[utoipa::path(get, path = "/v1/auth/me", operation_id = "showMe", tag = "auth", responses((status = 200, body = Me)))]
pub(crate) async fn me(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let caller = call.principal()?;
    let user = system.auth.me(&caller).await?;
    let me = Me {
        id: user.id,
        email: user.email.as_str().to_owned(),
        role: user.role.as_str(),
        created_at: user.created_at,
        // Those that count, which may be some seconds old.
        limits: caller.limits.into(),
        credential: CredentialView::of(&caller),
    };
    Ok(json_reply(StatusCode::OK, &me))
}

/// Changes the password. Every token from before is void, and other sessions end unless asked otherwise; this one goes on
/// with the tokens in the reply.
#[utoipa::path(post, path = "/v1/auth/password", operation_id = "changePassword", tag = "auth",
    request_body = PasswordChange, responses((status = 200, body = Tokens),
    (status = 401, description = "The current password is wrong"),
    (status = 422, description = "The new password is refused, and why")))]
pub(crate) async fn change_password(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let body: PasswordChange = call.account().await?;
    let delivery = Delivery::asked(&call, body.transport, call.is_by_cookie)?;
    let PasswordChange { current_password, new_password, keep_other_sessions, .. } = body;
    let caller = call.principal()?;
    let changed = system
        .auth
        .change_password(&caller, current_password, new_password, keep_other_sessions, call.origin())
        .await;
    changed.map(|tokens| delivery.reply(tokens)).map_err(not_changed)
}

/// Names the field that is at fault: there are two passwords.
fn not_changed(error: AuthError) -> ApiError {
    let at = match error {
        AuthError::BadCredentials => return ApiError::wrong_password().at("current_password"),
        AuthError::WeakPassword(_) => Some("new_password"),
        _ => None,
    };
    let error = ApiError::from(error);
    if let Some(field) = at { error.at(field) } else { error }
}

#[cfg(test)]
mod tests {
    use domain::limits::Limits;

    use super::*;

    #[test]
    fn a_session_opens_all_that_its_role_may_do_and_a_key_only_its_scopes() {
        let principal = |role, credential| Principal {
            user: Uuid::nil().into(),
            role,
            limits: Limits::default(),
            models: None,
            credential,
        };
        let session = Credential::Session(Uuid::nil().into());
        let scopes = |role, credential| CredentialView::of(&principal(role, credential)).scopes;
        assert!(!scopes(Role::User, session.clone()).contains(&"admin"));
        assert!(scopes(Role::Admin, session).contains(&"admin"));
        let few = [Scope::Models].into_iter().collect();
        let key =
            Credential::Key { id: Uuid::nil().into(), scopes: few, limits: Limits::default(), models: None };
        assert_eq!(scopes(Role::Admin, key), ["models"]);
    }
}
