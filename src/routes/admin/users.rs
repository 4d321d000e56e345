//! Accounts, their limits, their models, their sessions and their keys.

use std::sync::Arc;

use actors::{auth::AuthError, db::UserSearch, system::System};
use chrono::{DateTime, Utc};
use domain::{
    account::{User, UserChange},
    api_key::KeyChange,
    id::UserId,
    limits::{LimitsChange, Priority},
    model_access::ModelPatterns,
    principal::Role,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::administrator;
use crate::{
    http::{ApiError, Call, Reply, empty_reply, json_reply},
    routes::{
        api_keys::KeyView,
        auth::sessions::SessionView,
        limits::{LimitsPatch, LimitsView, nullable},
        list::{List, PageParams, PageRequest},
        model_access, shapes,
    },
};

/// Shorter ones would find nearly everybody, slowly.
const SEARCH_CHARS_MIN: usize = 3;

#[derive(Serialize, ToSchema)]
pub(crate) struct UserView {
    #[schema(value_type = Uuid)]
    id: UserId,
    email: String,
    /// `user` or `admin`.
    role: &'static str,
    disabled: bool,
    /// In place of the service's own.
    limits: LimitsView,
    /// The models that may be asked, in place of the role's; `null`: the role's.
    models: Option<Vec<String>>,
    created_at: DateTime<Utc>,
}

/// What changes; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserPatch {
    /// `user` or `admin`.
    #[schema(schema_with = shapes::role)]
    role: Option<Role>,
    /// Disabling ends every session and silences every key; enabling gives the keys back, but no session.
    disabled: Option<bool>,
    /// In place of the service's own. A limit that is left out stays, `null` removes it.
    #[serde(default)]
    limits: LimitsPatch,
    /// The models that may be asked, in place of the role's: names, `*` for any run of characters (`qwen3:*`), at most 64. `null`
    /// gives back the role's.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Vec<String>>)]
    models: Option<Option<Vec<String>>>,
}

/// What changes; what is left out stays, `null` removes it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyPatch {
    /// 1 to 1,000,000.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000000)]
    requests_per_minute: Option<Option<u32>>,
    /// 1 to 1,000,000,000.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000000000)]
    tokens_per_minute: Option<Option<u32>>,
    /// Turns that run at once, 1 to 10,000; those beyond it wait.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 10000)]
    streams: Option<Option<u32>>,
    /// The most that may be asked for: `interactive` or `batch`.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(schema_with = shapes::priority)]
    priority: Option<Option<Priority>>,
    /// The models it opens of those that its user may ask: names, `*` for any run of characters (`qwen3:*`), at most 64.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Vec<String>>)]
    models: Option<Option<Vec<String>>>,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        let User { id, email, role, disabled, limits, models, created_at } = user;
        let (email, limits) = (email.as_str().to_owned(), limits.into());
        let models = model_access::shown(models.as_ref());
        Self { id, email, role: role.as_str(), disabled, limits, models, created_at }
    }
}

/// Lists accounts, newest first.
#[utoipa::path(get, path = "/v1/admin/users", operation_id = "listUsers", tag = "admin",
    params(("search" = Option<String>, Query, min_length = 3,
    description = "Part of the e-mail address"),
    PageParams),
    responses((status = 200, body = List<UserView>)))]
pub(crate) async fn list(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let page = PageRequest::of(&call)?;
    let text = call.query("search", "search for at least 3 characters", |text| {
        (text.chars().count() >= SEARCH_CHARS_MIN).then(|| text.to_owned())
    })?;
    let search = UserSearch { text, before: page.before(), limit: page.limit };
    let found = system.auth.users(search).await?;
    Ok(json_reply(StatusCode::OK, &List::<UserView>::of(found)))
}

/// Shows one account.
#[utoipa::path(get, path = "/v1/admin/users/{id}", operation_id = "readUser", tag = "admin",
    params(("id" = Uuid, Path)), responses((status = 200, body = UserView)))]
pub(crate) async fn read(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let user = system.auth.user(call.id()?).await?;
    Ok(json_reply(StatusCode::OK, &UserView::from(user)))
}

/// Changes an account's role, its limits, the models it may ask, or whether it is disabled.
#[utoipa::path(patch, path = "/v1/admin/users/{id}", operation_id = "changeUser", tag = "admin",
    params(("id" = Uuid, Path)), request_body = UserPatch, responses((status = 200, body = UserView),
    (status = 409, description = "It is the last administrator"), (status = 422)))]
pub(crate) async fn change(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let UserPatch { role, disabled, limits, models } = call.account().await?;
    let user = call.id()?;
    let change = UserChange { role, disabled, limits: limits.into(), models: changed_models(models)? };
    if change == UserChange::NONE {
        return Err(ApiError::unfit("give `role`, `disabled`, one of `limits`, `models`, or several"));
    }
    let changed = system.auth.change_user(&administrator(&call)?, user, change).await;
    changed.map(|user| json_reply(StatusCode::OK, &UserView::from(user))).map_err(not_changed)
}

fn changed_models(models: Option<Option<Vec<String>>>) -> Result<Option<Option<ModelPatterns>>, ApiError> {
    models.map(|list| list.as_deref().map(model_access::read).transpose()).transpose()
}

/// Names the limit that will not do by where it stands in the body.
fn not_changed(error: AuthError) -> ApiError {
    match error {
        AuthError::BadRequest { field, why } => ApiError::unfit(why).at(format!("limits.{field}")),
        error => error.into(),
    }
}

/// Removes an account and all that it said.
#[utoipa::path(delete, path = "/v1/admin/users/{id}", operation_id = "deleteUser", tag = "admin",
    params(("id" = Uuid, Path)), responses((status = 204),
    (status = 409, description = "It is the last administrator")))]
pub(crate) async fn delete(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    system.auth.delete_user(&administrator(&call)?, call.id()?).await?;
    Ok(empty_reply())
}

/// Lists the live sessions of an account.
#[utoipa::path(get, path = "/v1/admin/users/{id}/sessions", operation_id = "listUserSessions", tag = "admin",
    params(("id" = Uuid, Path)), responses((status = 200, body = List<SessionView>)))]
pub(crate) async fn sessions(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let sessions = system.auth.user_sessions(call.id()?).await?;
    Ok(json_reply(StatusCode::OK, &SessionView::list(sessions, &call.principal()?)))
}

/// Ends all sessions of an account.
#[utoipa::path(delete, path = "/v1/admin/users/{id}/sessions", operation_id = "endUserSessions", tag = "admin",
    params(("id" = Uuid, Path)), responses((status = 204)))]
pub(crate) async fn end_sessions(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    system.auth.end_user_sessions(&administrator(&call)?, call.id()?).await?;
    Ok(empty_reply())
}

/// Lists the keys of an account, newest first.
#[utoipa::path(get, path = "/v1/admin/users/{id}/api-keys", operation_id = "listUserApiKeys", tag = "admin",
    params(("id" = Uuid, Path), PageParams),
    responses((status = 200, body = List<KeyView>)))]
pub(crate) async fn keys(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let page = PageRequest::of(&call)?;
    // An account that is not there has no empty list either.
    let user = system.auth.user(call.id()?).await?.id;
    let found = system.auth.user_keys(user, page.before(), page.limit).await?;
    Ok(json_reply(StatusCode::OK, &List::<KeyView>::of(found)))
}

/// Changes the limits of anybody's key, or the models it opens.
#[utoipa::path(patch, path = "/v1/admin/api-keys/{id}", operation_id = "changeApiKey", tag = "admin",
    params(("id" = Uuid, Path)), request_body = KeyPatch,
    responses((status = 200, body = KeyView), (status = 422)))]
pub(crate) async fn change_key(system: Arc<System>, mut call: Call) -> Result<Reply, ApiError> {
    let KeyPatch { requests_per_minute, tokens_per_minute, streams, priority, models } =
        call.account().await?;
    let limits = LimitsChange { requests_per_minute, tokens_per_minute, streams, priority };
    let change = KeyChange { limits, models: changed_models(models)? };
    let key = call.id()?;
    if change == KeyChange::NONE {
        return Err(ApiError::unfit(
            "give `requests_per_minute`, `tokens_per_minute`, `streams`, `priority`, `models`, or several",
        ));
    }
    let key = system.auth.change_key(&administrator(&call)?, key, change).await?;
    Ok(json_reply(StatusCode::OK, &KeyView::from(key)))
}

/// Revokes anybody's key.
#[utoipa::path(delete, path = "/v1/admin/api-keys/{id}", operation_id = "revokeAnyApiKey", tag = "admin",
    params(("id" = Uuid, Path)), responses((status = 204)))]
pub(crate) async fn revoke_key(system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    system.auth.revoke_any_key(&administrator(&call)?, call.id()?).await?;
    Ok(empty_reply())
}
