//! `/v1/auth`: accounts and tokens.

use std::sync::Arc;

use actors::{
    auth::{AuthError, TokenPair},
    system::System,
};
use chrono::{DateTime, Utc};
use domain::{account::User, id::UserId, password::Password, secret::Secret};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::{ApiError, Call, Reply, json_reply};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    #[schema(example = "ada@example.org")]
    email: String,
    /// 8 to 256 characters; no rules about their kind, but common ones are refused.
    #[schema(value_type = String, example = "correct horse battery staple")]
    password: Password,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refresh {
    /// The newest refresh token of the session; an older one ends the session.
    #[schema(value_type = String)]
    refresh_token: Secret<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct SignedUp {
    #[schema(value_type = uuid::Uuid)]
    id: UserId,
    email: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Tokens {
    /// Send it as `Authorization: Bearer …`.
    access_token: String,
    refresh_token: String,
    token_type: &'static str,
    /// Seconds until the access token expires.
    expires_in: u64,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Me {
    #[schema(value_type = uuid::Uuid)]
    id: UserId,
    email: String,
    /// `user` or `admin`.
    role: &'static str,
    created_at: DateTime<Utc>,
}

impl From<TokenPair> for Tokens {
    fn from(pair: TokenPair) -> Self {
        Self {
            access_token: pair.access_token.into_inner(),
            refresh_token: pair.refresh_token.into_inner(),
            token_type: "Bearer",
            expires_in: pair.expires_in,
        }
    }
}

impl From<User> for Me {
    fn from(user: User) -> Self {
        let email = user.email.as_str().to_owned();
        Self { id: user.id, email, role: user.role.as_str(), created_at: user.created_at }
    }
}

/// Creates an account.
#[utoipa::path(post, path = "/v1/auth/signup", tag = "auth", request_body = Credentials, responses(
    (status = 201, body = SignedUp), (status = 400), (status = 409, description = "The address has an account"),
    (status = 422, description = "The password is refused, and why"), (status = 429)))]
pub(crate) async fn sign_up(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let body: Credentials = call.account().await?;
    let user = system.auth.sign_up(&body.email, body.password, call.origin()).await?;
    let email = user.email.as_str().to_owned();
    Ok(json_reply(StatusCode::CREATED, &SignedUp { id: user.id, email }))
}

/// Opens a session.
#[utoipa::path(post, path = "/v1/auth/login", tag = "auth", request_body = Credentials, responses(
    (status = 200, body = Tokens), (status = 400), (status = 401, description = "Wrong e-mail or password"),
    (status = 429), (status = 503)))]
pub(crate) async fn log_in(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let body: Credentials = call.account().await?;
    let tokens = system.auth.log_in(&body.email, body.password, call.origin()).await?;
    Ok(json_reply(StatusCode::OK, &Tokens::from(tokens)))
}

/// Exchanges a refresh token for the next pair.
#[utoipa::path(post, path = "/v1/auth/refresh", tag = "auth", request_body = Refresh, responses(
    (status = 200, body = Tokens), (status = 400), (status = 401), (status = 429)))]
pub(crate) async fn refresh(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let body: Refresh = call.account().await?;
    let tokens = system.auth.refresh(&body.refresh_token, call.origin()).await.map_err(not_refreshed)?;
    Ok(json_reply(StatusCode::OK, &Tokens::from(tokens)))
}

/// A refresh that failed may have happened all the same. Its token is good for a repeat only within a grace of seconds;
/// after that the repeat counts as theft and ends the session, so callers are asked to come back well within it.
fn not_refreshed(error: AuthError) -> ApiError {
    ApiError::from(error).retry_promptly()
}

/// Tells who is signed in.
#[utoipa::path(get, path = "/v1/auth/me", tag = "auth", security(("token" = [])), responses(
    (status = 200, body = Me), (status = 401), (status = 429)))]
pub(crate) async fn me(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let user = system.auth.me(&call.principal()?).await?;
    Ok(json_reply(StatusCode::OK, &Me::from(user)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http::{RequestId, error_reply};

    #[test]
    fn a05_a_refresh_that_failed_is_asked_to_come_back_within_its_grace() {
        for _ in 0..50 {
            let id = RequestId::choose(&http::HeaderMap::new(), false);
            for error in [
                AuthError::Unavailable("the store is away".to_owned()),
                AuthError::Overloaded { retry_after: Duration::from_secs(30) },
            ] {
                assert_eq!(error_reply(&not_refreshed(error), &id).headers()["retry-after"], "1");
            }
        }
        assert_eq!(not_refreshed(AuthError::BadToken).wait(), None);
    }
}
