//! What operations have in common, said once and referred to: how to prove who asks, what any request may be refused for, and
//! what replies say in their heads. Who has which follows from the route table, so no route can forget it.

use actors::system::System;
use domain::principal::Access;
use http::Method;
use utoipa::{
    Modify,
    openapi::{
        Components, Content, Header, Object, OpenApi, PathItem, Ref, RefOr, Response, Schema, Type,
        extensions::Extensions,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn},
        schema::ObjectBuilder,
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

use crate::{
    control::Control,
    http::{ACCESS_COOKIE, Limit, Route, Wire},
    router,
};

/// Says of each operation what the route table demands of its callers, and what the way to it and back may answer.
///
/// `x-access` is `public`, `anybody`, `session`, `admin`, or `scope:` and a name.
pub(super) struct Shared;

impl Modify for Shared {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        let wait = timeout();
        components.parameters.insert(wait.name.clone(), RefOr::T(wait));
        components.headers.extend(HEADERS.iter().map(|header| (header.name.to_owned(), header.described())));
        for wire in Wire::ALL {
            components.responses.extend(REFUSALS.iter().map(|refusal| {
                let response = dressed(Response::new(refusal.why), refusal.status, wire, None);
                (refusal.component(wire), RefOr::T(response))
            }));
        }
        add_credentials(components);
        for route in router::clients(&Control::default()) {
            let Some(item) = document.paths.paths.get_mut(&route.path.replace("{*", "{")) else { continue };
            if let Some(operation) = operation(item, &route.method) {
                describe(operation, &route);
            }
        }
    }
}

fn operation<'i>(item: &'i mut PathItem, method: &Method) -> Option<&'i mut Operation> {
    let operation = match *method {
        Method::GET => &mut item.get,
        Method::POST => &mut item.post,
        Method::PATCH => &mut item.patch,
        Method::DELETE => &mut item.delete,
        _ => return None,
    };
    operation.as_mut()
}

fn describe(operation: &mut Operation, route: &Route<System>) {
    let wire = Wire::of(route.path);
    let has_body = operation.request_body.is_some();
    let responses = &mut operation.responses.responses;
    for refusal in REFUSALS.iter().filter(|refusal| refusal.is_of(route, has_body)) {
        let shared = || Ref::new(format!("#/components/responses/{}", refusal.component(wire)));
        responses.entry(refusal.status.to_owned()).or_insert_with(|| RefOr::Ref(shared()));
    }
    for (status, response) in responses {
        if let RefOr::T(own) = response {
            *own = dressed(std::mem::take(own), status, wire, Some(route));
        }
    }
    if route.access != Access::Public {
        let ways = ["bearer", "header", "cookie"];
        operation.security =
            Some(ways.map(|way| SecurityRequirement::new::<_, [&str; 0], _>(way, [])).into());
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        body.content.values_mut().for_each(not_null);
    }
    let timeout = Ref::new(format!("#/components/parameters/{}", timeout().name));
    operation.parameters.get_or_insert_default().push(RefOr::Ref(timeout));
    operation.extensions = Some(Extensions::from_iter([("x-access", access(route))]));
}

/// A body may be left out, but is not `null`, as the macro says of an `Option`.
fn not_null(content: &mut RefOr<Content>) {
    if let RefOr::T(Content { schema: Some(schema), .. }) = content
        && let RefOr::T(Schema::OneOf(choice)) = schema
        && let [one, RefOr::T(Schema::Object(_))] = &choice.items[..]
    {
        *schema = one.clone();
    }
}

fn access(route: &Route<System>) -> String {
    match route.access {
        Access::Public => "public".to_owned(),
        Access::Operator => "operator".to_owned(),
        Access::Anybody => "anybody".to_owned(),
        Access::Session => "session".to_owned(),
        Access::Admin => "admin".to_owned(),
        Access::Scope(scope) => format!("scope:{}", scope.as_str()),
    }
}

/// Whether a request takes a place and spends from a bucket, or asks the store who its caller is, so that it may have to wait.
fn may_wait(route: &Route<System>) -> bool {
    route.limit != Limit::Reserved || route.access != Access::Public
}

fn add_credentials(components: &mut Components) {
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let in_path =
        "Where API_KEY_IN_PATH is on, Ollama's paths may also have the key in front: `/k/<key>/api/chat`";
    let header = ApiKeyValue::with_description("X-Api-Key", in_path);
    let cookie = ApiKeyValue::with_description(ACCESS_COOKIE, "Where BROWSER_SESSIONS is on");
    components.add_security_scheme("bearer", bearer);
    components.add_security_scheme("header", SecurityScheme::ApiKey(ApiKey::Header(header)));
    components.add_security_scheme("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
}

fn timeout() -> Parameter {
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    ParameterBuilder::new()
        .name("X-Request-Timeout")
        .parameter_in(ParameterIn::Header)
        .description(Some("Seconds that the caller is willing to wait; more than 3600 count as 3600"))
        .schema(Some(seconds))
        .build()
}

/// A refusal that many operations share.
struct Refusal {
    status: &'static str,
    name: &'static str,
    why: &'static str,
}

const REFUSALS: [Refusal; 15] = [
    refusal("400", "Invalid", "Something about the request is malformed; `param` names it"),
    refusal("401", "Unauthenticated", "It is not said, or not proved, who is asking"),
    refusal(
        "403",
        "Forbidden",
        "The caller lacks a right; or a listener on loopback is asked by another name",
    ),
    refusal("408", "TooSlow", "The body did not arrive in time"),
    refusal("409", "Cancelled", "The turn was cancelled"),
    refusal("413", "TooLarge", "The body is too large"),
    refusal("414", "UriTooLong", "The URI is longer than 8 KiB"),
    refusal("415", "NotJson", "The body is not said to be JSON, or is encoded"),
    refusal("429", "Limited", "A limit of the address or the caller is reached"),
    refusal("431", "HeadTooLarge", "The head is larger than 16 KiB or has more than 100 headers"),
    refusal("500", "Internal", "Something broke on our side; the request id leads to the log entry"),
    refusal("502", "Upstream", "The model server failed"),
    refusal("503", "Overloaded", "The service is full or stopping, or something it depends on is away"),
    refusal("504", "TooLate", "The request's time was over before it was done"),
    refusal("404", "NotFound", "There is no such thing, or not for this caller"),
];

const fn refusal(status: &'static str, name: &'static str, why: &'static str) -> Refusal {
    Refusal { status, name, why }
}

impl Refusal {
    fn is_of(&self, route: &Route<System>, has_body: bool) -> bool {
        match self.status {
            "401" => route.access != Access::Public,
            "404" => route.path.contains('{'),
            "408" | "413" | "415" => has_body,
            "409" | "502" => route.limit == Limit::Turn,
            "429" | "500" | "503" | "504" => may_wait(route),
            _ => true,
        }
    }

    /// Its name in the document, where each dialect has its own.
    fn component(&self, wire: Wire) -> String {
        let dialect = match wire {
            Wire::OpenAi => "",
            Wire::Anthropic => ".anthropic",
            Wire::Ollama => ".ollama",
        };
        format!("{}{dialect}", self.name)
    }
}

/// A header of replies.
struct Told {
    name: &'static str,
    what: &'static str,
    kind: Type,
    /// Whether replies of this status to that route have it; refusals that routes share are nobody's.
    is_in: fn(status: &str, Option<&Route<System>>) -> bool,
}

const HEADERS: [Told; 13] = [
    told("X-Request-Id", "The request's name in the log", Type::String, |_, _| true),
    told("Retry-After", "Seconds until another try is worth it", Type::Integer, |status, _| {
        ["429", "503"].contains(&status)
    }),
    told("WWW-Authenticate", "`Bearer`", Type::String, |status, _| status == "401"),
    told(
        "RateLimit-Policy",
        "Each bucket that was asked: its quota and window, as in `\"user\";q=60;w=60`",
        Type::String,
        is_limited,
    ),
    told(
        "RateLimit",
        "How each of them stands: what remains and until when, as in `\"user\";r=12;t=34`",
        Type::String,
        is_limited,
    ),
    told("X-RateLimit-Limit-Requests", "The quota of requests that binds", Type::Integer, is_limited_in_v1),
    told("X-RateLimit-Remaining-Requests", "What remains of it", Type::Integer, is_limited_in_v1),
    told(
        "X-RateLimit-Reset-Requests",
        "When it is whole again, as in `6m0s`",
        Type::String,
        is_limited_in_v1,
    ),
    told("X-RateLimit-Limit-Tokens", "The quota of tokens that binds, if any", Type::Integer, is_turn_in_v1),
    told("X-RateLimit-Remaining-Tokens", "What remains of it", Type::Integer, is_turn_in_v1),
    told("X-RateLimit-Reset-Tokens", "When it is whole again", Type::String, is_turn_in_v1),
    told(
        "X-Queue-Position",
        "The place in line that the turn was let in at; 0 found a free slot",
        Type::Integer,
        is_turn,
    ),
    told("OpenAI-Processing-Ms", "Milliseconds until the reply began", Type::Integer, is_turn),
];

const fn told(
    name: &'static str,
    what: &'static str,
    kind: Type,
    is_in: fn(&str, Option<&Route<System>>) -> bool,
) -> Told {
    Told { name, what, kind, is_in }
}

impl Told {
    fn described(&self) -> RefOr<Header> {
        let mut header = Header::new(Object::with_type(self.kind.clone()));
        header.description = Some(self.what.to_owned());
        RefOr::T(header)
    }
}

fn is_limited(status: &str, route: Option<&Route<System>>) -> bool {
    status == "429" || status.starts_with('2') && route.is_some_and(|route| route.limit != Limit::Reserved)
}

fn is_limited_in_v1(status: &str, route: Option<&Route<System>>) -> bool {
    route.is_some_and(|route| route.path.starts_with("/v1/")) && is_limited(status, route)
}

fn is_turn(status: &str, route: Option<&Route<System>>) -> bool {
    status.starts_with('2') && route.is_some_and(|route| route.limit == Limit::Turn)
}

fn is_turn_in_v1(status: &str, route: Option<&Route<System>>) -> bool {
    is_turn(status, route) && is_limited_in_v1(status, route)
}

/// A response of this status with what it has in common with others: words, if it has none of its own, headers, and the shape
/// of a refusal.
fn dressed(mut response: Response, status: &str, wire: Wire, route: Option<&Route<System>>) -> Response {
    if response.description.is_empty() {
        let shared = REFUSALS.iter().find(|refusal| refusal.status == status);
        response.description = shared.map_or(customary(status), |refusal| refusal.why).to_owned();
    }
    let is_refusal = status.starts_with(['4', '5']);
    if is_refusal && response.content.is_empty() {
        let shape = Ref::from_schema_name(wire.schema_name());
        response.content.insert("application/json".to_owned(), RefOr::T(Content::new(Some(shape))));
    }
    for header in HEADERS.iter().filter(|header| (header.is_in)(status, route)) {
        let shared = Ref::new(format!("#/components/headers/{}", header.name));
        response.headers.insert(header.name.to_owned(), RefOr::Ref(shared));
    }
    response
}

fn customary(status: &str) -> &'static str {
    match status {
        "200" => "The answer",
        "201" => "It is made",
        "202" => "It is under way",
        "204" => "It is done",
        "422" => "It is well-formed, but cannot be done; `param` names why",
        _ => "",
    }
}
