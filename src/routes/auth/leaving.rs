//! `DELETE /v1/auth/me`: whoever leaves.

use std::sync::Arc;

use actors::{auth::AuthError, system::System};
use domain::password::Password;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::http::{ApiError, Call, Reply, clear_cookies, empty_reply};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Farewell {
    /// The account's own, so that a session left open somewhere does not suffice.
    #[schema(value_type = String)]
    password: Password,
}

/// Deletes the caller's account. Sessions and keys end at once, the address is free again, and conversations are removed
/// within the hour; what turns cost stays in the ledger, under no name.
#[utoipa::path(delete, path = "/v1/auth/me", operation_id = "deleteMe", tag = "auth", request_body = Farewell,
    responses((status = 204), (status = 401, description = "The password is wrong"),
    (status = 409, description = "It is the last administrator")))]
pub(crate) async fn leave(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let Farewell { password } = call.account().await?;
    let left = system.auth.leave(&call.principal()?, password, call.origin()).await;
    left.map_err(|error| match error {
        AuthError::BadCredentials => ApiError::wrong_password().at("password"),
        other => other.into(),
    })?;
    let mut reply = empty_reply();
    if call.browser_sessions().is_some() {
        clear_cookies(reply.headers_mut());
    }
    Ok(reply)
}
