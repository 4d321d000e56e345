//! Every path of the service, on one screen.

use actors::system::System;
use domain::principal::Access::{Admin, Public, User};
use http::Method;

use crate::{
    http::{
        Limit::{Request, Reserved},
        Patience::Chat,
        Route, route,
    },
    routes::{admin, auth, chat, conversations, health, models, openapi, ops},
};

const GET: Method = Method::GET;
const POST: Method = Method::POST;

/// What clients can ask.
pub(crate) fn clients() -> Vec<Route<System>> {
    vec![
        route(POST, "/v1/auth/signup", Public, Request, auth::sign_up),
        route(POST, "/v1/auth/login", Public, Request, auth::log_in),
        route(POST, "/v1/auth/refresh", Public, Request, auth::refresh),
        route(GET, "/v1/auth/me", User, Request, auth::me),
        route(GET, "/v1/models", User, Request, models::list),
        route(GET, "/v1/models/{*id}", User, Request, models::read),
        route(POST, "/v1/chat", User, Request, chat::reply).with_patience(Chat),
        route(POST, "/v1/chat/stream", User, Request, chat::stream).with_patience(Chat),
        route(GET, "/v1/conversations", User, Request, conversations::list),
        route(GET, "/v1/conversations/{id}", User, Request, conversations::read),
        route(GET, "/v1/conversations/{id}/messages", User, Request, conversations::messages),
        route(GET, "/v1/admin/actors", Admin, Reserved, admin::actors),
        route(GET, "/health", Public, Reserved, health::details),
        route(GET, "/healthz", Public, Reserved, health::process),
        route(GET, "/readyz", Public, Reserved, health::readiness),
        route(GET, "/openapi.json", Public, Request, openapi::document),
    ]
}

/// What operators can ask on their own listener, which only this machine reaches.
pub(crate) fn operators() -> Vec<Route<System>> {
    vec![
        route(GET, "/metrics", Public, Reserved, ops::metrics),
        route(GET, "/actors", Public, Reserved, ops::actors),
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
        let table = RouteTable::new(clients()).unwrap();
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
    fn a17_only_sign_in_health_and_the_description_are_public() {
        let table = RouteTable::new(clients()).unwrap();
        let public: BTreeSet<_> =
            table.routes().filter(|route| route.access == Public).map(|route| route.path).collect();
        let expected = [
            "/health",
            "/healthz",
            "/openapi.json",
            "/readyz",
            "/v1/auth/login",
            "/v1/auth/refresh",
            "/v1/auth/signup",
        ];
        assert_eq!(public.into_iter().collect::<Vec<_>>(), expected);
        assert!(RouteTable::new(operators()).is_ok());
    }
}
