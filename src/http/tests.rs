//! The front end over real sockets, with a script in place of the rooms.

mod admission;
mod bounds;
pub(crate) mod client;
mod shutdown;
mod way;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actors::{
    auth::{AuthError, Origin},
    rate_limit::{Decision, LimitError, Said, Scope, TokenReserve, TurnSize},
};
use bytes::Bytes;
use domain::{
    audit::AuditEvent,
    chat::{ChatMessage, ChatRequest, Sampling},
    id::UserId,
    limits::Limits,
    model_name::ModelName,
    principal::{Access, Credential, Principal, Role, Scopes},
    quota::{Quota, Verdict},
};
use http::{Method, StatusCode};
use http_body_util::StreamBody;
use hyper::body::Frame;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use uuid::Uuid;

use self::client::{Answer, PATIENCE, rest, until};
use super::{
    config::HttpConfig,
    connections::Caps,
    doors::Doors,
    error::ApiError,
    front::Front,
    lifecycle::Lifecycle,
    metrics::HttpMetrics,
    pipeline::{Hosts, Pipeline},
    reply,
    route::{Limit, Route, RouteTable, route},
    server::start_listener,
};

/// A key that has the shape of one.
const MODELS_KEY: &str = "dsk_flDIBkGwcRKRL9GXCgaFM3UNu2jQTC_4TH5e1";

/// The rooms, as the tests want them.
struct Script {
    /// Whose bucket is empty.
    empty: Option<Scope>,
    /// What the pipeline asked, in order.
    asked: Mutex<Vec<&'static str>>,
    /// What it told the audit trail: the event, whether it knew whom it concerns, and the detail.
    reported: Mutex<Vec<(AuditEvent, bool, &'static str)>>,
    /// Told when a handler or a body that holds a [`Tell`] is dropped.
    dropped: mpsc::UnboundedSender<()>,
}

struct Tell(mpsc::UnboundedSender<()>);

impl Drop for Tell {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn decision(scope: Scope, allowed: bool) -> Decision {
    let quota = Quota { permits: 60, period: Duration::from_secs(60), burst: 20 };
    let retry_after = if allowed { Duration::ZERO } else { Duration::from_millis(1_500) };
    let reset_after = Duration::from_secs(20);
    Said { scope, verdict: Verdict { quota, allowed, remaining: 7, retry_after, reset_after } }.into()
}

impl Doors for Script {
    async fn take_address(&self, _: std::net::IpAddr) -> Result<Option<Decision>, LimitError> {
        self.asked.lock().push("address");
        Ok(Some(decision(Scope::Address, self.empty != Some(Scope::Address))))
    }

    async fn authenticate(&self, token: &str, _: Access) -> Result<Principal, AuthError> {
        self.asked.lock().push("credentials");
        let session = Credential::Session(Uuid::from_u128(2).into());
        let key = |scopes| {
            let scopes = Scopes::parse(scopes).unwrap();
            Credential::Key { id: Uuid::from_u128(3).into(), scopes, limits: Limits::default(), models: None }
        };
        let (role, credential) = match token {
            "user" => (Role::User, session),
            "admin" => (Role::Admin, session),
            "models-key" | MODELS_KEY => (Role::User, key("models")),
            "users-admin-key" => (Role::User, key("admin")),
            "admins-chat-key" => (Role::Admin, key("chat")),
            "admin-key" => (Role::Admin, key("admin")),
            "stuck" => return std::future::pending().await,
            "unknowable" => return Err(AuthError::Unavailable("the store is away".into())),
            _ => return Err(AuthError::BadToken),
        };
        let (user, limits) = (Uuid::from_u128(1).into(), Limits::default());
        Ok(Principal { user, role, limits, models: None, credential })
    }

    async fn take_principal(&self, _: &Principal) -> Result<Option<Decision>, LimitError> {
        self.asked.lock().push("principal");
        Ok(Some(decision(Scope::User, self.empty != Some(Scope::User))))
    }

    async fn take_turn(
        &self,
        _: &Principal,
        model: &ModelName,
        size: TurnSize,
    ) -> Result<(Option<Decision>, TokenReserve), LimitError> {
        self.asked.lock().push("turn");
        assert_eq!(model.canonical().as_str(), "m:latest");
        assert_eq!(size, TurnSize { prompt_tokens: 2, answer_tokens: Some(5) });
        let tokens = decision(Scope::Tokens, self.empty != Some(Scope::Tokens)).binding();
        let said = vec![decision(Scope::User, self.empty != Some(Scope::User)).binding(), tokens];
        Ok((Decision::of(said), TokenReserve::none()))
    }

    fn report_refusal(&self, event: AuditEvent, user: Option<UserId>, detail: &'static str, origin: &Origin) {
        assert!(origin.address.is_some() && origin.request_id.is_some());
        self.reported.lock().push((event, user.is_some(), detail));
    }
}

fn turn() -> ChatRequest {
    ChatRequest {
        sampling: Sampling { num_predict: Some(5), ..Sampling::default() },
        ..ChatRequest::new(
            ModelName::parse("M").unwrap(),
            vec![ChatMessage::text(domain::chat::Role::User, "eight by")],
        )
    }
}

fn routes() -> Vec<Route<Script>> {
    use Access::{Admin, Anybody, Public};
    let hello = |_, _| async { Ok(reply::json(StatusCode::OK, "hello")) };
    vec![
        route(Method::GET, "/hello", Public, Limit::Request, hello),
        route(Method::GET, "/mine", Anybody, Limit::Request, hello),
        route(Method::GET, "/theirs", Admin, Limit::Request, hello),
        route(Method::GET, "/models", Access::Scope(domain::principal::Scope::Models), Limit::Request, hello),
        route(Method::GET, "/", Public, Limit::Request, hello),
        route(
            Method::GET,
            "/api/tags",
            Access::Scope(domain::principal::Scope::Models),
            Limit::Request,
            hello,
        ),
        route(
            Method::POST,
            "/api/chat",
            Access::Scope(domain::principal::Scope::Chat),
            Limit::Request,
            hello,
        ),
        route(Method::GET, "/account", Access::Session, Limit::Request, hello),
        route(Method::GET, "/tree", Admin, Limit::Reserved, hello),
        route(Method::GET, "/healthz", Public, Limit::Reserved, hello),
        route(Method::POST, "/echo", Public, Limit::Request, |_, mut call| async move {
            let body: Value = call.chat(|body, _| Ok(body)).await?;
            Ok(reply::json(StatusCode::OK, &json!({ "echo": body, "client": call.client })))
        }),
        route(Method::POST, "/log-in", Public, Limit::Request, |_, mut call| async move {
            let body: Value = call.account().await?;
            Ok(reply::json(StatusCode::OK, &body))
        }),
        route(Method::POST, "/v1/turn", Anybody, Limit::Turn, |script, mut call| async move {
            let _: Value = call.chat(|body, _| Ok(body)).await?;
            let _reserve = call.pay_for_turn(&*script, &turn().model, TurnSize::of(&turn())).await?;
            Err(ApiError::not_found("no such model"))
        }),
        route(Method::POST, "/mine", Anybody, Limit::Request, hello),
        route(Method::GET, "/panic", Public, Limit::Request, |_, _| async { panic!("on purpose") }),
        route(Method::GET, "/never", Public, Limit::Request, |script: Arc<Script>, _| async move {
            let _tell = Tell(script.dropped.clone());
            std::future::pending().await
        }),
        route(Method::GET, "/thrice", Public, Limit::Request, |script: Arc<Script>, _| async move {
            let tell = Tell(script.dropped.clone());
            let body = futures_util::stream::unfold(0, move |said| {
                let _held = &tell;
                async move {
                    // Long enough for whoever read the first to do something about the rest.
                    tokio::time::sleep(Duration::from_millis(20 * said)).await;
                    (said < 3).then(|| (Ok(Frame::data(Bytes::from_static(b"xxxx"))), said + 1))
                }
            });
            Ok(reply::stream("text/plain", StreamBody::new(body)))
        }),
        route(Method::GET, "/endless", Public, Limit::Request, |script: Arc<Script>, _| async move {
            let tell = Tell(script.dropped.clone());
            let body = futures_util::stream::repeat_with(move || {
                let _held = &tell;
                Ok(Frame::data(Bytes::from_static(&[b'x'; 16 << 10])))
            });
            Ok(reply::stream("text/plain", StreamBody::new(body)))
        }),
    ]
}

struct Rig {
    addr: SocketAddr,
    script: Arc<Script>,
    metrics: Arc<HttpMetrics>,
    lifecycle: Lifecycle,
    dropped: mpsc::UnboundedReceiver<()>,
}

impl Rig {
    async fn start(change: impl FnOnce(&mut HttpConfig)) -> Self {
        Self::with(None, change).await
    }

    async fn with(empty: Option<Scope>, change: impl FnOnce(&mut HttpConfig)) -> Self {
        Self::named(Hosts::LoopbackOrProxied, empty, change).await
    }

    async fn named(hosts: Hosts, empty: Option<Scope>, change: impl FnOnce(&mut HttpConfig)) -> Self {
        let mut config = HttpConfig::new("127.0.0.1:0".parse().unwrap());
        config.max_request_bytes = 1_000;
        change(&mut config);
        let front = Front::new(config);
        let config = Arc::clone(&front.terms().config);
        let (tell, dropped) = mpsc::unbounded_channel();
        let script =
            Arc::new(Script { empty, asked: Mutex::default(), reported: Mutex::default(), dropped: tell });
        let metrics = Arc::new(HttpMetrics::register(&mut Registry::default(), &config));
        let lifecycle = Lifecycle::default();
        let table = RouteTable::new(routes()).unwrap();
        let pipeline = Pipeline::new(Arc::clone(&script), table, front, hosts, Arc::clone(&metrics));
        let socket = TcpListener::bind(config.bind).await.unwrap();
        let addr = socket.local_addr().unwrap();
        let caps = Caps { all: config.max_connections, of_one_address: config.max_connections_per_address };
        start_listener(socket, pipeline, caps, &config, &metrics, &lifecycle);
        Self { addr, script, metrics, lifecycle, dropped }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    async fn send(&self, bytes: impl AsRef<[u8]>) -> Answer {
        client::send(self.addr, bytes.as_ref()).await
    }

    async fn ask(&self, line: &str, headers: &[&str], body: &str) -> Answer {
        client::ask(self.addr, line, headers, body).await
    }
}
