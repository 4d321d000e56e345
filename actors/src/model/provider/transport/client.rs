//! Connections of the hot path: HTTP/1.1 that is driven by whoever waits for the answer.
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
//! Dropping an [`Exchange`] closes its socket at once; that is how a model server learns that nobody waits any more.

use std::{future::poll_fn, task::Poll, time::Duration};

use bytes::Bytes;
use domain::chat::ChatRequest;
use http::{
    HeaderMap, Request, Uri,
    header::{CONTENT_TYPE, HOST, HeaderValue, USER_AGENT},
};
use http_body_util::Full;
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Address,
    link::{Exchange, Link, poll_data},
    socket::Security,
};
use crate::{
    model::provider::{ProviderConfigError, UpstreamError},
    trace::tell_upstream,
};

/// The most idle connections kept to one server; more than its slots would serve nobody.
const IDLE_CONNECTIONS_MAX: usize = 32;

/// An idle connection older than this is not used again: something between us and the server may have forgotten it.
const IDLE_AGE_MAX: Duration = Duration::from_secs(60);

/// How long taking an idle connection may wait for the rest of its last answer, normally five bytes that are already here.
const DRAIN_GRACE: Duration = Duration::from_millis(5);

/// The most bytes after an answer's last line that are worth reading to keep a connection.
const DRAIN_BYTES_MAX: usize = 64 << 10;

/// What a stream is asked for with; clones share its body.
#[derive(Clone)]
pub(in crate::model::provider) struct Prompt {
    /// As [`Address::target`] has it.
    pub(in crate::model::provider) target: Uri,
    pub(in crate::model::provider) body: Bytes,
}

/// The JSON that asks a server for `request`, in one buffer of nearly its size.
///
/// # Errors
///
/// [`UpstreamError::Rejected`] for what has no JSON form.
pub(in crate::model::provider) fn written(
    request: &ChatRequest,
    body: &impl Serialize,
) -> Result<Vec<u8>, UpstreamError> {
    let text: usize = request.messages.iter().map(|message| message.content.len()).sum();
    let mut out = Vec::with_capacity(text + text / 8 + 512);
    serde_json::to_writer(&mut out, body)
        .map_err(|error| UpstreamError::Rejected(format!("it has no JSON form: {error}")))?;
    Ok(out)
}

/// Opens and keeps connections to one server.
pub(in crate::model::provider) struct Client {
    address: Address,
    security: Security,
    connect_timeout: Duration,
    /// Of every request.
    headers: HeaderMap,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    link: Link,
    /// The end of the last answer, if it was not read yet.
    rest: Option<Incoming>,
    since: Instant,
}

impl Client {
    /// A client whose requests have these headers beside those that every request has.
    ///
    /// # Errors
    ///
    /// [`ProviderConfigError`] when the server cannot be spoken to as its address says.
    pub(in crate::model::provider) fn new(
        address: Address,
        connect_timeout: Duration,
        own: HeaderMap,
    ) -> Result<Self, ProviderConfigError> {
        let security = Security::of(&address)?;
        Ok(Self::with(address, security, connect_timeout, own))
    }

    pub(super) fn with(
        address: Address,
        security: Security,
        connect_timeout: Duration,
        own: HeaderMap,
    ) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, address.host_header());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(super::USER_AGENT));
        headers.extend(own);
        Self { address, security, connect_timeout, headers, idle: Mutex::new(Vec::new()) }
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
        let opening = self.security.open((self.address.host(), self.address.port()));
        let socket = timeout(self.connect_timeout, opening)
            .await
            .map_err(|_| UpstreamError::Connect(format!("no connection within {:?}", self.connect_timeout)))?
            .map_err(|error| UpstreamError::Connect(error.to_string()))?;
        Link::over(socket).await.map_err(|error| UpstreamError::Connect(error.to_string()))
    }

    /// The request with this body. No header of a caller is in it; if the turn is traced, where.
    pub(super) fn request(&self, Prompt { target, body }: Prompt) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = target;
        *request.headers_mut() = self.headers.clone();
        tell_upstream(request.headers_mut());
        request
    }

    /// Keeps the connection of an answer that is complete but for what follows its last words.
    pub(super) fn give_back(&self, exchange: Exchange) {
        let Some((link, rest)) = exchange.into_parts() else { return };
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
            self.link.poll_ready(cx)
        })
        .await
    }
}
