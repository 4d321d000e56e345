//! The way of every request, from its head to its reply.
//!
//! ```text
//! deadline ─▶ in-flight cap ─▶ head ─▶ address bucket ─▶ (preflight) ─▶ credentials ─▶ principal's buckets ─▶ route
//! ```
//!
//! Each step may refuse. Whatever happens, a panic included, there is one reply with the headers every reply has, and
//! the request's place is given back when its body ends.

use std::{convert::Infallible, future::ready, net::IpAddr, panic::AssertUnwindSafe, sync::Arc};

use actors::{
    auth::AuthError,
    rate_limit::{Decision, LimitError},
};
use domain::principal::{Access, Principal, Role};
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{Method, Request, header::ORIGIN, request::Parts};
use hyper::body::Incoming;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tower_http::cors::CorsLayer;

use super::{
    body::{Inbound, Intake},
    call::{Call, patience},
    client_ip::client_ip,
    config::HttpConfig,
    connection::{Link, Peer},
    cors, credentials,
    error::ApiError,
    framing, headers, host,
    metrics::HttpMetrics,
    reply::Reply,
    request_id::RequestId,
    route::{Found, Limit, Patience, Route, RouteTable},
};

const URI_BYTES: usize = 8 << 10;

/// What the way asks of the rooms: the tree in production, a script in tests.
pub(crate) trait Doors: Send + Sync + 'static {
    fn take_address(
        &self,
        address: IpAddr,
    ) -> impl Future<Output = Result<Option<Decision>, LimitError>> + Send;
    fn authenticate(&self, token: &str) -> impl Future<Output = Result<Principal, AuthError>> + Send;
    fn take_principal(
        &self,
        principal: &Principal,
    ) -> impl Future<Output = Result<Option<Decision>, LimitError>> + Send;
}

pub(crate) struct Pipeline<S> {
    doors: Arc<S>,
    table: RouteTable<S>,
    config: Arc<HttpConfig>,
    cors: Option<CorsLayer>,
    hosts: Hosts,
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

/// What is known about a request beside itself.
struct Visit<'p, S> {
    found: Found<'p, S>,
    link: &'p Link,
    request_id: &'p RequestId,
    has_place: bool,
}

/// What the way found out about an admitted request.
struct Pass<'p, S> {
    route: &'p Route<S>,
    param: Option<String>,
    principal: Option<Principal>,
    client: IpAddr,
    deadline: Instant,
}

enum Admitted<'p, S> {
    Pass(Pass<'p, S>),
    /// A browser asks what a page may do; the CORS layer answers.
    Preflight,
}

/// Marks a reply as a failure of this kind, for the metrics.
#[derive(Clone, Copy)]
struct Failure(domain::kind::Kind);

impl<S: Doors> Pipeline<S> {
    pub(crate) fn new(
        doors: Arc<S>,
        table: RouteTable<S>,
        config: Arc<HttpConfig>,
        hosts: Hosts,
        metrics: Arc<HttpMetrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            doors,
            table,
            cors: cors::layer(&config.allowed_origins),
            hosts,
            in_flight: Arc::new(Semaphore::new(config.max_in_flight)),
            intake: Intake::new(&config),
            config,
            metrics,
        })
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

    async fn serve(&self, request: Request<Incoming>, link: &Link) -> Reply {
        let serving = link.input.serve();
        let request_id = RequestId::choose(request.headers(), link.peer.is_trusted);
        let found = self.table.find(request.method(), request.uri().path());
        let mut flight = self.metrics.take_off(found.label());
        let is_reserved = matches!(&found, Found::Route { route, .. } if route.limit == Limit::Reserved);
        let place = Arc::clone(&self.in_flight).try_acquire_owned().ok();
        let has_place = is_reserved || place.is_some();
        if let Some(place) = place.filter(|_| !is_reserved) {
            flight.hold(place);
        }

        let request =
            request.map(|body| Inbound::new(body, Arc::clone(&link.input), Arc::clone(&self.intake)));
        let visit = Visit { found, link, request_id: &request_id, has_place };
        let mut reply = match &self.cors {
            // A preflight is answered further on, where it has been let in like any other request.
            Some(layer) if request.headers().contains_key(ORIGIN) && request.method() != Method::OPTIONS => {
                cors::apply(layer, request, |request| self.answer(request, visit)).await
            }
            _ => self.answer(request, visit).await,
        };
        headers::dress(reply.headers_mut(), &request_id);
        flight.answered(reply.status(), reply.extensions().get::<Failure>().map(|failure| failure.0));
        reply.body_mut().carry(flight, serving);
        reply
    }

    async fn answer(&self, request: Request<Inbound>, visit: Visit<'_, S>) -> Reply {
        let (request_id, link, route) = (visit.request_id, visit.link, visit.found.label());
        let mut decision = None;
        let outcome = AssertUnwindSafe(self.walk(request, visit, &mut decision)).catch_unwind().await;
        let outcome = outcome.unwrap_or_else(|_| {
            self.metrics.panics.inc();
            Err(ApiError::internal("the route panicked"))
        });
        let mut reply = outcome.unwrap_or_else(|error| {
            log(&error, request_id, route);
            let mut reply = headers::error_reply(&error, request_id);
            reply.extensions_mut().insert(Failure(error.kind()));
            reply
        });
        if let Some(decision) = decision {
            headers::tell_limits(reply.headers_mut(), &decision);
        }
        if link.input.is_body_open() {
            // The rest of the body is discarded by the socket after this reply, within bounds.
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
        let (request_id, ending) = (visit.request_id.clone(), &visit.link.ending);
        let admitted = match self.deadline(&head, &visit.found) {
            Ok(deadline) => within(deadline, ending, self.admit(&head, visit, deadline, decision)).await,
            Err(refusal) => Err(refusal),
        };
        let pass = match (admitted, &self.cors) {
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
        let call = Call {
            head,
            body,
            principal: pass.principal,
            request_id,
            client: pass.client,
            deadline: pass.deadline,
            param: pass.param,
            ending: ending.clone(),
            config: Arc::clone(&self.config),
        };
        let work = (pass.route.handler)(Arc::clone(&self.doors), call);
        within(pass.deadline, ending, work).await
    }

    fn deadline(&self, head: &Parts, found: &Found<'_, S>) -> Result<Instant, ApiError> {
        let arrived = Instant::now();
        let customary = match found {
            Found::Route { route, .. } if route.patience == Patience::Chat => self.config.chat_deadline,
            _ => self.config.deadline,
        };
        Ok(arrived + patience(&head.headers, customary)?)
    }

    async fn admit<'p>(
        &'p self,
        head: &Parts,
        visit: Visit<'p, S>,
        deadline: Instant,
        decision: &mut Option<Decision>,
    ) -> Result<Admitted<'p, S>, ApiError> {
        if !visit.has_place {
            return Err(ApiError::overloaded());
        }
        let peer = visit.link.peer;
        self.check_head(head, peer)?;
        let client = client_ip(peer.ip, &head.headers, |hop| self.config.trusts(hop));
        let is_reserved =
            matches!(&visit.found, Found::Route { route, .. } if route.limit == Limit::Reserved);
        if !is_reserved {
            spend(self.doors.take_address(client).await?, decision)?;
        }
        if self.cors.is_some() && head.method == Method::OPTIONS && head.headers.contains_key(ORIGIN) {
            return Ok(Admitted::Preflight);
        }
        let (route, param) = match visit.found {
            Found::Route { route, param } => (route, param),
            Found::OtherMethods { allow, .. } => return Err(ApiError::method(allow)),
            Found::Nothing if is_known(&head.method) => return Err(ApiError::no_route()),
            Found::Nothing => return Err(ApiError::method("GET, HEAD, POST".into())),
        };
        let principal = match route.access {
            Access::Public => None,
            Access::User | Access::Admin => {
                let token = credentials::token(&head.headers)?;
                let principal = self.doors.authenticate(token.reveal()).await?;
                if route.access == Access::Admin && principal.role != Role::Admin {
                    return Err(ApiError::forbidden());
                }
                if !is_reserved {
                    spend(self.doors.take_principal(&principal).await?, decision)?;
                }
                Some(principal)
            }
        };
        Ok(Admitted::Pass(Pass { route, param, principal, client, deadline }))
    }

    fn check_head(&self, head: &Parts, peer: Peer) -> Result<(), ApiError> {
        let host = host::only(head)?;
        let is_ours = match self.hosts {
            Hosts::Any => true,
            Hosts::LoopbackOrProxied => peer.is_trusted || host::is_loopback(host),
            Hosts::Loopback => host::is_loopback(host),
        };
        if !is_ours {
            return Err(ApiError::foreign_host());
        }
        framing::check(&head.headers)?;
        if head.uri.path_and_query().is_some_and(|text| text.as_str().len() > URI_BYTES) {
            return Err(ApiError::uri_too_long());
        }
        Ok(())
    }
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

/// Remembers what a bucket said, and refuses if it said no.
fn spend(said: Option<Decision>, decision: &mut Option<Decision>) -> Result<(), ApiError> {
    if let Some(said) = said {
        *decision = Some(said);
        if !said.verdict.allowed {
            return Err(ApiError::rate_limited(&said));
        }
    }
    Ok(())
}

fn is_known(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS]
        .contains(method)
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
