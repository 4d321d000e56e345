//! A16, A17: every route that asks who calls, asked by everybody, in both ways to say who one is.
//!
//! The routes come from the service's description, which is made from its route table. One that these tests cannot ask
//! fails them: say here how it is asked.

use std::collections::BTreeSet;

use domain::principal::{Access, Role, Scope, Scopes};
use serde_json::{Value, json};

use crate::{
    harness::{Call, MODEL, Reply, Session, TestApp, both_stores, snapshot},
    turn::{prompt, told},
};

/// Nobody has anything of this id.
const NOTHING: &str = "01900000-0000-7000-8000-000000000000";

/// The service has no such model.
const EMBEDDER: &str = "nomic-embed-text";

/// Both ways to show a credential: the header and what stands before it.
const HEADERS: [(&str, &str); 2] = [("authorization", "Bearer "), ("x-api-key", "")];

const USERS_SCOPES: [Scope; 5] =
    [Scope::Chat, Scope::Models, Scope::Embeddings, Scope::Conversations, Scope::Usage];

/// A route and how it is asked.
struct Route {
    method: String,
    path: String,
    access: Access,
}

/// Whose the thing is that a route's path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Nothing,
    Model,
    Conversation,
    Turn,
    Session,
    Key,
    /// Something that administrators see, whosever it is.
    Administered,
}

impl Route {
    /// All that ask who calls.
    fn all() -> Vec<Self> {
        let document: Value = serde_json::from_str(&deepersensor::openapi()).unwrap();
        let mut routes = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let access = access(operation["x-access"].as_str().unwrap());
                assert_eq!(access == Access::Admin, path.starts_with("/v1/admin/"), "{path}");
                routes.push(Self { method: method.to_uppercase(), path: path.clone(), access });
            }
        }
        routes.retain(|route| route.access != Access::Public);
        assert!(!routes.is_empty());
        routes
    }

    fn named(&self) -> Named {
        match self.path.as_str() {
            path if !path.contains('{') => Named::Nothing,
            path if path.starts_with("/v1/admin/") => Named::Administered,
            "/v1/models/{id}" => Named::Model,
            "/v1/conversations/{id}"
            | "/v1/conversations/{id}/export"
            | "/v1/conversations/{id}/messages" => Named::Conversation,
            "/v1/turns/{id}" | "/v1/turns/{id}/stream" => Named::Turn,
            "/v1/auth/sessions/{id}" => Named::Session,
            "/v1/api-keys/{id}" => Named::Key,
            path => panic!("whose is what {path} names?"),
        }
    }

    /// What is sent: for routes that change something, nothing they accept, so that whoever is let in changes nothing.
    fn body(&self) -> Option<Value> {
        match (self.method.as_str(), self.path.as_str()) {
            ("GET" | "DELETE", _) => None,
            ("POST", "/v1/chat" | "/v1/chat/stream" | "/v1/chat/completions" | "/api/chat") => {
                Some(prompt(MODEL, "hello"))
            }
            ("POST", "/v1/completions" | "/api/generate") => {
                Some(json!({"model": MODEL, "prompt": told("hello")}))
            }
            ("POST", "/v1/responses") => Some(json!({"model": MODEL, "input": told("hello")})),
            ("POST", "/v1/embeddings" | "/api/embed") => {
                Some(json!({"model": EMBEDDER, "input": told("hello")}))
            }
            ("POST", "/api/embeddings") => Some(json!({"model": EMBEDDER, "prompt": told("hello")})),
            ("POST", "/api/show") => Some(json!({"model": MODEL})),
            ("POST", "/v1/messages" | "/v1/messages/count_tokens") => {
                let mut body = prompt(MODEL, "hello");
                body["max_tokens"] = json!(3);
                Some(body)
            }
            // Nothing is named that would change.
            ("PATCH", "/v1/conversations/{id}") => Some(json!({})),
            ("POST", "/v1/auth/logout" | "/v1/auth/password" | "/v1/api-keys" | "/v1/conversations")
            | (
                "POST",
                "/v1/admin/invites"
                | "/v1/admin/signing-keys"
                | "/v1/admin/reload"
                | "/v1/admin/log-filter"
                | "/v1/admin/actors/restart"
                | "/v1/admin/upstreams/{name}/drain"
                | "/v1/admin/upstreams/{name}/resume",
            )
            | ("PATCH", "/v1/admin/users/{id}" | "/v1/admin/api-keys/{id}") => Some(json!([])),
            (method, path) => panic!("how is {method} {path} asked?"),
        }
    }

    fn call(&self, app: &TestApp, id: &str) -> Call {
        let id = if self.named() == Named::Model { MODEL } else { id };
        let path = self.path.replace("{id}", id).replace("{name}", id);
        let call = app.call(&self.method, &path);
        match self.body() {
            Some(body) => call.json(&body),
            None => call,
        }
    }

    async fn asked_with(&self, app: &TestApp, id: &str, header: (&str, &str), credential: &str) -> Reply {
        self.call(app, id).header(header.0, &format!("{}{credential}", header.1)).send().await
    }
}

fn access(text: &str) -> Access {
    match text {
        "public" => Access::Public,
        "anybody" => Access::Anybody,
        "session" => Access::Session,
        "admin" => Access::Admin,
        scope => Access::Scope(scope.strip_prefix("scope:").and_then(Scope::parse).expect("an access")),
    }
}

/// Somebody with a credential.
struct Caller {
    name: String,
    credential: String,
    role: Role,
    /// `None` for a session.
    scopes: Option<Scopes>,
}

impl Caller {
    fn of(name: &str, session: &Session, role: Role) -> Self {
        Self { name: name.to_owned(), credential: session.access.clone(), role, scopes: None }
    }

    async fn with_key(
        app: &TestApp,
        session: &Session,
        role: Role,
        scopes: impl IntoIterator<Item = Scope>,
    ) -> Self {
        let scopes: Scopes = scopes.into_iter().collect();
        let (_, credential) = app.create_key(session, &scopes.to_string()).await;
        Self { name: format!("{}'s key for {scopes}", session.email), credential, role, scopes: Some(scopes) }
    }

    /// What the requirements say, in words of their own.
    fn may(&self, access: Access) -> bool {
        let opens = |scope| self.scopes.is_none_or(|scopes| scopes.contains(scope));
        match access {
            Access::Public | Access::Anybody => true,
            // Not on this listener.
            Access::Operator => false,
            Access::Session => self.scopes.is_none(),
            Access::Scope(scope) => opens(scope),
            Access::Admin => self.role == Role::Admin && opens(Scope::Admin),
        }
    }
}

async fn callers(app: &TestApp) -> Vec<Caller> {
    let ada = app.sign_up_and_in("ada@example.org").await;
    let root = app.administrator("root@example.org").await;
    let former = app.administrator("former@example.org").await;
    let mut callers =
        vec![Caller::of("a user", &ada, Role::User), Caller::of("an administrator", &root, Role::Admin)];
    for scope in USERS_SCOPES {
        callers.push(Caller::with_key(app, &ada, Role::User, [scope]).await);
    }
    callers.push(Caller::with_key(app, &ada, Role::User, USERS_SCOPES).await);
    callers.push(Caller::with_key(app, &root, Role::Admin, USERS_SCOPES).await);
    callers.push(Caller::with_key(app, &root, Role::Admin, [Scope::Admin]).await);
    // Users cannot make a key that claims to administer, but administrators can become users.
    callers.push(Caller::with_key(app, &former, Role::User, Scope::ALL).await);
    let path = format!("/v1/admin/users/{}", former.user);
    let demotion = app.call("PATCH", &path).json(&json!({"role": "user"})).bearer(&root.access);
    demotion.send().await.expect_status(200);
    callers
}

both_stores! {
    async fn a16_a17_every_route_lets_in_whom_it_says_by_either_header_and_nobody_else(store) {
        let app = TestApp::on(store).await;
        let callers = callers(&app).await;
        for route in Route::all() {
            for caller in &callers {
                for header in HEADERS {
                    let reply = route.asked_with(&app, NOTHING, header, &caller.credential).await;
                    let case = format!("{} by {} in {}: {reply:?}", route.path, caller.name, header.0);
                    if caller.may(route.access) {
                        assert!(![401, 403].contains(&reply.status) && reply.status < 500, "{case}");
                    } else {
                        assert_eq!(reply.status, 403, "{case}");
                        reply.expect_error(403, "forbidden");
                    }
                }
            }
        }
        app.finish().await;
    }

    async fn a17_without_credentials_every_route_of_a_dialect_gives_one_answer(store) {
        let app = TestApp::on(store).await;
        let mut answers = BTreeSet::new();
        for route in Route::all() {
            let reply = route.call(&app, NOTHING).send().await.expect_error(401, "unauthenticated");
            answers.insert(snapshot(&reply));
        }
        assert_eq!(answers.len(), 3, "ours and OpenAI's, Anthropic's, Ollama's: {answers:#?}");
        app.finish().await;
    }

    async fn a17_what_is_somebody_elses_is_told_from_nothing_by_nobody(store) {
        let app = TestApp::on(store).await;
        let (ada, eve) = (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("eve@example.org").await);
        let chat = app.chat(&ada, &prompt(MODEL, "hello")).send().await.expect_status(200).json();
        let me = app.get("/v1/auth/me").bearer(&ada.access).send().await.expect_status(200).json();
        let (key, of_key) = app.create_key(&ada, "conversations").await;
        let (_, stranger) = app.create_key(&eve, &Scopes::from_iter(USERS_SCOPES).to_string()).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut asked = 0;
        for route in Route::all() {
            let hers = match route.named() {
                Named::Conversation => text(&chat["conversation_id"]),
                Named::Turn => text(&chat["id"]),
                Named::Session => text(&me["credential"]["id"]),
                Named::Key => key.clone(),
                Named::Nothing | Named::Model | Named::Administered => continue,
            };
            for credential in [&eve.access, &stranger] {
                if route.access == Access::Session && *credential == stranger {
                    continue;
                }
                for header in HEADERS {
                    let foreign = route.asked_with(&app, &hers, header, credential).await;
                    let nothing = route.asked_with(&app, NOTHING, header, credential).await;
                    let foreign = foreign.expect_error(404, "not_found");
                    assert_eq!(snapshot(&foreign), snapshot(&nothing), "{}", route.path);
                    asked += 1;
                }
            }
        }
        assert!(asked >= 24, "{asked}");

        // And all of it is still there.
        let path = format!("/v1/conversations/{}", text(&chat["conversation_id"]));
        for credential in [&ada.access, &of_key] {
            app.get(&path).bearer(credential).send().await.expect_status(200);
        }
        app.finish().await;
    }
}
