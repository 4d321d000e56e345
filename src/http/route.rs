//! Routes and the table that finds them.
//!
//! What a route demands of its callers is an argument of its constructor: a route that forgot to say does not compile.

use std::{fmt::Write as _, io, sync::Arc};

use domain::principal::Access;
use futures_util::future::BoxFuture;
use http::Method;
use percent_encoding::percent_decode_str;

use super::{call::Call, error::ApiError, metrics::NO_ROUTE, reply::Reply};

/// What a request spends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Nothing, and it is served even when we are full: what operators need to see why and to do something about it, and
    /// leaving. Only who is refused spends one request of the address's bucket.
    Reserved,
    /// One request of the address's bucket and, with credentials, of the principal's.
    Request,
    /// One request of the address's bucket. What it spends of the principal's depends on what is in its body, so the route
    /// pays for that when it has read it ([`Call::pay_for_turn`]).
    Turn,
}

/// How long callers customarily wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Short,
    /// A model has to think about this request, which pays for its tokens.
    Chat,
    /// As long, but another request has paid. A name of its own, so that a test can hold that whoever makes a model think counts
    /// tokens.
    Following,
}

type Handler<S> =
    Box<dyn Fn(Arc<S>, Call) -> BoxFuture<'static, Result<Reply, ApiError>> + Send + Sync + 'static>;

pub(crate) struct Route<S> {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    pub(crate) limit: Limit,
    pub(crate) patience: Patience,
    pub(crate) handler: Handler<S>,
}

/// Declares a route. `path` is in matchit's form with at most one variable part.
pub(crate) fn route<S, F, Fut>(
    method: Method,
    path: &'static str,
    access: Access,
    limit: Limit,
    handler: F,
) -> Route<S>
where
    F: Fn(Arc<S>, Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, ApiError>> + Send + 'static,
{
    let handler: Handler<S> = Box::new(move |state, call| Box::pin(handler(state, call)));
    Route { method, path, access, limit, patience: Patience::Short, handler }
}

impl<S> Route<S> {
    pub(crate) fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }
}

/// All routes of a listener, found by path and method.
pub(crate) struct RouteTable<S> {
    paths: matchit::Router<usize>,
    places: Vec<Place<S>>,
}

struct Place<S> {
    path: &'static str,
    allow: Arc<str>,
    routes: Vec<Route<S>>,
}

/// Where a request leads.
pub(crate) enum Found<'t, S> {
    Route { route: &'t Route<S>, param: Option<String> },
    OtherMethods { path: &'static str, allow: Arc<str> },
    Nothing,
}

impl<S> Found<'_, S> {
    /// The metric label: the route's path as it is written in the table.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Route { route, .. } => route.path,
            Self::OtherMethods { path, .. } => path,
            Self::Nothing => NO_ROUTE,
        }
    }

    /// Whether it is what monitors ask all the time, of which nobody wants to hear.
    pub(crate) fn is_for_monitors(&self) -> bool {
        let Self::Route { route, .. } = self else { return false };
        route.access == Access::Public && route.limit == Limit::Reserved
    }
}

impl<S> RouteTable<S> {
    /// # Errors
    ///
    /// Two routes with one path and method, or paths that exclude each other: the table is wrong.
    pub(crate) fn new(routes: Vec<Route<S>>) -> io::Result<Self> {
        let mut places: Vec<Place<S>> = Vec::new();
        for route in routes {
            match places.iter_mut().find(|place| place.path == route.path) {
                Some(place) if place.routes.iter().any(|other| other.method == route.method) => {
                    return Err(io::Error::other(format!("two routes {} {}", route.method, route.path)));
                }
                Some(place) => place.routes.push(route),
                None => places.push(Place { path: route.path, allow: "".into(), routes: vec![route] }),
            }
        }
        let mut paths = matchit::Router::new();
        for (index, place) in places.iter_mut().enumerate() {
            paths.insert(place.path, index).map_err(io::Error::other)?;
            place.allow = allowed(&place.routes);
        }
        Ok(Self { paths, places })
    }

    /// A GET route answers HEAD too. A variable part that does not decode to UTF-8 leads nowhere.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Found<'_, S> {
        let Ok(matched) = self.paths.at(path) else { return Found::Nothing };
        let Some(place) = self.places.get(*matched.value) else { return Found::Nothing };
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        let Some(route) = place.routes.iter().find(|route| route.method == wanted) else {
            return Found::OtherMethods { path: place.path, allow: Arc::clone(&place.allow) };
        };
        let param = matched.params.iter().next().map(|(_, value)| percent_decode_str(value).decode_utf8());
        match param.transpose() {
            Ok(param) => Found::Route { route, param: param.map(|text| text.into_owned()) },
            Err(_) => Found::Nothing,
        }
    }

    pub(crate) fn routes(&self) -> impl Iterator<Item = &Route<S>> {
        self.places.iter().flat_map(|place| &place.routes)
    }
}

fn allowed<S>(routes: &[Route<S>]) -> Arc<str> {
    let mut text = String::new();
    for route in routes {
        let separator = if text.is_empty() { "" } else { ", " };
        let head = if route.method == Method::GET { ", HEAD" } else { "" };
        let _ = write!(text, "{separator}{}{head}", route.method);
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    fn table() -> RouteTable<()> {
        let nothing = |_, _| async { Ok(crate::http::json_reply(StatusCode::OK, "")) };
        RouteTable::new(vec![
            route(Method::GET, "/v1/models", Access::Anybody, Limit::Request, nothing),
            route(Method::GET, "/v1/models/{*id}", Access::Anybody, Limit::Request, nothing),
            route(Method::POST, "/v1/things", Access::Anybody, Limit::Request, nothing),
            route(Method::GET, "/v1/things", Access::Anybody, Limit::Request, nothing),
        ])
        .unwrap()
    }

    fn param(path: &str) -> Option<String> {
        match table().find(&Method::GET, path) {
            Found::Route { param, .. } => param,
            _ => None,
        }
    }

    #[test]
    fn model_names_with_slashes_and_colons_are_one_part_raw_or_encoded() {
        assert_eq!(param("/v1/models/library/llama3.2:latest").as_deref(), Some("library/llama3.2:latest"));
        assert_eq!(
            param("/v1/models/library%2Fllama3.2%3Alatest").as_deref(),
            Some("library/llama3.2:latest")
        );
        assert_eq!(param("/v1/models/%ff"), None);
    }

    #[test]
    fn b11_a_path_without_the_method_names_those_it_has() {
        let table = table();
        let Found::OtherMethods { allow, .. } = table.find(&Method::DELETE, "/v1/things") else { panic!() };
        assert_eq!(&*allow, "POST, GET, HEAD");
        assert!(matches!(table.find(&Method::HEAD, "/v1/things"), Found::Route { .. }));
        assert!(matches!(table.find(&Method::GET, "/v1/nothing"), Found::Nothing));
    }

    #[test]
    fn a_table_with_two_routes_of_one_name_is_refused() {
        let nothing = |_, _| async { Ok(crate::http::json_reply(StatusCode::OK, "")) };
        let twice = || route::<(), _, _>(Method::GET, "/v1/x", Access::Public, Limit::Request, nothing);
        assert!(RouteTable::new(vec![twice(), twice()]).is_err());
    }
}
