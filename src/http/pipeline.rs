//! The way of every request, from its head to its reply.
//!
//! ```text
//! deadline ─▶ in-flight cap ─▶ head ─▶ address bucket ─▶ (preflight) ─▶ credentials ─▶ principal's buckets ─▶ route
//! ```
//!
//! A turn asks its principal's buckets in its route, once its body is read.
//!
//! Each step may refuse. Whatever happens, a panic included, there is one reply with the headers every reply has, and
//! the request's place is given back when its body ends.

use std::{convert::Infallible, future::ready, panic::AssertUnwindSafe, sync::Arc};

use actors::{rate_limit::Decision, trace};
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{Method, Request, header::ORIGIN, request::Parts};
use hyper::body::Incoming;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    admission::{Admitted, Visit},
    body::{Inbound, Intake},
    call::{Call, patience},
    client_ip::client_ip,
    config::HttpConfig,
    connection::Link,
    cors,
    doors::Doors,
    error::{ApiError, Wire},
    front::Front,
    headers,
    limit_headers::{Dialect, tell_limits},
    metrics::HttpMetrics,
    path_key::PathKey,
    reply::Reply,
    report::{Opening, Report},
    request_id::RequestId,
    route::{Found, Limit, Patience, RouteTable},
    spending::Told,
};

pub(crate) struct Pipeline<S> {
    pub(super) doors: Arc<S>,
    table: RouteTable<S>,
    front: Arc<Front>,
    pub(super) hosts: Hosts,
    in_flight: Arc<Semaphore>,
    intake: Arc<Intake>,
    metrics: Arc<HttpMetrics>,
}

/// Which names a listener answers to (DNS rebinding: a page may resolve its own name to 127.0.0.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hosts {
    Any,
    /// Loopback names, unless a trusted proxy passes on the name its client used.
    LoopbackOrProxied,
    Loopback,
}

/// Marks a reply as a failure of this kind, for the metrics.
#[derive(Clone, Copy)]
struct Failure(domain::kind::Kind);

impl<S: Doors> Pipeline<S> {
    pub(crate) fn new(
        doors: Arc<S>,
        table: RouteTable<S>,
        front: Arc<Front>,
        hosts: Hosts,
        metrics: Arc<HttpMetrics>,
    ) -> Arc<Self> {
        let config = front.terms().config.clone();
        Arc::new(Self {
            doors,
            table,
            hosts,
            in_flight: Arc::new(Semaphore::new(config.max_in_flight)),
            intake: Intake::new(&config),
            front,
            metrics,
        })
    }

    pub(crate) fn front(&self) -> &Front {
        &self.front
    }

    pub(crate) fn metrics(&self) -> &HttpMetrics {
        &self.metrics
    }

    /// Boxed, so that a connection between two requests does not carry a request's state (speed guide §4).
    pub(crate) fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        link: Arc<Link>,
    ) -> BoxFuture<'static, Result<Reply, Infallible>> {
        Box::pin(async move { Ok(self.serve(request, &link).await) })
    }

    async fn serve(&self, mut request: Request<Incoming>, link: &Link) -> Reply {
        let serving = link.input.serve();
        let request_id = RequestId::choose(request.headers(), link.peer.is_trusted);
        // What a request meets on its way is of one piece, whatever changes meanwhile.
        let terms = self.front.terms();
        let path_key = terms.config.key_in_path.then(|| PathKey::take_off(request.uri_mut())).flatten();
        let found = self.table.find(request.method(), request.uri().path());
        let client = client_ip(link.peer.ip, request.headers(), |hop| terms.config.trusts(hop));
        let mut report = Report::open(&Opening {
            request_id: &request_id,
            client,
            peer: link.peer,
            method: request.method(),
            headers: request.headers(),
            route: found.label(),
            is_quiet: found.is_for_monitors(),
        });
        let mut flight = self.metrics.take_off(found.label());
        let is_reserved = matches!(&found, Found::Route { route, .. } if route.limit == Limit::Reserved);
        let place = Arc::clone(&self.in_flight).try_acquire_owned().ok();
        let has_place = is_reserved || place.is_some();
        if let Some(place) = place.filter(|_| !is_reserved) {
            flight.hold(place);
        }

        let request =
            request.map(|body| Inbound::new(body, Arc::clone(&link.input), Arc::clone(&self.intake)));
        let visit =
            Visit { found, path_key, link, client, request_id: &request_id, has_place, terms: &terms };
        let answering = async {
            match &terms.cors {
                // A preflight is answered further on, where it has been let in like any other request.
                Some(layer)
                    if request.headers().contains_key(ORIGIN) && request.method() != Method::OPTIONS =>
                {
                    cors::apply(layer, request, |request| self.answer(request, visit)).await
                }
                _ => self.answer(request, visit).await,
            }
        };
        let mut reply = report.carrier().around(answering).await;
        headers::dress(reply.headers_mut(), &request_id);
        let failure = reply.extensions().get::<Failure>().map(|failure| failure.0);
        flight.answered(reply.status(), failure);
        report.answered(reply.status(), failure);
        reply.body_mut().carry(flight, serving, report);
        reply
    }

    async fn answer(&self, request: Request<Inbound>, visit: Visit<'_, S>) -> Reply {
        let (request_id, link, route) = (visit.request_id, visit.link, visit.found.label());
        let wire = Wire::of(request.uri().path());
        let is_turn = matches!(&visit.found, Found::Route { route, .. } if route.limit == Limit::Turn);
        let began = Instant::now();
        let mut decision = None;
        let outcome = AssertUnwindSafe(self.walk(request, visit, &mut decision)).catch_unwind().await;
        let outcome = outcome.unwrap_or_else(|_| {
            self.metrics.panics.inc();
            Err(ApiError::internal("the route panicked"))
        });
        let mut reply = outcome.unwrap_or_else(|error| {
            log(&error, request_id, route);
            let mut reply = headers::error_reply(&error, request_id, wire);
            reply.extensions_mut().insert(Failure(error.kind()));
            reply
        });
        // A refusal says nothing about its time, which might tell why it was refused.
        let took = (is_turn && reply.status().is_success()).then(|| began.elapsed());
        headers::tell(reply.headers_mut(), wire, request_id, took);
        // A bucket that still has room did not refuse: its figures would belie the wait that another one asks for.
        let is_belied = reply.status() == http::StatusCode::TOO_MANY_REQUESTS;
        if let Some(decision) = decision.filter(|decision| !(is_belied && decision.verdict.allowed)) {
            let dialect = if route.starts_with("/v1/") { Dialect::OpenAi } else { Dialect::Plain };
            tell_limits(reply.headers_mut(), &decision, dialect);
        }
        // The rest of an open body is discarded by the socket after this reply, within bounds.
        if link.input.is_body_open() || link.closing.is_cancelled() {
            headers::close(reply.headers_mut());
        }
        reply
    }

    async fn walk(
        &self,
        request: Request<Inbound>,
        visit: Visit<'_, S>,
        decision: &mut Option<Decision>,
    ) -> Result<Reply, ApiError> {
        let (head, mut body) = request.into_parts();
        let (request_id, ending, terms) = (visit.request_id.clone(), &visit.link.ending, visit.terms);
        let admitted = match deadline(&head, &visit.found, &terms.config) {
            Ok(deadline) => within(deadline, ending, self.admit(&head, visit, deadline, decision)).await,
            Err(refusal) => Err(refusal),
        };
        let pass = match (admitted, &terms.cors) {
            (Ok(Admitted::Pass(pass)), _) => pass,
            (Ok(Admitted::Preflight), Some(layer)) => {
                let request = Request::from_parts(head, body);
                return Ok(cors::apply(layer, request, |_| ready(Reply::default())).await);
            }
            (Ok(Admitted::Preflight), None) => return Err(ApiError::no_route()),
            (Err(refusal), _) => {
                body.discard_if_small(&head.headers).await;
                return Err(refusal);
            }
        };
        if let Some(principal) = &pass.principal {
            trace::with_current(|errand, _| errand.is_for(principal.user));
        }
        let told = (pass.route.limit == Limit::Turn).then(Told::default);
        let call = Call {
            head,
            body,
            principal: pass.principal,
            is_by_cookie: pass.is_by_cookie,
            request_id,
            client: pass.client,
            peer: pass.peer,
            deadline: pass.deadline,
            param: pass.param,
            ending: ending.clone(),
            config: Arc::clone(&terms.config),
            told: told.clone(),
        };
        let work = (pass.route.handler)(Arc::clone(&self.doors), call);
        let outcome = within(pass.deadline, ending, work).await;
        if let Some(said) = told.and_then(|told| told.take()) {
            *decision = Some(said);
        }
        outcome
    }
}

fn deadline<S>(head: &Parts, found: &Found<'_, S>, config: &HttpConfig) -> Result<Instant, ApiError> {
    let arrived = Instant::now();
    let customary = match found {
        Found::Route { route, .. } => match route.patience {
            Patience::Chat | Patience::Following => config.chat_deadline,
            Patience::Short => config.deadline,
        },
        _ => config.deadline,
    };
    Ok(arrived + patience(&head.headers, customary)?)
}

/// Does `work` unless its time or the service ends first.
async fn within<T>(
    deadline: Instant,
    ending: &CancellationToken,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    tokio::select! {
        biased;
        done = timeout_at(deadline, work) => done.unwrap_or_else(|_| Err(ApiError::deadline())),
        () = ending.cancelled() => Err(ApiError::shutting_down()),
    }
}

/// Here a failure stops travelling, so here it is logged, once. What callers do wrong is counted, not logged.
fn log(error: &ApiError, request_id: &RequestId, route: &str) {
    let status = error.status();
    let cause = error.cause().unwrap_or_default();
    if status == http::StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(%request_id, route, cause, "request failed");
    } else if status.is_server_error() {
        tracing::debug!(%request_id, route, status = status.as_u16(), cause, "request refused");
    }
}
