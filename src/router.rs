//! Every path of the service, on one screen.

use std::sync::Arc;

use actors::system::System;
use domain::principal::Access::{self, Admin, Anybody, Operator, Public, Scope, Session};
use domain::principal::Scope::{Chat as Chatting, Conversations, Embeddings, Models, Usage};
use http::Method;

use crate::{
    control::Control,
    http::{
        ApiError, Call,
        Limit::{Request, Reserved, Turn},
        Patience::{Chat, Following},
        Reply, Route, route,
    },
    routes::{
        admin::{audit, invites, reload, signing_keys, tree, upstreams, usage as all_usage, users},
        anthropic, api_keys,
        auth::{account, leaving, sessions, sign_in},
        chat, conversations, docs,
        export::{self, Exports},
        health, jwks, ledger, models, ollama,
        openai::{chat_completions, completions, embeddings, responses},
        openapi, ops, turns, usage,
    },
};

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PATCH: Method = Method::PATCH;
const DELETE: Method = Method::DELETE;

/// What clients can ask.
pub(crate) fn clients(control: &Control) -> Vec<Route<System>> {
    let exports = Exports::default();
    vec![
        route(POST, "/v1/auth/signup", Public, Request, sign_in::sign_up),
        route(POST, "/v1/auth/login", Public, Request, sign_in::log_in),
        route(POST, "/v1/auth/refresh", Public, Request, sign_in::refresh),
        route(POST, "/v1/auth/logout", Session, Reserved, sessions::log_out),
        route(POST, "/v1/auth/password", Session, Request, account::change_password),
        route(GET, "/v1/auth/me", Anybody, Request, account::me),
        route(DELETE, "/v1/auth/me", Session, Request, leaving::leave),
        exported("/v1/auth/me/export", Session, &exports, export::account::export),
        route(GET, "/v1/auth/sessions", Session, Request, sessions::list),
        route(DELETE, "/v1/auth/sessions/{id}", Session, Request, sessions::end),
        route(POST, "/v1/api-keys", Session, Request, api_keys::create),
        route(GET, "/v1/api-keys", Session, Request, api_keys::list),
        route(DELETE, "/v1/api-keys/{id}", Session, Request, api_keys::revoke),
        route(GET, "/.well-known/jwks.json", Public, Request, jwks::keys),
        route(GET, "/v1/models", Scope(Models), Request, models::list),
        route(GET, "/v1/models/{*id}", Scope(Models), Request, models::read),
        route(POST, "/v1/chat", Scope(Chatting), Turn, chat::reply).with_patience(Chat),
        route(POST, "/v1/chat/stream", Scope(Chatting), Turn, chat::stream).with_patience(Chat),
        route(POST, "/v1/messages", Scope(Chatting), Turn, anthropic::messages).with_patience(Chat),
        route(POST, "/v1/messages/count_tokens", Scope(Chatting), Request, anthropic::count_tokens),
        route(GET, "/", Public, Request, ollama::catalogue::running),
        route(GET, "/api/version", Public, Request, ollama::catalogue::version),
        route(GET, "/api/tags", Scope(Models), Request, ollama::catalogue::tags),
        route(GET, "/api/ps", Scope(Models), Request, ollama::catalogue::loaded),
        route(POST, "/api/show", Scope(Models), Request, ollama::catalogue::show),
        route(POST, "/api/chat", Scope(Chatting), Turn, ollama::answer::chat).with_patience(Chat),
        route(POST, "/api/generate", Scope(Chatting), Turn, ollama::answer::generate).with_patience(Chat),
        route(POST, "/api/embed", Scope(Embeddings), Turn, ollama::embed::embed).with_patience(Chat),
        route(POST, "/api/embeddings", Scope(Embeddings), Turn, ollama::embed::embed_one).with_patience(Chat),
        route(POST, "/v1/chat/completions", Scope(Chatting), Turn, chat_completions::create)
            .with_patience(Chat),
        route(POST, "/v1/completions", Scope(Chatting), Turn, completions::create).with_patience(Chat),
        route(POST, "/v1/responses", Scope(Chatting), Turn, responses::create).with_patience(Chat),
        route(POST, "/v1/embeddings", Scope(Embeddings), Turn, embeddings::create).with_patience(Chat),
        route(GET, "/v1/turns/{id}", Scope(Chatting), Request, turns::read),
        route(DELETE, "/v1/turns/{id}", Scope(Chatting), Request, turns::cancel),
        route(GET, "/v1/turns/{id}/stream", Scope(Chatting), Request, turns::stream).with_patience(Following),
        route(POST, "/v1/conversations", Scope(Conversations), Request, conversations::create),
        route(GET, "/v1/conversations", Scope(Conversations), Request, conversations::list),
        route(GET, "/v1/conversations/{id}", Scope(Conversations), Request, conversations::read),
        route(PATCH, "/v1/conversations/{id}", Scope(Conversations), Request, conversations::change),
        route(DELETE, "/v1/conversations/{id}", Scope(Conversations), Request, conversations::delete),
        exported(
            "/v1/conversations/{id}/export",
            Scope(Conversations),
            &exports,
            export::conversation::export,
        ),
        route(GET, "/v1/conversations/{id}/messages", Scope(Conversations), Request, conversations::messages),
        route(GET, "/v1/turns", Scope(Usage), Request, ledger::list),
        route(GET, "/v1/usage", Scope(Usage), Request, usage::of_caller),
        route(GET, "/v1/admin/users", Admin, Reserved, users::list),
        route(GET, "/v1/admin/users/{id}", Admin, Reserved, users::read),
        route(PATCH, "/v1/admin/users/{id}", Admin, Reserved, users::change),
        route(DELETE, "/v1/admin/users/{id}", Admin, Reserved, users::delete),
        route(GET, "/v1/admin/users/{id}/sessions", Admin, Reserved, users::sessions),
        route(DELETE, "/v1/admin/users/{id}/sessions", Admin, Reserved, users::end_sessions),
        route(GET, "/v1/admin/users/{id}/api-keys", Admin, Reserved, users::keys),
        route(PATCH, "/v1/admin/api-keys/{id}", Admin, Reserved, users::change_key),
        route(DELETE, "/v1/admin/api-keys/{id}", Admin, Reserved, users::revoke_key),
        route(POST, "/v1/admin/invites", Admin, Reserved, invites::create),
        route(GET, "/v1/admin/invites", Admin, Reserved, invites::list),
        route(DELETE, "/v1/admin/invites/{id}", Admin, Reserved, invites::revoke),
        route(GET, "/v1/admin/audit", Admin, Reserved, audit::list),
        route(GET, "/v1/admin/usage", Admin, Reserved, all_usage::of_all),
        route(POST, "/v1/admin/signing-keys", Admin, Reserved, signing_keys::rotate),
        route(GET, "/v1/admin/signing-keys", Admin, Reserved, signing_keys::list),
        controlled("/v1/admin/reload", control, reload::reload),
        controlled("/v1/admin/log-filter", control, reload::filter_log),
        route(GET, "/v1/admin/actors", Admin, Reserved, tree::actors),
        route(POST, "/v1/admin/actors/restart", Admin, Reserved, tree::restart),
        route(GET, "/v1/admin/upstreams", Admin, Reserved, upstreams::list),
        route(POST, "/v1/admin/upstreams/{name}/drain", Admin, Reserved, upstreams::drain),
        route(POST, "/v1/admin/upstreams/{name}/resume", Admin, Reserved, upstreams::resume),
        route(GET, "/health", Public, Reserved, health::details),
        route(GET, "/healthz", Public, Reserved, health::process),
        route(GET, "/readyz", Public, Reserved, health::readiness),
        route(GET, "/openapi.json", Public, Request, openapi::document),
        route(GET, "/docs", Public, Request, docs::show),
    ]
}

/// A route that sends all of something, of which few are under way at once.
fn exported<F, Fut>(path: &'static str, access: Access, exports: &Exports, handler: F) -> Route<System>
where
    F: Fn(Arc<System>, Call, Exports) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, ApiError>> + Send + 'static,
{
    let exports = exports.clone();
    route(GET, path, access, Request, move |system, call| handler(system, call, exports.clone()))
}

/// A route that changes how the service runs.
fn controlled<F, Fut>(path: &'static str, control: &Control, handler: F) -> Route<System>
where
    F: Fn(Arc<System>, Call, Control) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, ApiError>> + Send + 'static,
{
    let control = control.clone();
    route(POST, path, Admin, Reserved, move |system, call| handler(system, call, control.clone()))
}

/// What operators can ask on their own listener, which only this machine reaches or which asks for a token.
pub(crate) fn operators() -> Vec<Route<System>> {
    vec![
        route(GET, "/metrics", Operator, Reserved, ops::metrics),
        route(GET, "/actors", Operator, Reserved, ops::actors),
        route(GET, "/actors/events", Operator, Reserved, ops::events),
        route(GET, "/healthz", Public, Reserved, health::process),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::RouteTable;

    #[test]
    fn every_client_route_is_documented_and_nothing_else_is() {
        let table = RouteTable::new(clients(&Control::default())).unwrap();
        let routed: BTreeSet<_> = table
            .routes()
            .map(|route| {
                format!("{} {}", route.method.as_str().to_lowercase(), route.path.replace("{*", "{"))
            })
            .collect();
        let document: serde_json::Value = serde_json::from_str(&crate::openapi()).unwrap();
        let documented: BTreeSet<_> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                item.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
            })
            .collect();
        assert_eq!(routed, documented);
    }

    #[test]
    fn a17_only_sign_in_health_public_keys_and_the_description_are_public() {
        let table = RouteTable::new(clients(&Control::default())).unwrap();
        let public: BTreeSet<_> =
            table.routes().filter(|route| route.access == Public).map(|route| route.path).collect();
        let expected = [
            "/",
            "/.well-known/jwks.json",
            "/api/version",
            "/docs",
            "/health",
            "/healthz",
            "/openapi.json",
            "/readyz",
            "/v1/auth/login",
            "/v1/auth/refresh",
            "/v1/auth/signup",
        ];
        assert_eq!(public.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn g12_operators_routes_and_clients_routes_are_not_mixed() {
        let clients = RouteTable::new(clients(&Control::default())).unwrap();
        assert!(clients.routes().all(|route| route.access != Operator));
        let operators = RouteTable::new(operators()).unwrap();
        let open: Vec<_> =
            operators.routes().filter(|route| route.access != Operator).map(|route| route.path).collect();
        assert_eq!(open, ["/healthz"]);
    }

    #[test]
    fn c06_every_route_that_asks_a_model_counts_tokens() {
        for route in clients(&Control::default()) {
            let asks = route.patience == Chat;
            assert_eq!(route.limit == Turn, asks, "{} {}", route.method, route.path);
        }
    }

    #[test]
    fn d05_health_logging_out_and_administration_are_served_even_when_we_are_full() {
        for route in clients(&Control::default()) {
            let is_reserved = route.path.starts_with("/health")
                || route.path.starts_with("/v1/admin/")
                || ["/readyz", "/v1/auth/logout"].contains(&route.path);
            assert_eq!(route.limit == Reserved, is_reserved, "{} {}", route.method, route.path);
        }
    }
}
