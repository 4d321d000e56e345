//! A client that is one connection per request and keeps what it was sent.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{PATIENCE, canaries};

/// Where the client says that it calls from; the harness stands where a trusted proxy stands.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// An address in a network that nobody called from lately: what one network may do is no subject of most tests.
fn elsewhere() -> IpAddr {
    static CALLS: AtomicU16 = AtomicU16::new(0);
    let [high, low] = CALLS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(10, high, low, 1).into()
}

/// A request before it is sent.
#[must_use = "a request does nothing until it is sent"]
pub(crate) struct Call {
    addr: SocketAddr,
    request: http::request::Builder,
    body: Bytes,
    socket: Ipv4Addr,
    patience: Duration,
}

impl Call {
    pub(crate) fn new(addr: SocketAddr, method: &str, path: &str) -> Self {
        let request = Request::builder().method(method).uri(path).header("host", addr.to_string());
        let (body, socket) = (Bytes::new(), Ipv4Addr::UNSPECIFIED);
        Self { addr, request, body, socket, patience: PATIENCE }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    /// Calls from this address instead of one [`elsewhere`].
    pub(crate) fn from(self, address: impl Into<IpAddr>) -> Self {
        self.header(FORWARDED_FOR, &address.into().to_string())
    }

    /// Connects from this address of the machine itself: what a proxy in between sees, whatever headers say.
    pub(crate) fn over(mut self, socket: Ipv4Addr) -> Self {
        self.socket = socket;
        self
    }

    /// Waits so long for the reply's head, where that takes its time.
    pub(crate) fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn json(self, value: &Value) -> Self {
        self.body("application/json", value.to_string())
    }

    pub(crate) fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header("content-type", content_type)
    }

    /// Sends the request and reads the whole reply.
    pub(crate) async fn send(self) -> Reply {
        self.open().await.whole().await
    }

    /// Sends the request and reads the reply's head; dropping the result hangs up.
    pub(crate) async fn open(self) -> Opened {
        let is_somewhere = self.request.headers_ref().is_some_and(|set| set.contains_key(FORWARDED_FOR));
        let Self { addr, request, body, socket, patience } =
            if is_somewhere { self } else { self.from(elsewhere()) };
        let request = request.body(Full::new(body)).unwrap();
        let what = format!("{} {}", request.method(), request.uri());
        let opening = async {
            let stream = connect(socket, addr).await;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            let mut connections = JoinSet::new();
            connections.spawn(async move {
                // How it ends is what the request sees.
                let _ = connection.await;
            });
            let reply = sender.send_request(request).await;
            let (head, body) =
                reply.unwrap_or_else(|error| panic!("no reply to {what}: {error}")).into_parts();
            let (status, headers) = (head.status.as_u16(), head.headers);
            Opened {
                what: what.clone(),
                status,
                headers,
                raw: Vec::new(),
                read: 0,
                body,
                _connection: connections,
            }
        };
        timeout(patience, opening).await.unwrap_or_else(|_| panic!("no reply to {what} in time"))
    }
}

/// A connection from one address of this machine to another.
pub(crate) async fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let stream = socket.connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A whole reply.
#[derive(Clone)]
pub(crate) struct Reply {
    what: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn new(what: String, status: u16, headers: HeaderMap, body: Bytes) -> Self {
        if status >= 400 {
            let words = String::from_utf8_lossy(&body);
            canaries::assert_none(format_args!("{what} -> {status}"), &format!("{headers:?} {words}"));
        }
        Self { what, status, headers, body }
    }

    pub(crate) fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Asserts a refusal in our own words, in the shape of the path's dialect: the status, the code, and a request id that the
    /// header has too, as far as that shape has them.
    pub(crate) fn expect_error(self, status: u16, code: &str) -> Self {
        let reply = self.expect_status(status);
        let (body, id) = (reply.json(), reply.header("x-request-id").expect("a request id"));
        let error = &body["error"];
        let path = reply.what.split(' ').nth(1).unwrap_or_default();
        let message = if path.starts_with("/api/") || path.starts_with("/k/") {
            error
        } else if path.starts_with("/v1/messages") {
            assert_eq!((&body["type"], &body["request_id"]), (&"error".into(), &id.into()), "{reply:?}");
            &error["message"]
        } else {
            assert_eq!((&error["code"], &error["request_id"]), (&code.into(), &id.into()), "{reply:?}");
            &error["message"]
        };
        assert!(message.as_str().is_some_and(|message| !message.is_empty()), "{reply:?}");
        assert!(error.is_string() || error["type"].is_string(), "{reply:?}");
        reply
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, status, headers, body } = self;
        write!(f, "{what} -> {status} {headers:#?}\n{}", String::from_utf8_lossy(body))
    }
}

/// One server-sent event.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) event: String,
    pub(crate) id: String,
    pub(crate) data: Value,
    /// When its last byte was read.
    pub(crate) at: Instant,
}

/// A reply whose body is still coming.
pub(crate) struct Opened {
    what: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// All of the body so far.
    pub(crate) raw: Vec<u8>,
    /// How much of `raw` was given out as frames.
    read: usize,
    body: Incoming,
    _connection: JoinSet<()>,
}

impl Opened {
    pub(crate) fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.what);
        self
    }

    /// The next event; comments are skipped. `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            while let Some(length) = self.raw[self.read..].windows(2).position(|two| two == b"\n\n") {
                let text = String::from_utf8(self.raw[self.read..self.read + length].to_vec()).unwrap();
                self.read += length + 2;
                if !text.starts_with(':') {
                    return Some(frame(&text));
                }
            }
            if !self.more().await {
                let rest = &self.raw[self.read..];
                assert!(rest.is_empty(), "ends within a frame: {:?}", String::from_utf8_lossy(rest));
                return None;
            }
        }
    }

    /// All events to the end.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }

    /// Reads on until the body has `text` so many times.
    pub(crate) async fn until(&mut self, times: usize, text: &str) {
        while String::from_utf8_lossy(&self.raw).matches(text).count() < times {
            assert!(self.more().await, "not {times} times {text:?} in the reply to {}", self.what);
        }
    }

    /// Reads the body to its end.
    pub(crate) async fn whole(mut self) -> Reply {
        while self.more().await {}
        Reply::new(self.what, self.status, self.headers, self.raw.into())
    }

    /// Reads all that comes of the body; `false` if it breaks off.
    pub(crate) async fn is_whole(&mut self) -> bool {
        loop {
            match self.read_on().await {
                Ok(true) => {}
                Ok(false) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Reads on; `false` at the end.
    async fn more(&mut self) -> bool {
        let next = self.read_on().await;
        next.unwrap_or_else(|error| panic!("the reply to {} broke off: {error}", self.what))
    }

    async fn read_on(&mut self) -> hyper::Result<bool> {
        let next = timeout(PATIENCE, self.body.frame()).await;
        let piece = match next.unwrap_or_else(|_| panic!("the reply to {} stopped coming", self.what)) {
            None => return Ok(false),
            Some(piece) => piece?,
        };
        self.raw.extend_from_slice(&piece.into_data().unwrap_or_default());
        Ok(true)
    }
}

fn frame(text: &str) -> Frame {
    let mut frame = Frame { event: String::new(), id: String::new(), data: Value::Null, at: Instant::now() };
    for line in text.split('\n') {
        match line.split_once(": ").unwrap_or_else(|| panic!("not a field: {line:?}")) {
            ("event", event) => frame.event = event.to_owned(),
            ("id", id) => frame.id = id.to_owned(),
            ("data", data) => frame.data = serde_json::from_str(data).unwrap(),
            other => panic!("unknown field {other:?}"),
        }
    }
    if frame.event == "error" {
        canaries::assert_none("an error event", text);
    }
    frame
}

/// Headers from text, for replies that were read by hand.
pub(super) fn headers(lines: &[&str]) -> HeaderMap {
    let pair = |line: &&str| {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("not a header: {line:?}"));
        let name: HeaderName = name.parse().unwrap();
        (name, HeaderValue::from_str(value.trim()).unwrap())
    };
    lines.iter().map(pair).collect()
}
