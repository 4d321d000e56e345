//! Connections of the hot path: plain HTTP/1.1 that is driven by whoever waits for the answer.
//!
//! ```text
//! idle list ──take──▶ Link ──send──▶ Exchange ──poll_head, poll_chunk──▶ answer
//!     ▲                                 │
//!     └───────────give back─────────────┘ at the answer's last line
//! ```
//!
//! No connection has a task of its own: hyper's connection future is polled inside the reader's poll, so that one wake
//! of one task moves a token from the socket to its reader (a connection task costs a second task switch per HTTP
//! chunk). It follows that an idle connection is driven by nobody. That is fine: what happened to it meanwhile is seen
//! when it is taken, and a dead one is thrown away then.
//!
//! Dropping an [`Exchange`] closes its socket at once; that is how Ollama learns that nobody waits any more.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{
    Request, Response, Uri,
    header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT},
};
use http_body_util::Full;
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

use super::address::Address;
use crate::{model::provider::UpstreamError, trace::tell_upstream};

/// The most idle connections kept to one server; more than its slots would serve nobody.
const IDLE_CONNECTIONS_MAX: usize = 32;

/// An idle connection older than this is not used again: something between us and the server may have forgotten it.
const IDLE_AGE_MAX: Duration = Duration::from_secs(60);

/// How long taking an idle connection may wait for the rest of its last answer, normally five bytes that are already here.
const DRAIN_GRACE: Duration = Duration::from_millis(5);

/// The most bytes after an answer's last line that are worth reading to keep a connection.
const DRAIN_BYTES_MAX: usize = 64 << 10;

/// hyper's read and write buffers grow up to this.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// What a stream is asked for with; clones share its body.
#[derive(Clone)]
pub(super) struct Prompt {
    pub(super) kind: PromptKind,
    pub(super) body: Bytes,
}

#[derive(Clone, Copy)]
pub(super) enum PromptKind {
    Chat,
    Generate,
}

/// Opens and keeps connections to one server.
pub(super) struct Client {
    address: Address,
    connect_timeout: Duration,
    chat: Uri,
    generate: Uri,
    host: HeaderValue,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    link: Link,
    /// The end of the last answer, if it was not read yet.
    rest: Option<Incoming>,
    since: Instant,
}

impl Client {
    pub(super) fn new(address: Address, connect_timeout: Duration) -> Self {
        let (chat, generate) = (address.chat_uri(), address.generate_uri());
        let host = address.host_header();
        Self { address, connect_timeout, chat, generate, host, idle: Mutex::new(Vec::new()) }
    }

    /// Takes the most recently used idle connection that still lives.
    pub(super) async fn take_idle(&self) -> Option<Link> {
        let deadline = Instant::now() + DRAIN_GRACE;
        loop {
            let mut idle = self.idle.lock().pop()?;
            if idle.since.elapsed() < IDLE_AGE_MAX
                && let Ok(true) = timeout_at(deadline, idle.become_ready()).await
            {
                return Some(idle.link);
            }
        }
    }

    /// # Errors
    ///
    /// [`UpstreamError::Connect`]: nothing was sent, so another server may be asked.
    pub(super) async fn connect(&self) -> Result<Link, UpstreamError> {
        let (host, port) = self.address.host_and_port();
        let opening = async {
            let socket = TcpStream::connect((host, port)).await?;
            socket.set_nodelay(true)?;
            Ok::<_, std::io::Error>(socket)
        };
        let socket = timeout(self.connect_timeout, opening)
            .await
            .map_err(|_| UpstreamError::Connect(format!("no connection within {:?}", self.connect_timeout)))?
            .map_err(|error| UpstreamError::Connect(error.to_string()))?;
        let (sender, http) = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES_MAX)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(|error| UpstreamError::Connect(error.to_string()))?;
        Ok(Link { http: Some(http), sender, is_reused: false })
    }

    /// The request with this body. No header of a caller is in it; if the turn is traced, where.
    pub(super) fn request(&self, Prompt { kind, body }: Prompt) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = match kind {
            PromptKind::Chat => self.chat.clone(),
            PromptKind::Generate => self.generate.clone(),
        };
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/x-ndjson"));
        headers.insert(USER_AGENT, HeaderValue::from_static(super::USER_AGENT));
        tell_upstream(headers);
        request
    }

    /// Keeps the connection of an answer that is complete but for what follows its last line.
    pub(super) fn give_back(&self, exchange: Exchange) {
        let Exchange { mut link, answer } = exchange;
        let Answer::Body(rest) = answer else { return };
        link.is_reused = true;
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(Idle { link, rest, since: Instant::now() });
        }
    }
}

impl Idle {
    /// Reads the rest of the last answer and waits until hyper takes another request. `false`: throw it away.
    async fn become_ready(&mut self) -> bool {
        let mut drained = 0;
        poll_fn(|cx| {
            loop {
                self.link.poll_drive(cx);
                let Some(rest) = &mut self.rest else { break };
                match poll_data(rest) {
                    Poll::Ready(Some(Ok(data))) if drained + data.len() <= DRAIN_BYTES_MAX => {
                        drained += data.len()
                    }
                    Poll::Ready(Some(_)) => return Poll::Ready(false),
                    Poll::Ready(None) => self.rest = None,
                    Poll::Pending => return Poll::Pending,
                }
            }
            self.link.sender.poll_ready(cx).map(|ready| ready.is_ok() && self.link.http.is_some())
        })
        .await
    }
}

/// One open connection.
pub(super) struct Link {
    /// `None` after it ended; what it brought before can still be read.
    http: Option<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>,
    sender: http1::SendRequest<Full<Bytes>>,
    is_reused: bool,
}

impl Link {
    /// Hands the request to the connection; driving the exchange writes it.
    pub(super) fn send(mut self, request: Request<Full<Bytes>>) -> Exchange {
        let head = Box::pin(self.sender.send_request(request));
        Exchange { link: self, answer: Answer::Head(head) }
    }

    /// Moves bytes both ways as far as the socket goes now. Its errors reach the head or the body that waits for them.
    fn poll_drive(&mut self, cx: &mut Context<'_>) {
        if let Some(http) = &mut self.http
            && Pin::new(http).poll(cx).is_ready()
        {
            self.http = None;
        }
    }
}

/// A request under way and its answer.
pub(super) struct Exchange {
    link: Link,
    answer: Answer,
}

enum Answer {
    Head(BoxFuture<'static, hyper::Result<Response<Incoming>>>),
    /// `None` after its end.
    Body(Option<Incoming>),
}

impl Exchange {
    /// Whether the connection had served before, so that the server may have closed it as the request was sent.
    pub(super) fn is_on_reused_connection(&self) -> bool {
        self.link.is_reused
    }

    /// Writes as much of the request as the socket takes now.
    pub(super) async fn begin(&mut self) {
        poll_fn(|cx| {
            self.link.poll_drive(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// The answer's status and headers. Not to be polled after it was ready.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<http::response::Parts>> {
        self.link.poll_drive(cx);
        let Answer::Head(head) = &mut self.answer else { return Poll::Pending };
        head.as_mut().poll(cx).map_ok(|response| {
            let (parts, body) = response.into_parts();
            self.answer = Answer::Body(Some(body));
            parts
        })
    }

    /// The next bytes of the body; `None` at its end.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Bytes>>> {
        let Answer::Body(body) = &mut self.answer else { return Poll::Pending };
        let Some(incoming) = body else { return Poll::Ready(None) };
        self.link.poll_drive(cx);
        let chunk = poll_data(incoming);
        if let Poll::Ready(None) = chunk {
            *body = None;
        }
        chunk
    }
}

/// The next data of a body whose connection was just driven.
///
/// The body moves only when its connection is driven, which is always done first and with the caller's waker. So the
/// body itself needs none, which saves a wake of our own task for each chunk.
fn poll_data(body: &mut Incoming) -> Poll<Option<hyper::Result<Bytes>>> {
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match Pin::new(&mut *body).poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => {
                // Trailers say nothing to us.
                if let Ok(data) = frame.into_data() {
                    return Poll::Ready(Some(Ok(data)));
                }
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        }
    }
}
