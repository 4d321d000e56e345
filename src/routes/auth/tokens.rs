//! How a caller gets its tokens: in the reply's body or, if it is a page in a browser, in cookies that no script can read.

use std::time::Duration;

use actors::auth::TokenPair;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::{ACCESS_COOKIE, ApiError, Call, REFRESH_COOKIE, Reply, json_reply, set_cookie};

/// How tokens go to and fro where the body does not hold them.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    Cookie,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Tokens {
    /// Send it as `Authorization: Bearer …`. Absent when cookies carry the tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// `Bearer`, or `Cookie`.
    token_type: &'static str,
    /// Seconds until the access token expires.
    expires_in: u64,
}

/// Where tokens that are about to be made will go; decided before, so that none is made in vain.
#[derive(Debug, Clone, Copy)]
pub(super) enum Delivery {
    Body,
    Cookies { refresh_max_age: Duration },
}

impl Delivery {
    /// What the body asks for; a token that came in a cookie is never followed by one that scripts can read.
    ///
    /// # Errors
    ///
    /// 422 when browsers have no sessions here, 403 when the page may not have one.
    pub(super) fn asked(
        call: &Call,
        transport: Option<Transport>,
        came_by_cookie: bool,
    ) -> Result<Self, ApiError> {
        if transport.is_none() && !came_by_cookie {
            return Ok(Self::Body);
        }
        let Some(refresh_max_age) = call.browser_sessions() else {
            return Err(ApiError::unfit("browsers have no sessions on this service").at("transport"));
        };
        call.check_page()?;
        Ok(Self::Cookies { refresh_max_age })
    }

    pub(super) fn reply(self, pair: TokenPair) -> Reply {
        let TokenPair { access_token, refresh_token, expires_in } = pair;
        let refresh_max_age = match self {
            Self::Body => {
                let (access_token, refresh_token) = (access_token.into_inner(), refresh_token.into_inner());
                let (access_token, refresh_token) = (Some(access_token), Some(refresh_token));
                let tokens = Tokens { access_token, refresh_token, token_type: "Bearer", expires_in };
                return json_reply(StatusCode::OK, &tokens);
            }
            Self::Cookies { refresh_max_age } => refresh_max_age,
        };
        let tokens = Tokens { access_token: None, refresh_token: None, token_type: "Cookie", expires_in };
        let mut reply = json_reply(StatusCode::OK, &tokens);
        let headers = reply.headers_mut();
        set_cookie(headers, ACCESS_COOKIE, &access_token, Duration::from_secs(expires_in));
        set_cookie(headers, REFRESH_COOKIE, &refresh_token, refresh_max_age);
        reply
    }
}
