//! The CLI's own HTTP client: one connection per request, to an address of this machine.
//!
//! ```text
//! send ──▶ Reply (whole, bounded)
//! open ──▶ Stream ──▶ next() … (piece by piece)
//! ```
//!
//! The connection is polled by whoever waits for it, so nothing runs beside the caller and dropping the call closes
//! the socket.
//!
//! # When it breaks
//!
//! Connecting, the head and every piece each have the client's deadline; a service that is frozen costs one deadline,
//! then an error that says so.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    task::Context,
    time::Duration,
};

use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// The longest reply that is kept whole.
const REPLY_MAX_BYTES: usize = 8 << 20;

/// Speaks to one address.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    deadline: Duration,
    token: Option<String>,
}

/// A whole reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Reply {
    /// The body as JSON, if the status says success.
    pub(crate) fn json(&self) -> anyhow::Result<serde_json::Value> {
        if !self.status.is_success() {
            bail!("the service answered {}: {}", self.status, self.text());
        }
        serde_json::from_slice(&self.body).context("the service did not answer with JSON")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_owned()
    }
}

impl Client {
    /// `deadline` bounds each wait, not the whole call.
    pub(crate) const fn new(address: SocketAddr, deadline: Duration) -> Self {
        Self { address, deadline, token: None }
    }

    /// The same client, asking as the holder of `token`.
    #[must_use]
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Reply> {
        self.open(Method::GET, path, None).await?.into_reply().await
    }

    pub(crate) async fn post(&self, path: &str, body: &serde_json::Value) -> anyhow::Result<Reply> {
        self.open(Method::POST, path, Some(body)).await?.into_reply().await
    }

    /// Sends the request and waits for the head of its reply.
    ///
    /// # Errors
    ///
    /// Nobody listens, the deadline passed, or what answered does not speak HTTP.
    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> anyhow::Result<Stream> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::CONNECTION, "close");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(serde_json::to_vec(body)?)
            }
            None => Bytes::new(),
        };
        let request = request.body(Full::new(bytes))?;
        timeout(self.deadline, self.exchange(request))
            .await
            .with_context(|| format!("{} did not answer within {:?}", self.address, self.deadline))?
            .with_context(|| format!("cannot talk to {}", self.address))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Stream> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        let mut line = Line(Some(Box::pin(connection)));
        let response = line.drive(sender.send_request(request)).await?;
        Ok(Stream { line, response, deadline: self.deadline })
    }
}

type Connection = http1::Connection<TokioIo<TcpStream>, Full<Bytes>>;

/// A connection that moves while somebody waits on it; empty once it is over.
struct Line(Option<Pin<Box<Connection>>>);

impl Line {
    fn poll(&mut self, cx: &mut Context<'_>) {
        // How a connection ended is told by the reply that did or did not arrive over it.
        if let Some(connection) = &mut self.0
            && connection.as_mut().poll(cx).is_ready()
        {
            self.0 = None;
        }
    }

    async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.poll(cx);
            future.as_mut().poll(cx)
        })
        .await
    }
}

/// A reply being received.
pub(crate) struct Stream {
    line: Line,
    response: Response<Incoming>,
    deadline: Duration,
}

impl Stream {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    ///
    /// The body was cut, or nothing came within the deadline.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            let frame = timeout(self.deadline, self.line.drive(self.response.body_mut().frame()))
                .await
                .with_context(|| format!("silent for {:?}", self.deadline))?;
            match frame.transpose().context("the reply was cut")? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Reads the body to its end.
    pub(crate) async fn into_reply(mut self) -> anyhow::Result<Reply> {
        let status = self.status();
        let mut body = BytesMut::new();
        while let Some(piece) = self.next().await? {
            if body.len() + piece.len() > REPLY_MAX_BYTES {
                bail!("the reply is longer than {REPLY_MAX_BYTES} bytes");
            }
            body.extend_from_slice(&piece);
        }
        Ok(Reply { status, body: body.freeze() })
    }
}

/// Reads server-sent events out of a reply.
pub(crate) struct Events {
    stream: Stream,
    buffer: BytesMut,
}

/// One server-sent event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SentEvent {
    pub(crate) event: String,
    pub(crate) data: String,
}

impl Events {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// The next event; `None` at the end of the stream. Comments are skipped.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<SentEvent>> {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block = self.buffer.split_to(end + 2);
                if let Some(event) = parse_event(&String::from_utf8_lossy(&block)) {
                    return Ok(Some(event));
                }
            }
            if self.buffer.len() > REPLY_MAX_BYTES {
                bail!("an event is longer than {REPLY_MAX_BYTES} bytes");
            }
            match self.stream.next().await? {
                Some(piece) => self.buffer.extend_from_slice(&piece),
                None => return Ok(None),
            }
        }
    }
}

/// The event in one block of lines; `None` when there is only a comment in it.
fn parse_event(block: &str) -> Option<SentEvent> {
    let (mut event, mut data) = (String::from("message"), None::<String>);
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut event),
            "data" => {
                let data = data.get_or_insert_default();
                if !data.is_empty() {
                    data.push('\n');
                }
                data.push_str(value);
            }
            _ => {}
        }
    }
    data.map(|data| SentEvent { event, data })
}

#[cfg(test)]
mod tests;
