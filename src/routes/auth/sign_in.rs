//! Getting in: sign-up, log-in and refresh, for callers that have nothing to show yet.

use std::sync::Arc;

use actors::{auth::AuthError, system::System};
use domain::{id::UserId, password::Password, secret::Secret};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(crate) use super::tokens::Tokens;
use super::tokens::{Delivery, Transport};
use crate::{
    http::{ApiError, Call, Reply, json_reply, refresh_cookie},
    routes::shapes,
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignUp {
    #[schema(schema_with = shapes::email)]
    email: String,
    /// 8 to 256 characters by default; no rules about their kind, but common ones are refused.
    #[schema(value_type = String, min_length = 8, max_length = 256, example = "correct horse battery staple")]
    password: Password,
    /// The code of an invite, where one is needed; the account gets the invite's role.
    #[schema(value_type = Option<String>)]
    invite: Option<Secret<String>>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogIn {
    #[schema(schema_with = shapes::email)]
    email: String,
    #[schema(value_type = String, example = "correct horse battery staple")]
    password: Password,
    /// `cookie` for a page in a browser, where the service allows it.
    transport: Option<Transport>,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refresh {
    /// The newest refresh token of the session; an older one ends the session. Left out where a cookie holds it.
    #[schema(value_type = Option<String>)]
    refresh_token: Option<Secret<String>>,
    transport: Option<Transport>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct SignedUp {
    #[schema(value_type = uuid::Uuid)]
    id: UserId,
    email: String,
}

/// Creates an account.
#[utoipa::path(post, path = "/v1/auth/signup", operation_id = "signUp", tag = "auth", request_body = SignUp,
    responses((status = 201, body = SignedUp),
    (status = 403, description = "An invite is needed, or sign-up is closed"),
    (status = 409, description = "The address has an account"),
    (status = 422, description = "The password is refused, and why")))]
pub(crate) async fn sign_up(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let body: SignUp = call.account().await?;
    let user = system.auth.sign_up(&body.email, body.password, body.invite, call.origin()).await?;
    let email = user.email.as_str().to_owned();
    Ok(json_reply(StatusCode::CREATED, &SignedUp { id: user.id, email }))
}

/// Opens a session.
#[utoipa::path(post, path = "/v1/auth/login", operation_id = "logIn", tag = "auth", request_body = LogIn,
    responses((status = 200, body = Tokens), (status = 401, description = "Wrong e-mail or password"),
    (status = 403, description = "Cookies for a page that may not have them"), (status = 422)))]
pub(crate) async fn log_in(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let body: LogIn = call.account().await?;
    let delivery = Delivery::asked(&call, body.transport, false)?;
    let tokens = system.auth.log_in(&body.email, body.password, call.origin()).await?;
    Ok(delivery.reply(tokens))
}

/// Exchanges a refresh token for the next pair.
#[utoipa::path(post, path = "/v1/auth/refresh", operation_id = "refresh", tag = "auth", request_body = Option<Refresh>,
    responses((status = 200, body = Tokens), (status = 401, description = "The token is not valid, or no longer"),
    (status = 403, description = "Cookies from a page that may not use them"),
    (status = 422)))]
pub(crate) async fn refresh(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let body: Refresh = call.account_or_default().await?;
    let cookie = match call.browser_sessions() {
        Some(_) => refresh_cookie(&call.head.headers)?,
        None => None,
    };
    let is_by_cookie = body.refresh_token.is_none();
    let token = match (body.refresh_token, cookie) {
        (Some(one), Some(other)) if one != other => return Err(ApiError::two_credentials()),
        (one, other) => one.or(other),
    };
    let token = token.ok_or_else(|| ApiError::invalid("a required field is missing").at("refresh_token"))?;
    let delivery = Delivery::asked(&call, body.transport, is_by_cookie)?;
    let tokens = system.auth.refresh(&token, call.origin()).await.map_err(not_refreshed)?;
    Ok(delivery.reply(tokens))
}

/// A refresh that failed may have happened all the same. Its token is good for a repeat only within a grace of seconds;
/// after that the repeat counts as theft and ends the session, so callers are asked to come back well within it.
fn not_refreshed(error: AuthError) -> ApiError {
    ApiError::from(error).retry_promptly()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http::{RequestId, Wire, error_reply};

    #[test]
    fn a11_a_refresh_that_failed_is_asked_to_come_back_within_its_grace() {
        for _ in 0..50 {
            let id = RequestId::choose(&http::HeaderMap::new(), false);
            for error in [
                AuthError::Unavailable("the store is away".to_owned()),
                AuthError::Overloaded { retry_after: Duration::from_secs(30) },
            ] {
                assert_eq!(
                    error_reply(&not_refreshed(error), &id, Wire::OpenAi).headers()["retry-after"],
                    "1"
                );
            }
        }
        assert_eq!(not_refreshed(AuthError::BadToken).wait(), None);
    }
}
