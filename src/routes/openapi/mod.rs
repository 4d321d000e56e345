//! `/openapi.json`: the surface, described from the types that make it.

mod shared;

use std::sync::{Arc, LazyLock};

use actors::system::System;
use utoipa::OpenApi;

use self::shared::Shared;
use super::{
    admin::{audit, invites, reload, signing_keys, tree, upstreams, usage as all_usage, users},
    anthropic, api_keys,
    auth::{account, leaving, sessions, sign_in},
    chat, conversations, docs,
    export::{account as export_account, conversation as export_conversation},
    fixed::Fixed,
    health, jwks, ledger, models, ollama,
    openai::{chat_completions, completions, embeddings, responses},
    turns, usage,
};
use crate::http::{AnthropicErrorBody, ApiError, Call, ErrorBody, OllamaErrorBody, Reply, append_json};

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
        tree::actors, tree::restart, upstreams::list, upstreams::drain, upstreams::resume, reload::reload, reload::filter_log, jwks::keys, health::details, health::process, health::readiness, document, docs::show,
    ),
    components(schemas(ErrorBody, AnthropicErrorBody, OllamaErrorBody)),
    modifiers(&Shared),
)]
struct Document;

/// Building it walks every schema; anybody may ask, so it is built once.
static DOCUMENT: LazyLock<Fixed> = LazyLock::new(|| {
    let mut text = Vec::new();
    append_json(&mut text, &Document::openapi());
    Fixed::new("application/json", String::from_utf8(text).unwrap_or_default())
});

/// The OpenAPI document as JSON.
pub fn openapi() -> String {
    String::from_utf8_lossy(DOCUMENT.text()).into_owned()
}

/// Describes this service.
#[utoipa::path(get, path = "/openapi.json", operation_id = "describe", tag = "operations",
    responses((status = 200, body = Object),
    (status = 304, description = "It is the one that `If-None-Match` names")))]
pub(crate) async fn document(_system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    Ok(DOCUMENT.reply(&call.head.headers))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    #[test]
    fn b12_every_documented_refusal_has_the_one_shape_and_every_reference_leads_somewhere() {
        let document: Value = serde_json::from_str(&super::openapi()).unwrap();
        let text = document.to_string();
        let references: Vec<_> =
            text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(references.len() > 100);
        for reference in references {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                for (status, response) in operation["responses"].as_object().unwrap() {
                    let shared = response["$ref"].as_str().map(|pointer| pointer.trim_start_matches('#'));
                    let response = shared.map_or(response, |pointer| document.pointer(pointer).unwrap());
                    assert_ne!(response["description"], "", "{method} {path} {status}");
                    if !status.starts_with(['4', '5']) || path == "/readyz" {
                        continue;
                    }
                    let shape = match path.as_str() {
                        _ if path.starts_with("/v1/messages") => "AnthropicErrorBody",
                        _ if path.starts_with("/api/") => "OllamaErrorBody",
                        "/health" if status == "503" => continue,
                        _ => "ErrorBody",
                    };
                    let told = &response["content"]["application/json"]["schema"]["$ref"];
                    assert_eq!(told, &format!("#/components/schemas/{shape}"), "{method} {path} {status}");
                }
            }
        }
    }
}
