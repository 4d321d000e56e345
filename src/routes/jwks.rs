//! `/.well-known/jwks.json`: the keys by which others can verify our access tokens.

use std::sync::Arc;

use actors::system::System;
use http::{HeaderValue, header::CACHE_CONTROL};

use crate::http::{ApiError, Call, Reply, text_reply};

/// Lists the public keys of access tokens signed with EdDSA, also of those that will sign next (RFC 7517).
///
/// Fetch it again when a token names a key that is not in it, and whenever `max-age` is over.
#[utoipa::path(get, path = "/.well-known/jwks.json", operation_id = "listPublicKeys", tag = "auth",
    responses((status = 200, body = Object)))]
pub(crate) async fn keys(system: Arc<System>, _call: Call) -> Result<Reply, ApiError> {
    let mut reply = text_reply("application/json", system.auth.jwks().to_string());
    let kept = format!("public, max-age={}", system.auth.jwks_max_age().as_secs());
    if let Ok(kept) = HeaderValue::try_from(kept) {
        reply.headers_mut().insert(CACHE_CONTROL, kept);
    }
    Ok(reply)
}
