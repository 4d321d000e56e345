//! The routes as clients see them: a whole service on SQLite with the demo model, over real sockets.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use actors::{
    auth::AuthConfig,
    clock::Clock,
    db::DbConfig,
    model::{ModelConfig, UpstreamConfig, UpstreamKind},
    password::PasswordConfig,
    rate_limit::RateLimitConfig,
    relay::RelayConfig,
    system::{System, SystemConfig},
    upkeep::UpkeepConfig,
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use uuid::Uuid;

use crate::{
    control::Control,
    http::{
        Front, HttpConfig, OpsDoor, Server,
        tests::client::{self, Answer},
    },
};

const PASSWORD: &str = "correct horse battery";

struct Service {
    server: Server,
    system: Arc<System>,
    dir: PathBuf,
}

impl Service {
    async fn start() -> Self {
        let name = format!("routes-{}", Uuid::now_v7());
        let dir = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&dir).unwrap();
        let config = SystemConfig {
            db: DbConfig::new(dir.clone()),
            auth: AuthConfig::new(dir.clone()),
            password: PasswordConfig::default(),
            rate_limit: RateLimitConfig::new(600, 100),
            upkeep: UpkeepConfig::default(),
            model: ModelConfig {
                upstreams: vec![UpstreamConfig::new("demo", UpstreamKind::Demo)],
                ..ModelConfig::default()
            },
            relay: RelayConfig::new(None),
        };
        let system = Arc::new(System::start(&name, config, Clock::system()).await.unwrap());
        let mut http = HttpConfig::new("127.0.0.1:0".parse().unwrap());
        http.ops = OpsDoor::new(Some(http.bind), None).unwrap();
        http.drain_accept = Duration::ZERO;
        http.drain_grace = Duration::from_millis(200);
        let server = Server::start(Front::new(http), Arc::clone(&system), &Control::default()).await.unwrap();
        Self { server, system, dir }
    }

    async fn stop(self) {
        self.server.shutdown().await;
        let system = Arc::into_inner(self.system).expect("the front end has let the system go");
        system.stop().await;
        std::fs::remove_dir_all(self.dir).unwrap();
    }

    fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    async fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        let header = format!("authorization: Bearer {token}");
        let headers: &[&str] = if token.is_empty() { &[] } else { &[&header] };
        client::ask(self.addr(), &format!("POST {path}"), headers, &body.to_string()).await
    }

    async fn get(&self, path: &str, token: &str) -> Answer {
        client::ask(self.addr(), &format!("GET {path}"), &[&format!("authorization: Bearer {token}")], "")
            .await
    }

    /// Signs a new user up and in; returns the access token.
    async fn somebody(&self, email: &str) -> String {
        let account = json!({ "email": email, "password": PASSWORD });
        assert_eq!(self.post("/v1/auth/signup", "", &account).await.status(), 201);
        let tokens = self.post("/v1/auth/login", "", &account).await.json();
        tokens["access_token"].as_str().unwrap().to_owned()
    }
}

fn prompt(tokens: u32) -> Value {
    json!({
        "model": "deepersensor-demo",
        "messages": [{ "role": "user", "content": "why is the sky blue?" }],
        "options": { "num_predict": tokens },
    })
}

/// The frames of a stream: event and data, ids checked on the way.
fn frames(text: &str) -> Vec<(String, Value)> {
    // Chunked framing falls between frames, never within a line of ours.
    let lines: Vec<_> = text.lines().collect();
    let mut frames = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(event) = line.strip_prefix("event: ") else { continue };
        assert!(lines[at + 1].strip_prefix("id: ").unwrap().parse::<domain::reply::Position>().is_ok());
        let data = lines[at + 2].strip_prefix("data: ").unwrap();
        frames.push((event.to_owned(), serde_json::from_str(data).unwrap()));
    }
    frames
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_can_be_made_used_refreshed_and_asked_about() {
    let service = Service::start().await;
    let account = json!({ "email": " Ada@Example.org ", "password": PASSWORD });
    let made = service.post("/v1/auth/signup", "", &account).await;
    assert_eq!((made.status(), made.json()["email"].as_str()), (201, Some("ada@example.org")));
    assert!(made.json()["id"].as_str().unwrap().parse::<Uuid>().is_ok());
    assert_eq!(service.post("/v1/auth/signup", "", &account).await.code(), "conflict");

    let tokens = service.post("/v1/auth/login", "", &account).await;
    assert_eq!((tokens.status(), tokens.json()["token_type"].as_str()), (200, Some("Bearer")));
    assert_eq!(tokens.json()["expires_in"], 900);
    let me = service.get("/v1/auth/me", tokens.json()["access_token"].as_str().unwrap()).await;
    assert_eq!((me.status(), me.json()["role"].as_str()), (200, Some("user")));
    assert_eq!(me.json()["id"], made.json()["id"]);

    let refresh = json!({ "refresh_token": tokens.json()["refresh_token"] });
    let next = service.post("/v1/auth/refresh", "", &refresh).await;
    assert_eq!(next.status(), 200);
    assert_ne!(next.json()["refresh_token"], tokens.json()["refresh_token"]);
    assert_eq!(service.get("/v1/auth/me", next.json()["access_token"].as_str().unwrap()).await.status(), 200);

    let wrong = json!({ "email": "ada@example.org", "password": "incorrect horse battery" });
    assert_eq!(service.post("/v1/auth/login", "", &wrong).await.status(), 401);
    let admin = json!({ "email": "eve@example.org", "password": PASSWORD, "role": "admin" });
    let assigned = service.post("/v1/auth/signup", "", &admin).await;
    assert_eq!((assigned.status(), assigned.json()["error"]["param"].as_str()), (400, Some("role")));
    let weak = json!({ "email": "eve@example.org", "password": "short" });
    let weak = service.post("/v1/auth/signup", "", &weak).await;
    assert_eq!((weak.status(), weak.json()["error"]["param"].as_str()), (422, Some("password")));
    assert_eq!(
        service.get("/v1/admin/actors", next.json()["access_token"].as_str().unwrap()).await.status(),
        403
    );
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_and_found_by_any_spelling() {
    let service = Service::start().await;
    let token = service.somebody("ada@example.org").await;
    let list = service.get("/v1/models", &token).await.json();
    assert_eq!((list["object"].as_str(), list["next_cursor"].is_null()), (Some("list"), true));
    assert_eq!(list["data"][0]["id"], "deepersensor-demo:latest");
    assert_eq!(list["data"][0]["state"], "available");
    for spelling in
        ["deepersensor-demo", "library/deepersensor-demo:latest", "library%2FDeepersensor-Demo%3Alatest"]
    {
        let card = service.get(&format!("/v1/models/{spelling}"), &token).await;
        assert_eq!(
            (card.status(), card.json()["id"].as_str()),
            (200, Some("deepersensor-demo:latest")),
            "{spelling}"
        );
    }
    assert_eq!(service.get("/v1/models/nobody", &token).await.code(), "model_not_found");
    let mut unknown = prompt(1);
    unknown["model"] = "nobody".into();
    for path in ["/v1/chat", "/v1/chat/stream"] {
        let answer = service.post(path, &token, &unknown).await;
        assert_eq!((answer.status(), answer.code().as_str()), (404, "model_not_found"));
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_is_answered_stored_and_only_its_owner_can_read_it() {
    let service = Service::start().await;
    let token = service.somebody("ada@example.org").await;
    let reply = service.post("/v1/chat", &token, &prompt(4)).await;
    let body = reply.json();
    assert_eq!(
        (reply.status(), body["object"].as_str(), body["done"].as_bool()),
        (200, Some("chat"), Some(true))
    );
    assert_eq!(
        (body["model"].as_str(), body["finish_reason"].as_str()),
        (Some("deepersensor-demo"), Some("length"))
    );
    assert_eq!(body["usage"]["completion_tokens"], 4);
    let said = body["message"]["content"].as_str().unwrap();
    assert!(!said.is_empty());

    let path = format!("/v1/conversations/{}", body["conversation_id"].as_str().unwrap());
    let conversation = service.get(&path, &token).await.json();
    assert_eq!(conversation["title"], "why is the sky blue?");
    let messages = conversation["messages"].as_array().unwrap();
    assert_eq!(
        messages.iter().map(|message| message["role"].as_str().unwrap()).collect::<Vec<_>>(),
        ["user", "assistant"]
    );
    assert_eq!(
        (messages[1]["content"].as_str(), messages[1]["status"].as_str()),
        (Some(said), Some("complete"))
    );
    assert_eq!(messages[1]["id"], body["message_id"]);

    let first = service.get(&format!("{path}/messages?limit=1"), &token).await.json();
    assert_eq!(first["data"][0]["role"], "user");
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = service.get(&format!("{path}/messages?limit=1&cursor={cursor}"), &token).await.json();
    assert_eq!(second["data"][0]["id"], body["message_id"]);
    assert_eq!(service.get("/v1/conversations?limit=0", &token).await.status(), 400);
    assert_eq!(service.get("/v1/conversations", &token).await.json()["data"].as_array().unwrap().len(), 1);

    let other = service.somebody("eve@example.org").await;
    for path in [path.clone(), format!("{path}/messages"), "/v1/conversations/nonsense".to_owned()] {
        assert_eq!(service.get(&path, &other).await.status(), 404, "{path}");
    }
    let mut intrusion = prompt(1);
    intrusion["conversation_id"] = body["conversation_id"].clone();
    let refused = service.post("/v1/chat", &other, &intrusion).await;
    assert_eq!((refused.status(), refused.json()["error"]["param"].as_str()), (404, Some("conversation_id")));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b16_a_streamed_chat_is_a_start_its_chunks_and_one_done() {
    let service = Service::start().await;
    let token = service.somebody("ada@example.org").await;
    let answer = service.post("/v1/chat/stream", &token, &prompt(4)).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("cache-control"), Some("no-store, no-transform"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    let frames = frames(&answer.text);
    let mut names: Vec<_> =
        frames.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "queue").collect();
    names.dedup();
    assert_eq!(names, ["start", "chunk", "done"]);
    let (_, done) = frames.last().unwrap();
    assert_eq!((done["done"].as_bool(), done["usage"]["completion_tokens"].as_u64()), (Some(true), Some(4)));
    assert!(done.get("message").is_none() && done["stored"] == true);

    let streamed: String = frames.iter().filter_map(|(_, data)| data["content"].as_str()).collect();
    let path = format!("/v1/conversations/{}", done["conversation_id"].as_str().unwrap());
    let stored = service.get(&path, &token).await.json();
    assert_eq!(stored["messages"][1]["content"], streamed);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d07_a_running_stream_is_told_of_the_shutdown_and_what_it_said_is_kept() {
    let service = Service::start().await;
    let token = service.somebody("ada@example.org").await;
    let body = prompt(1_000).to_string();
    let head = format!(
        "POST /v1/chat/stream HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(service.addr()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let begun = client::until(&mut stream, "event: chunk").await;
    assert_eq!(service.server.in_flight(), 1);
    let (Service { server, system, dir }, rest) = (service, client::rest(&mut stream));
    let ((), rest) = tokio::join!(server.shutdown(), rest);
    let frames = frames(&format!("{begun}{}", rest.text));
    let (last, error) = frames.last().unwrap();
    assert_eq!((last.as_str(), error["error"]["code"].as_str()), ("error", Some("server_shutting_down")));

    let start = &frames.iter().find(|(name, _)| name == "start").unwrap().1;
    let conversation = start["conversation_id"].as_str().unwrap().parse().unwrap();
    let owner = system.auth.authenticate(&token).await.unwrap().user;
    let page = system.db.messages(owner, conversation, None, 10).await.unwrap();
    let streamed: String = frames.iter().filter_map(|(_, data)| data["content"].as_str()).collect();
    assert_eq!(page.items[1].message.content, streamed);
    Arc::into_inner(system).unwrap().stop().await;
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_metrics_actors_and_health_without_credentials() {
    let service = Service::start().await;
    assert_eq!(client::ask(service.addr(), "GET /healthz", &[], "").await.json()["status"], "ok");
    let ops = service.server.ops_addr();
    let metrics = client::ask(ops, "GET /metrics", &[], "").await;
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let served = r#"deepersensor_http_requests_total{route="/healthz",status="2xx",outcome="ok"} 1"#;
    assert!(metrics.text.contains(served), "{}", metrics.text);
    assert!(
        client::ask(ops, "GET /actors", &[], "").await.json()["nodes"]
            .as_array()
            .is_some_and(|n| !n.is_empty())
    );
    assert_eq!(client::ask(ops, "GET /v1/models", &[], "").await.status(), 404);
    assert_eq!(client::ask(service.addr(), "GET /metrics", &[], "").await.status(), 404);
    let ready = client::ask(service.addr(), "GET /readyz", &[], "").await;
    assert!(ready.json()["checks"].as_array().is_some_and(|checks| !checks.is_empty()));
    service.stop().await;
}
