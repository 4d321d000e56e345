//! What a request leaves behind for those who run the service: the first span of its trace, and one line of the log.
//!
//! The line (target `access`) is written when the reply is over. At `info` stand requests that did something, a turn or a
//! change, and those that we or the model server failed; at `debug` reads, and what callers were refused, which they could
//! otherwise fill a disk with. What monitors ask every few seconds leaves neither a line nor a trace.

use std::{net::IpAddr, sync::Arc, time::Instant};

use actors::trace::{Carrier, Errand, Span, TurnEnd, names};
use domain::kind::Kind;
use http::{HeaderMap, Method, StatusCode};
use tracing::Level;

use super::{connection::Peer, request_id::RequestId, trace_parent};

/// The target of these lines: `RUST_LOG=info,access=debug` shows every request, `access=off` none.
const TARGET: &str = "access";

/// One request's account; it closes when this is dropped.
pub(crate) struct Report {
    errand: Arc<Errand>,
    carrier: Carrier,
    root: Span,
    began: Instant,
    method: &'static str,
    route: &'static str,
    is_quiet: bool,
    status: Option<StatusCode>,
    failure: Option<Kind>,
    /// Whether the reply was written to its end.
    is_over: bool,
}

/// What is known of a request from its head.
pub(super) struct Opening<'a> {
    pub(super) request_id: &'a RequestId,
    pub(super) client: IpAddr,
    pub(super) peer: Peer,
    pub(super) method: &'a Method,
    pub(super) headers: &'a HeaderMap,
    /// As it is written in the route table.
    pub(super) route: &'static str,
    /// Whether monitors ask for it all the time.
    pub(super) is_quiet: bool,
}

impl Report {
    pub(super) fn open(opening: &Opening<'_>) -> Self {
        let Opening { request_id, client, peer, method, headers, route, is_quiet } = *opening;
        let method = known(method);
        let errand = Errand::new(request_id.as_str(), client);
        let root = if is_quiet || !actors::trace::is_recorded() {
            Span::default()
        } else {
            Span::root(trace_parent::parent(headers, peer.is_trusted), || span_name(method, route))
        };
        if root.is_recorded() {
            root.tell(names::REQUEST_ID, request_id.as_str().to_owned());
            root.tell(names::CLIENT_ADDRESS, client.to_string());
            root.tell(names::HTTP_METHOD, method);
            root.tell(names::HTTP_ROUTE, route);
        }
        Self {
            carrier: Carrier::new(Arc::clone(&errand), &root),
            errand,
            root,
            began: Instant::now(),
            method,
            route,
            is_quiet,
            status: None,
            failure: None,
            is_over: false,
        }
    }

    /// What the request's task works for.
    pub(super) fn carrier(&self) -> Carrier {
        self.carrier.clone()
    }

    pub(super) fn answered(&mut self, status: StatusCode, failure: Option<Kind>) {
        self.status = Some(status);
        self.failure = failure;
        // Nobody asks for the body of a reply that is all head.
        self.is_over = self.method == "HEAD";
    }

    /// The last byte was given to the connection.
    pub(super) const fn over(&mut self) {
        self.is_over = true;
    }

    /// What went wrong, by the turn's word if there was one.
    fn fault(&self) -> Option<&'static str> {
        let of_turn = self.errand.turn().and_then(|turn| turn.failure).map(|code| code.as_str());
        let left = (self.status.is_none() || !self.is_over).then_some(Kind::Cancelled);
        of_turn.or_else(|| self.failure.or(left).map(Kind::as_str))
    }

    /// Whether the line is worth reading where nobody looks for this request.
    fn is_telling(&self) -> bool {
        let is_change = !matches!(self.method, "GET" | "HEAD" | "OPTIONS");
        match self.status.map(|status| status.as_u16()) {
            // Somebody unknown who hangs up has paid for nothing yet.
            None => is_change && self.errand.user().is_some(),
            Some(500 | 502) => true,
            Some(400..) => false,
            Some(_) => is_change,
        }
    }

    fn tell(&self, fault: Option<&'static str>) {
        /// The one line, at a level that the log's filter must know in advance.
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    target: TARGET,
                    $level,
                    event = "request",
                    outcome = if fault.is_none() { "success" } else { "failure" },
                    kind = fault,
                    method = self.method,
                    route = self.route,
                    status = self.status.map(|status| status.as_u16()),
                    duration_ms = self.began.elapsed().as_millis() as u64,
                    model = self.errand.turn().map(|turn| &*turn.model),
                    queued_ms = self.errand.turn().map(|turn| turn.timings.queued.as_millis() as u64),
                    first_token_ms = self.errand.turn().and_then(first_token_ms),
                    prompt_tokens = self.errand.turn().map(|turn| turn.usage.prompt_tokens),
                    completion_tokens = self.errand.turn().map(|turn| turn.usage.completion_tokens),
                    "request"
                )
            };
        }
        if self.is_telling() { line!(Level::INFO) } else { line!(Level::DEBUG) }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if self.is_quiet {
            return;
        }
        let fault = self.fault();
        {
            let _entered = self.carrier.enter();
            self.tell(fault);
        }
        if self.root.is_recorded() {
            if let Some(user) = self.errand.user() {
                self.root.tell(names::USER_ID, user.to_string());
            }
            if let Some(status) = self.status {
                self.root.tell(names::HTTP_STATUS, i64::from(status.as_u16()));
            }
            if let Some(fault) = fault {
                self.root.fail(fault);
            }
        }
    }
}

fn first_token_ms(turn: &TurnEnd) -> Option<u64> {
    turn.timings.first_token.map(|first| first.as_millis() as u64)
}

/// A method by a word of a closed list.
fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}

/// `http.chat.stream.post` for `POST /v1/chat/stream`: the route without its version and its variable parts.
fn span_name(method: &str, route: &str) -> String {
    let mut name = String::from("http");
    let is_fixed = |part: &&str| !part.is_empty() && *part != "v1" && !part.starts_with('{');
    for part in route.split('/').filter(is_fixed) {
        name.push('.');
        name.push_str(part.trim_start_matches('.'));
    }
    name.push('.');
    name.push_str(method.trim_start_matches('_').to_ascii_lowercase().as_str());
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::metrics::NO_ROUTE;

    #[test]
    fn a_root_span_is_named_by_layer_thing_and_verb() {
        for (method, route, name) in [
            ("POST", "/v1/chat", "http.chat.post"),
            ("POST", "/v1/chat/stream", "http.chat.stream.post"),
            ("GET", "/v1/models/{*id}", "http.models.get"),
            ("DELETE", "/v1/admin/users/{id}/sessions", "http.admin.users.sessions.delete"),
            ("GET", "/.well-known/jwks.json", "http.well-known.jwks.json.get"),
            ("_OTHER", NO_ROUTE, "http.none.other"),
        ] {
            assert_eq!(span_name(method, route), name);
        }
    }

    #[test]
    fn a_method_that_somebody_made_up_is_not_repeated() {
        assert_eq!(known(&Method::POST), "POST");
        assert_eq!(known(&Method::from_bytes(b"MADE-UP").unwrap()), "_OTHER");
    }
}
