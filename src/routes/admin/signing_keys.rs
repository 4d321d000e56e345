//! The keys that sign access tokens.

use std::sync::Arc;

use actors::{auth::ListedKey, system::System};
use chrono::{DateTime, Utc};
use domain::signing_key::{SigningAlgorithm, SigningKey};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::administrator;
use crate::{
    http::{ApiError, Call, Reply, json_reply},
    routes::{list::List, shapes},
};

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSigningKey {
    /// `HS256` or `EdDSA`; the newest key's if it is left out.
    #[schema(schema_with = shapes::algorithm)]
    algorithm: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct SigningKeyView {
    /// `kid` in the header of its tokens.
    id: String,
    /// `HS256` or `EdDSA`.
    algorithm: &'static str,
    /// `next`, `signing`, `verifying`, `retired`, or `foreign` if another master secret made it.
    state: &'static str,
    created_at: DateTime<Utc>,
    /// Until then the key before it signs, so that every verifier knows this one before it meets a token of it.
    signs_from: DateTime<Utc>,
}

impl From<ListedKey> for SigningKeyView {
    fn from(ListedKey { key, state }: ListedKey) -> Self {
        let SigningKey { kid, algorithm, created_at, signs_from, .. } = key;
        Self { id: kid, algorithm: algorithm.as_str(), state: state.as_str(), created_at, signs_from }
    }
}

/// Makes the next signing key. Tokens of the one before stay good for as long as they live.
#[utoipa::path(post, path = "/v1/admin/signing-keys", operation_id = "rotateSigningKey", tag = "admin",
    request_body = Option<NewSigningKey>, responses((status = 201, body = SigningKeyView), (status = 422)))]
pub(crate) async fn rotate(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let NewSigningKey { algorithm } = call.account_or_default().await?;
    let unknown = || ApiError::unfit("choose HS256 or EdDSA").at("algorithm");
    let algorithm = algorithm.map(|name| SigningAlgorithm::parse(&name).ok_or_else(unknown)).transpose()?;
    let key = system.auth.rotate_signing_key(&administrator(&call)?, algorithm).await?;
    Ok(json_reply(StatusCode::CREATED, &SigningKeyView::from(key)))
}

/// Lists every key there has been, oldest first.
#[utoipa::path(get, path = "/v1/admin/signing-keys", operation_id = "listSigningKeys", tag = "admin",
    responses((status = 200, body = List<SigningKeyView>)))]
pub(crate) async fn list(system: Arc<System>, _call: Call) -> Result<Reply, ApiError> {
    let keys = system.auth.signing_keys().await?.into_iter().map(SigningKeyView::from).collect();
    Ok(json_reply(StatusCode::OK, &List::new(keys, None)))
}
