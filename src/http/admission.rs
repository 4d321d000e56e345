//! Who is let in, and for what.
//!
//! ```text
//! head ─▶ address bucket ─▶ (preflight) ─▶ credentials ─▶ the route's access ─▶ principal's buckets
//! ```
//!
//! A turn's route asks the principal's buckets itself, when it knows the model and the length.
//! Whoever is turned away at a bucket or at a route's access is told to the audit trail.

use std::net::IpAddr;

use actors::rate_limit::Decision;
use domain::{
    audit::AuditEvent,
    id::UserId,
    principal::{Access, Principal, Role, Scope},
};
use http::{Method, header::ORIGIN, request::Parts};
use tokio::time::Instant;

use super::{
    browser, call,
    connection::{Link, Peer},
    credentials,
    doors::Doors,
    error::ApiError,
    framing,
    front::Terms,
    host,
    path_key::PathKey,
    pipeline::{Hosts, Pipeline},
    request_id::RequestId,
    route::{Found, Limit, Route},
    spending,
};

const URI_BYTES: usize = 8 << 10;

/// What any path might have.
const METHODS: &str = "GET, HEAD, POST, PATCH, DELETE";

/// What is known about a request beside itself.
pub(super) struct Visit<'p, S> {
    pub(super) found: Found<'p, S>,
    /// Who is asking, if the path said so.
    pub(super) path_key: Option<PathKey>,
    pub(super) link: &'p Link,
    pub(super) client: IpAddr,
    pub(super) request_id: &'p RequestId,
    pub(super) has_place: bool,
    pub(super) terms: &'p Terms,
}

/// What the way found out about an admitted request.
pub(super) struct Pass<'p, S> {
    pub(super) route: &'p Route<S>,
    pub(super) param: Option<String>,
    pub(super) principal: Option<Principal>,
    pub(super) is_by_cookie: bool,
    pub(super) client: IpAddr,
    pub(super) peer: Peer,
    pub(super) deadline: Instant,
}

#[expect(clippy::large_enum_variant, reason = "it lives for a moment, and a box would cost every request")]
pub(super) enum Admitted<'p, S> {
    Pass(Pass<'p, S>),
    /// A browser asks what a page may do; the CORS layer answers.
    Preflight,
}

impl<S: Doors> Pipeline<S> {
    pub(super) async fn admit<'p>(
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
        let (terms, client, path_key) = (visit.terms, visit.client, visit.path_key.as_ref());
        let mut caller = Caller {
            pipeline: self,
            terms,
            head,
            path_key,
            peer,
            client,
            request_id: visit.request_id,
            decision,
        };
        let is_reserved =
            matches!(&visit.found, Found::Route { route, .. } if route.limit == Limit::Reserved);
        if !is_reserved {
            caller.pay_as_address().await?;
        }
        if terms.cors.is_some() && head.method == Method::OPTIONS && head.headers.contains_key(ORIGIN) {
            return Ok(Admitted::Preflight);
        }
        let (route, param) = match visit.found {
            Found::Route { route, param } => (route, param),
            Found::OtherMethods { allow, .. } => return Err(ApiError::method(allow)),
            Found::Nothing if is_known(&head.method) => return Err(nothing_at(head.uri.path())),
            Found::Nothing => return Err(ApiError::method(METHODS.into())),
        };
        let mut pass = Pass { route, param, principal: None, is_by_cookie: false, client, peer, deadline };
        if route.access == Access::Operator {
            caller.prove_operator().await?;
        } else if route.access != Access::Public {
            let (principal, is_by_cookie) = match caller.identify(route).await {
                // A reserved route costs nothing, but guessing one's way into it does.
                Err(refusal) if is_reserved && refusal.status().is_client_error() => {
                    caller.pay_as_address().await?;
                    return Err(refusal);
                }
                identified => identified?,
            };
            if route.limit == Limit::Request {
                caller.pay_as(&principal).await?;
            }
            (pass.principal, pass.is_by_cookie) = (Some(principal), is_by_cookie);
        }
        Ok(Admitted::Pass(pass))
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

/// Whoever sent the request, on the way in.
struct Caller<'a, S> {
    pipeline: &'a Pipeline<S>,
    terms: &'a Terms,
    head: &'a Parts,
    path_key: Option<&'a PathKey>,
    peer: Peer,
    client: IpAddr,
    request_id: &'a RequestId,
    /// What the last bucket said.
    decision: &'a mut Option<Decision>,
}

impl<S: Doors> Caller<'_, S> {
    async fn pay_as_address(&mut self) -> Result<(), ApiError> {
        let said = self.pipeline.doors.take_address(self.client).await?;
        self.spend(said, None)
    }

    async fn pay_as(&mut self, principal: &Principal) -> Result<(), ApiError> {
        let said = self.pipeline.doors.take_principal(principal).await?;
        self.spend(said, Some(principal.user))
    }

    /// Remembers what a bucket said, and refuses if it said no.
    fn spend(&mut self, said: Option<Decision>, user: Option<UserId>) -> Result<(), ApiError> {
        let Some(said) = said else { return Ok(()) };
        let said = self.decision.insert(said);
        spending::admitted(&*self.pipeline.doors, said, user, || {
            call::origin(&self.head.headers, self.client, self.request_id)
        })
    }

    /// Lets in whoever shows the operators' token, where there is one; guessing it costs what guessing a token of a principal's
    /// does.
    async fn prove_operator(&mut self) -> Result<(), ApiError> {
        let Some(token) = self.terms.config.ops.token() else { return Ok(()) };
        let shown = credentials::presented(&self.head.headers, None, false);
        if shown.is_ok_and(|shown| token.admits(shown.token.reveal())) {
            return Ok(());
        }
        self.pay_as_address().await?;
        Err(ApiError::needs_operators_token())
    }

    /// Who is asking, if they may enter, and whether a cookie said so.
    async fn identify(&self, route: &Route<S>) -> Result<(Principal, bool), ApiError> {
        let (Pipeline { doors, .. }, config) = (self.pipeline, &self.terms.config);
        let reads_cookies = config.browser_sessions.is_some();
        let presented = credentials::presented(&self.head.headers, self.path_key, reads_cookies)?;
        let principal = doors.authenticate(presented.token.reveal(), route.access).await?;
        let admitted = if !route.access.admits(&principal) {
            Err(missing(route.access, &principal))
        } else if presented.is_by_cookie && !self.head.method.is_safe() {
            browser::check_page(self.head, self.peer, &config.allowed_origins)
        } else {
            Ok(())
        };
        admitted.inspect_err(|_| self.report(AuditEvent::AuthzFail, Some(principal.user), route.path))?;
        Ok((principal, presented.is_by_cookie))
    }

    fn report(&self, event: AuditEvent, user: Option<UserId>, detail: &'static str) {
        let origin = call::origin(&self.head.headers, self.client, self.request_id);
        self.pipeline.doors.report_refusal(event, user, detail, &origin);
    }
}

/// Ollama's clients also ask for what is not theirs to change.
fn nothing_at(path: &str) -> ApiError {
    if path.starts_with("/api/") { ApiError::not_of_ollama() } else { ApiError::no_route() }
}

/// Says what a caller who is not admitted lacks.
fn missing(access: Access, principal: &Principal) -> ApiError {
    match access {
        Access::Admin if principal.role != Role::Admin => ApiError::needs_administrator(),
        Access::Admin => ApiError::needs_scope(Scope::Admin),
        Access::Scope(scope) => ApiError::needs_scope(scope),
        Access::Public | Access::Operator | Access::Anybody | Access::Session => ApiError::needs_session(),
    }
}

fn is_known(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS]
        .contains(method)
}
