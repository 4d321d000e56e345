//! What the front end counts. Labels come from the route table and closed enums, never from a request.

use std::{sync::Arc, time::Instant};

use domain::kind::Kind;
use http::StatusCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    config::HttpConfig,
    route::{Limit, Route},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Served {
    route: &'static str,
    /// `2xx` … `5xx`, or `none` when the client left before the head.
    status: &'static str,
    /// `ok`, or the kind of the failure.
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRoute {
    route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

/// Why a connection was not served.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Refusal {
    TooMany,
    TooManyOfOneAddress,
}

impl Refusal {
    const ALL: [Self; 2] = [Self::TooMany, Self::TooManyOfOneAddress];

    const fn as_str(self) -> &'static str {
        match self {
            Self::TooMany => "too_many",
            Self::TooManyOfOneAddress => "too_many_of_one_address",
        }
    }
}

/// Paths that are not in the route table share this label.
pub(crate) const NO_ROUTE: &str = "none";

/// The outcome of a request that was answered as it should be.
const OK: &str = "ok";

#[derive(Clone)]
pub(crate) struct HttpMetrics {
    requests: Family<Served, Counter>,
    seconds: Family<ByRoute, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    pub(crate) connections: Gauge,
    refused: Family<ByReason, Counter>,
    pub(crate) panics: Counter,
}

fn latencies() -> Histogram {
    Histogram::new([
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0,
    ])
}

impl HttpMetrics {
    pub(crate) fn register(registry: &mut Registry, config: &HttpConfig) -> Self {
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(latencies),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            refused: Family::default(),
            panics: Counter::default(),
        };
        let Self { requests, seconds, in_flight, connections, refused, panics } = metrics.clone();
        for refusal in Refusal::ALL {
            drop(refused.get_or_create(&ByReason { reason: refusal.as_str() }));
        }
        registry.register(
            "deepersensor_http_requests",
            "Requests by route, status and outcome; status none: the client left before the head of the reply. Worry about 5xx, by its outcome: \
             internal is our own fault, overloaded means too many callers or something away, upstream the model server",
            requests,
        );
        registry.register_with_unit(
            "deepersensor_http_request_duration",
            "From the request's head to the end of its reply, streams included. Worry when the p99 of routes that ask no model is above half \
             a second",
            Unit::Seconds,
            seconds,
        );
        registry.register(
            "deepersensor_http_requests_in_flight",
            "Requests being served. Worry near deepersensor_http_requests_in_flight_limit",
            in_flight,
        );
        registry.register(
            "deepersensor_http_connections_open",
            "Open connections of clients and operators. Worry near deepersensor_http_connections_limit",
            connections,
        );
        registry.register(
            "deepersensor_http_connections_refused",
            "Connections closed at a cap, by which. Worry when it grows: too many clients, or one that opens too many",
            refused,
        );
        registry.register(
            "deepersensor_http_panics",
            "Routes that panicked. Worry at any: it is a bug",
            panics,
        );
        for (name, help, limit) in [
            (
                "deepersensor_http_requests_in_flight_limit",
                "Requests that may be served at once (MAX_INFLIGHT_REQUESTS)",
                config.max_in_flight,
            ),
            (
                "deepersensor_http_connections_limit",
                "Connections that clients may have open (MAX_CONNECTIONS)",
                config.max_connections,
            ),
        ] {
            let gauge = Gauge::<i64>::default();
            gauge.set(i64::try_from(limit).unwrap_or(i64::MAX));
            registry.register(name, help, gauge);
        }
        metrics
    }

    /// Shows the usual outcomes of these routes from now on, so that a rate of what has not happened yet is 0 and not unknown.
    pub(crate) fn expect<'r, S: 'r>(&self, routes: impl Iterator<Item = &'r Route<S>>) {
        const ANY: [(&str, &str); 3] =
            [("2xx", OK), ("5xx", Kind::Internal.as_str()), ("5xx", Kind::Overloaded.as_str())];
        const OF_A_TURN: [(&str, &str); 3] = [
            ("4xx", Kind::Limited.as_str()),
            ("5xx", Kind::Upstream.as_str()),
            ("5xx", Kind::TooLate.as_str()),
        ];
        for Route { path: route, limit, .. } in routes {
            let of_a_turn = OF_A_TURN.iter().filter(|_| *limit == Limit::Turn);
            for &(status, outcome) in ANY.iter().chain(of_a_turn) {
                drop(self.requests.get_or_create(&Served { route, status, outcome }));
            }
        }
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        self.refused.get_or_create(&ByReason { reason: refusal.as_str() }).inc();
    }

    pub(crate) fn in_flight(&self) -> usize {
        usize::try_from(self.in_flight.get()).unwrap_or(0)
    }

    /// Opens a request's account; it closes when the [`Flight`] is dropped.
    pub(crate) fn take_off(self: &Arc<Self>, route: &'static str) -> Flight {
        self.in_flight.inc();
        Flight {
            metrics: Arc::clone(self),
            began: Instant::now(),
            route,
            status: "none",
            outcome: Kind::Cancelled.as_str(),
            permit: None,
        }
    }
}

/// One request being served: from its head to the end of its reply, or until its client left.
pub(crate) struct Flight {
    metrics: Arc<HttpMetrics>,
    began: Instant,
    route: &'static str,
    status: &'static str,
    outcome: &'static str,
    permit: Option<OwnedSemaphorePermit>,
}

impl Flight {
    /// Holds the request's place among those in flight for as long as it lasts.
    pub(crate) fn hold(&mut self, permit: OwnedSemaphorePermit) {
        self.permit = Some(permit);
    }

    pub(crate) fn answered(&mut self, status: StatusCode, failure: Option<Kind>) {
        self.status = match status.as_u16() {
            0..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        self.outcome = failure.map_or(OK, Kind::as_str);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let Self { route, status, outcome, .. } = *self;
        self.metrics.in_flight.dec();
        self.metrics.requests.get_or_create(&Served { route, status, outcome }).inc();
        self.metrics.seconds.get_or_create(&ByRoute { route }).observe(self.began.elapsed().as_secs_f64());
    }
}
