//! `/openapi.json`: the surface, described from the types that make it.

use std::sync::{Arc, LazyLock};

use actors::system::System;
use utoipa::{
    Modify, OpenApi, ToSchema,
    openapi::{
        Content, Ref, RefOr,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use super::{admin, auth, chat, conversations, health, models};
use crate::http::{ApiError, Call, ErrorObject, Reply, append_json, text_reply};

#[derive(OpenApi)]
#[openapi(
    info(title = "DeeperSensor", description = "A gateway that makes a model server safe to share"),
    paths(
        auth::sign_up, auth::log_in, auth::refresh, auth::me, models::list, models::read, chat::reply, chat::stream,
        conversations::list, conversations::read, conversations::messages, admin::actors, health::details,
        health::process, health::readiness, document,
    ),
    components(schemas(ErrorBody)),
    modifiers(&Tokens, &Errors),
)]
struct Document;

/// Declares the one way to authenticate.
struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
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
        let items = document.paths.paths.values_mut();
        let operations = items.flat_map(|item| [&mut item.get, &mut item.post]).flatten();
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
