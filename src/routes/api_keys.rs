//! `/v1/api-keys`: keys of the caller's account.

use std::sync::Arc;

use actors::{auth::KeyRequest, system::System};
use chrono::{DateTime, Utc};
use domain::{
    api_key::ApiKey,
    id::ApiKeyId,
    limits::{Limits, Priority},
    model_access::ModelPatterns,
    principal::Scope,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    expiry,
    limits::LimitsView,
    list::{List, PageParams, PageRequest},
    model_access, shapes,
};
use crate::http::{ApiError, Call, Reply, empty_reply, json_reply};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKey {
    /// What it is for; 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// What it opens: any of `chat`, `models`, `embeddings`, `conversations`, `usage` and, for administrators, `admin`.
    #[schema(schema_with = shapes::scopes)]
    scopes: Vec<Scope>,
    /// It never ends if neither this nor `expires_at` is given.
    #[schema(minimum = 1, maximum = 3650)]
    expires_in_days: Option<u32>,
    expires_at: Option<DateTime<Utc>>,
    /// A limit of its own, beside that of its user, as are those below; 1 to 1,000,000.
    #[schema(minimum = 1, maximum = 1000000)]
    requests_per_minute: Option<u32>,
    /// 1 to 1,000,000,000.
    #[schema(minimum = 1, maximum = 1000000000)]
    tokens_per_minute: Option<u32>,
    /// Turns that run at once, 1 to 10,000; those beyond it wait.
    #[schema(minimum = 1, maximum = 10000)]
    streams: Option<u32>,
    /// The most that may be asked for: `interactive` or `batch`.
    #[schema(schema_with = shapes::priority)]
    priority: Option<Priority>,
    /// The models it opens of those that its user may ask: names, `*` for any run of characters (`qwen3:*`), at most 64. All of
    /// them if it is left out.
    models: Option<Vec<String>>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct KeyView {
    #[schema(value_type = Uuid)]
    id: ApiKeyId,
    name: String,
    /// Its first characters, to recognise it by.
    prefix: String,
    scopes: Vec<&'static str>,
    /// Its own, beside those of its user.
    #[serde(flatten)]
    limits: LimitsView,
    /// The models it opens of those that its user may ask; `null`: all of them.
    models: Option<Vec<String>>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    /// To within some minutes.
    last_used_at: Option<DateTime<Utc>>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedKey {
    /// Shown this once: only a hash of it is kept. Send it as `Authorization: Bearer …` or as `X-Api-Key`.
    key: String,
    #[serde(flatten)]
    view: KeyView,
}

impl From<ApiKey> for KeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            prefix: key.prefix,
            scopes: key.scopes.iter().map(Scope::as_str).collect(),
            limits: key.limits.into(),
            models: model_access::shown(key.models.as_ref()),
            created_at: key.created_at,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
        }
    }
}

/// Makes a key.
#[utoipa::path(post, path = "/v1/api-keys", operation_id = "createApiKey", tag = "api keys", request_body = NewKey,
    responses((status = 201, body = CreatedKey), (status = 409, description = "There are too many"),
    (status = 422, description = "Something about the key will not do")))]
pub(crate) async fn create(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let body: NewKey = call.account().await?;
    let expires_at = match (body.expires_in_days, body.expires_at) {
        (Some(_), Some(_)) => {
            return Err(ApiError::unfit("give this or `expires_in_days`, not both").at("expires_at"));
        }
        (Some(days), None) => Some(expiry::in_days(days, system.clock())?),
        (None, instant) => instant,
    };
    let models: Option<ModelPatterns> = body.models.as_deref().map(model_access::read).transpose()?;
    let NewKey { requests_per_minute, tokens_per_minute, streams, priority, .. } = body;
    let wanted = KeyRequest {
        name: body.name,
        scopes: body.scopes.into_iter().collect(),
        limits: Limits { requests_per_minute, tokens_per_minute, streams, priority },
        models,
        expires_at,
    };
    let (made, key) = system.auth.create_key(&call.principal()?, wanted, call.origin()).await?;
    Ok(json_reply(StatusCode::CREATED, &CreatedKey { key: key.into_inner(), view: made.into() }))
}

/// Lists the caller's keys, newest first.
#[utoipa::path(get, path = "/v1/api-keys", operation_id = "listApiKeys", tag = "api keys",
    params(PageParams),
    responses((status = 200, body = List<KeyView>)))]
pub(crate) async fn list(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let page = PageRequest::of(&call)?;
    let found = system.auth.keys(&call.principal()?, page.before(), page.limit).await?;
    Ok(json_reply(StatusCode::OK, &List::<KeyView>::of(found)))
}

/// Revokes one of the caller's keys.
#[utoipa::path(delete, path = "/v1/api-keys/{id}", operation_id = "revokeApiKey", tag = "api keys",
    params(("id" = Uuid, Path)), responses((status = 204)))]
pub(crate) async fn revoke(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    system.auth.revoke_key(&call.principal()?, call.id()?, call.origin()).await?;
    Ok(empty_reply())
}
