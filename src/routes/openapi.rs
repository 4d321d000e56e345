//! `/openapi.json`: the surface, described from the types that make it.

use std::sync::{Arc, LazyLock};

use actors::system::System;
use domain::principal::Access;
use http::Method;
use utoipa::{
    Modify, OpenApi, ToSchema,
    openapi::{
        Content, PathItem, Ref, RefOr, Response,
        extensions::Extensions,
        path::Operation,
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

use super::{
    admin::{audit, invites, reload, signing_keys, tree, upstreams, usage as all_usage, users},
    anthropic, api_keys,
    auth::{account, leaving, sessions, sign_in},
    chat, conversations,
    export::{account as export_account, conversation as export_conversation},
    health, jwks, ledger, models, ollama,
    openai::{chat_completions, completions, embeddings, responses},
    turns, usage,
};
use crate::{
    control::Control,
    http::{ACCESS_COOKIE, ApiError, Call, ErrorObject, Limit, Reply, Route, append_json, text_reply},
    router,
};

#[derive(OpenApi)]
#[openapi(
    info(title = "DeeperSensor", description = "A gateway that makes a model server safe to share"),
    paths(
        sign_in::sign_up, sign_in::log_in, sign_in::refresh, account::me, leaving::leave, export_account::export, account::change_password, sessions::log_out,
        sessions::list, sessions::end, api_keys::create, api_keys::list, api_keys::revoke, models::list, models::read,
        chat::reply, chat::stream, ollama::catalogue::running, ollama::catalogue::version, ollama::catalogue::tags, ollama::catalogue::loaded, ollama::catalogue::show,
        ollama::answer::chat, ollama::answer::generate, ollama::embed::embed, ollama::embed::embed_one, chat_completions::create, completions::create, embeddings::create, responses::create, anthropic::messages, anthropic::count_tokens, turns::read, turns::stream, turns::cancel, ledger::list, usage::of_caller,
        conversations::create, conversations::list, conversations::read, conversations::change, conversations::delete,
        conversations::messages, export_conversation::export, users::list,
        users::read, users::change, users::delete, users::sessions, users::end_sessions, users::keys,
        users::change_key, users::revoke_key, invites::create, invites::list, invites::revoke, audit::list, all_usage::of_all, signing_keys::rotate, signing_keys::list,
        tree::actors, tree::restart, upstreams::list, upstreams::drain, upstreams::resume, reload::reload, reload::filter_log, jwks::keys, health::details, health::process, health::readiness, document,
    ),
    components(schemas(ErrorBody)),
    modifiers(&Admission, &Errors),
)]
struct Document;

/// Says of each operation what the route table demands of its callers, and what the way to it may answer.
///
/// `x-access` is `public`, `anybody`, `session`, `admin`, or `scope:` and a name.
struct Admission;

impl Modify for Admission {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let in_path =
            "Where API_KEY_IN_PATH is on, Ollama's paths may also have the key in front: `/k/<key>/api/chat`";
        let header = ApiKeyValue::with_description("X-Api-Key", in_path);
        let cookie = ApiKeyValue::with_description(ACCESS_COOKIE, "Where BROWSER_SESSIONS is on");
        components.add_security_scheme("bearer", bearer);
        components.add_security_scheme("header", SecurityScheme::ApiKey(ApiKey::Header(header)));
        components.add_security_scheme("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
        for route in router::clients(&Control::default()) {
            let Some(item) = document.paths.paths.get_mut(&route.path.replace("{*", "{")) else { continue };
            let methods = operations(item).into_iter().find(|(method, _)| *method == route.method);
            if let Some((_, Some(operation))) = methods {
                describe(operation, &route);
            }
        }
    }
}

fn describe(operation: &mut Operation, route: &Route<System>) {
    let (access, refusals): (_, &[&str]) = match route.access {
        Access::Public => ("public".to_owned(), &[]),
        Access::Operator => ("operator".to_owned(), &["401"]),
        Access::Anybody => ("anybody".to_owned(), &["401"]),
        Access::Session => ("session".to_owned(), &["401", "403"]),
        Access::Admin => ("admin".to_owned(), &["401", "403"]),
        Access::Scope(scope) => (format!("scope:{}", scope.as_str()), &["401", "403"]),
    };
    // A reserved route is free and served even when we are full, but guessing one's way into it is not free, and who is asking
    // the store must say.
    let is_counted = route.limit != Limit::Reserved || !refusals.is_empty();
    let unserved: &[&str] = if is_counted { &["429", "503"] } else { &[] };
    let responses = &mut operation.responses.responses;
    for status in refusals.iter().chain(unserved) {
        responses.entry((*status).to_owned()).or_insert_with(|| RefOr::T(Response::new("")));
    }
    if !refusals.is_empty() {
        let ways = ["bearer", "header", "cookie"];
        operation.security =
            Some(ways.map(|way| SecurityRequirement::new::<_, [&str; 0], _>(way, [])).into());
    }
    operation.extensions = Some(Extensions::from_iter([("x-access", access)]));
}

fn operations(item: &mut PathItem) -> [(Method, Option<&mut Operation>); 4] {
    [
        (Method::GET, item.get.as_mut()),
        (Method::POST, item.post.as_mut()),
        (Method::PATCH, item.patch.as_mut()),
        (Method::DELETE, item.delete.as_mut()),
    ]
}

/// Building it walks every schema; anybody may ask, so it is built once.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut text = Vec::new();
    append_json(&mut text, &Document::openapi());
    String::from_utf8(text).unwrap_or_default()
});

/// What every refusal looks like.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described; `http::error` writes it")]
struct ErrorBody {
    error: ErrorObject<'static>,
}

/// Gives every refusal of every route its one shape.
struct Errors;

impl Modify for Errors {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let operations =
            document.paths.paths.values_mut().flat_map(operations).filter_map(|(_, found)| found);
        for (status, response) in operations.flat_map(|operation| &mut operation.responses.responses) {
            let RefOr::T(response) = response else { continue };
            if status.starts_with(['4', '5']) && response.content.is_empty() {
                let shape = Ref::from_schema_name("ErrorBody");
                response.content.insert("application/json".to_owned(), RefOr::T(Content::new(Some(shape))));
            }
        }
    }
}

/// The OpenAPI document as JSON.
pub fn openapi() -> String {
    DOCUMENT.clone()
}

/// Describes this service.
#[utoipa::path(get, path = "/openapi.json", tag = "operations", responses((status = 200, body = Object)))]
pub(crate) async fn document(_system: Arc<System>, _call: Call) -> Result<Reply, ApiError> {
    Ok(text_reply("application/json", openapi()))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    #[test]
    fn b12_every_documented_refusal_has_the_one_shape_and_every_reference_leads_somewhere() {
        let document: Value = serde_json::from_str(&super::openapi()).unwrap();
        let refusal =
            &document["paths"]["/v1/chat"]["post"]["responses"]["429"]["content"]["application/json"];
        assert_eq!(refusal["schema"]["$ref"], "#/components/schemas/ErrorBody");
        let text = document.to_string();
        let names = text.split("\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next());
        let mut count = 0;
        for name in names {
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
            count += 1;
        }
        assert!(count > 20);
    }
}
