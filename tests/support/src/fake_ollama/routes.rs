//! From a connection's bytes to the endpoint that answers, as Ollama's own router decides.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::ask::Api;
use super::embed::Shape;
use super::http::request::{Peer, Request};
use super::http::response::{ERROR_JSON, Head, JSON, Length, TEXT, Wire};
use super::json::{self, Members};
use super::scenario::Scenario;
use super::script::error_body;
use super::{Dialect, Server, answer, catalogue, embed};
use crate::fake_openai;

/// Serves one connection until either side ends it.
pub(crate) async fn serve(server: Arc<Server>, stream: TcpStream, cut: CancellationToken) {
    if *server.hang_up.borrow() {
        return;
    }
    let _open = OpenConnection::begin(&server);
    // Ollama sets it; without, a line would wait for the acknowledgement of the one before.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    // Shared, not split: the halves of a split stream send a FIN when dropped, which would outrun a reset.
    let stream = Arc::new(stream);
    let mut peer = Peer::new(stream.clone());
    let mut wire = Wire::new(stream, &server.stats, server.frozen.subscribe());
    let mut idle_cut = server.idle_cut.subscribe();
    while wire.keep_alive {
        let request = tokio::select! {
            biased;
            _ = idle_cut.changed() => return,
            request = next(&mut peer, &mut wire) => request,
        };
        idle_cut.mark_unchanged();
        let request = match request {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(error) => {
                if error.kind() == io::ErrorKind::InvalidData {
                    // The peer may be gone already.
                    let _ = wire.raw(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request").await;
                }
                return;
            }
        };
        wire.keep_alive = request.keep_alive;
        wire.head_only = request.method == "HEAD";
        let answered = tokio::select! {
            biased;
            () = peer.left() => return,
            answered = route(&server, &request, &mut wire, &cut) => answered,
        };
        if answered.is_err() {
            return;
        }
        // A server that was asked to drop idle connections while this one was busy leaves it alone.
        idle_cut.mark_unchanged();
    }
}

struct OpenConnection<'s>(&'s Server);

impl<'s> OpenConnection<'s> {
    fn begin(server: &'s Server) -> Self {
        server.stats.update(|all| {
            all.connections += 1;
            all.open_connections += 1;
        });
        Self(server)
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.stats.update(|all| all.open_connections -= 1);
    }
}

async fn next(peer: &mut Peer, wire: &mut Wire<'_>) -> io::Result<Option<Request>> {
    let Some((mut request, framing)) = peer.head().await? else {
        return Ok(None);
    };
    if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        wire.raw(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    request.body = peer.body(framing).await?;
    Ok(Some(request))
}

async fn route(
    server: &Server,
    request: &Request,
    wire: &mut Wire<'_>,
    cut: &CancellationToken,
) -> io::Result<()> {
    if let Some(control) = request.path.strip_prefix("/__") {
        return steer(server, control, request, wire).await;
    }
    if let Dialect::OpenAi { key } = &server.dialect {
        return fake_openai::routes::route(server, key.as_deref(), request, wire, cut).await;
    }
    server.stats.update(|all| {
        all.requests += 1;
        match request.path.as_str() {
            "/api/tags" => all.tags_calls += 1,
            "/api/ps" => all.ps_calls += 1,
            "/api/show" => all.show_calls += 1,
            "/api/chat" => all.chat_calls += 1,
            "/api/generate" => all.generate_calls += 1,
            "/api/embed" | "/api/embeddings" => all.embed_calls += 1,
            _ => {}
        }
    });
    server.log.push(request);
    if !host_is_allowed(request) || !origin_is_allowed(request) {
        wire.begin(&Head { status: 403, content_type: TEXT, length: Length::Known(0), lower_case: false });
        return wire.flush().await;
    }
    let is_read = matches!(request.method.as_str(), "GET" | "HEAD");
    let is_post = request.method == "POST";
    match request.path.as_str() {
        "/" if is_read => wire.reply(200, "text/plain; charset=utf-8", "Ollama is running").await,
        "/api/version" if is_read => {
            wire.reply(200, JSON, &json::to_go(&json!({ "version": server.version }))).await
        }
        "/api/status" if request.method == "GET" => {
            let status = json!({ "cloud": { "disabled": false, "source": "none" } });
            wire.reply(200, JSON, &json::to_go(&status)).await
        }
        "/api/tags" if is_read => catalogue::tags(server, wire).await,
        "/api/ps" if request.method == "GET" => catalogue::ps(server, wire).await,
        path @ ("/api/show" | "/api/chat" | "/api/generate" | "/api/embed" | "/api/embeddings")
            if is_post =>
        {
            let body = match parse(request) {
                Ok(body) => body,
                Err(message) => return wire.reply(400, ERROR_JSON, &error_body(&message)).await,
            };
            match path {
                "/api/show" => catalogue::show(server, &body, wire).await,
                "/api/chat" => answer::answer(server, request, Api::Chat, &body, wire, cut).await,
                "/api/generate" => answer::answer(server, request, Api::Generate, &body, wire, cut).await,
                "/api/embed" => embed::embed(server, &body, Shape::Ollama, wire, cut).await,
                _ => embed::embed(server, &body, Shape::Old, wire, cut).await,
            }
        }
        "/" | "/api/version" | "/api/status" | "/api/tags" | "/api/ps" | "/api/show" | "/api/chat"
        | "/api/generate" | "/api/embed" | "/api/embeddings" => {
            wire.reply(405, TEXT, "405 method not allowed").await
        }
        _ => wire.reply(404, TEXT, "404 page not found").await,
    }
}

fn parse(request: &Request) -> Result<Members, String> {
    if request.body.is_empty() {
        return Err("missing request body".to_owned());
    }
    serde_json::from_slice(&request.body).map_err(|error| error.to_string())
}

/// The paths Ollama does not have: `GET /__counters`, and `POST /__scenario {"model","scenario"}`.
async fn steer(server: &Server, path: &str, request: &Request, wire: &mut Wire<'_>) -> io::Result<()> {
    match path {
        "counters" => wire.reply(200, JSON, &json::to_go(&server.stats.snapshot())).await,
        "scenario" => {
            let body = request.json();
            let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
            let changed = Scenario::named(text("scenario"))
                .is_some_and(|scenario| server.change(text("model"), |model| model.scenario = scenario));
            let (status, reply) =
                if changed { (200, "{}") } else { (404, r#"{"error":"no such model or scenario"}"#) };
            wire.reply(status, JSON, reply).await
        }
        _ => wire.reply(404, TEXT, "404 page not found").await,
    }
}

/// A server on loopback answers only to names of this machine and of private networks.
fn host_is_allowed(request: &Request) -> bool {
    let Some(host) = request.header("host").map(host_name) else {
        return true;
    };
    let is_local_address = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip == Ipv4Addr::UNSPECIFIED,
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unspecified(),
    };
    let local_domains = [".localhost", ".local", ".internal"];
    host.is_empty()
        || host == "localhost"
        || host.parse().is_ok_and(is_local_address)
        || local_domains.iter().any(|domain| host.ends_with(domain))
}

fn origin_is_allowed(request: &Request) -> bool {
    let Some(origin) = request.header("origin") else {
        return true;
    };
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let same_host = request.header("host").is_some_and(|host| host.eq_ignore_ascii_case(authority));
    let local = matches!(host_name(authority).as_str(), "localhost" | "127.0.0.1" | "0.0.0.0");
    same_host || local || matches!(scheme, "app" | "file" | "tauri" | "vscode-webview" | "vscode-file")
}

fn host_name(authority: &str) -> String {
    let host = match authority.parse::<SocketAddr>() {
        Ok(addr) => addr.ip().to_string(),
        Err(_) => authority.split_once(':').map_or(authority, |(host, _)| host).to_owned(),
    };
    host.to_lowercase()
}
