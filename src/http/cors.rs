//! Which pages of other origins may call us: exactly those listed, never `*` or `null`, and with cookies only where browsers
//! have sessions.

use std::{convert::Infallible, str::FromStr, time::Duration};

use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::{body::Inbound, headers, limit_headers, reply::Reply, request_id::REQUEST_ID};

/// How long a browser may remember a preflight.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(600);

/// An origin exactly as a browser sends it: nothing after the host and port, never `*` or `null`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageOrigin(HeaderValue);

/// No browser would send this as an origin: whoever wrote it meant something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not of the form https://host[:port], as browsers send it")]
pub struct NotAnOrigin;

impl FromStr for PageOrigin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let uri = text.parse::<Uri>().map_err(|_| NotAnOrigin)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(NotAnOrigin);
        };
        let usual_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return Err(NotAnOrigin),
        };
        let is_exact = text == format!("{scheme}://{authority}")
            && text == text.to_ascii_lowercase()
            && uri.port_u16() != Some(usual_port)
            && !authority.host().is_empty()
            && !authority.as_str().contains(['@', '*']);
        let value = HeaderValue::from_str(text).map_err(|_| NotAnOrigin)?;
        if is_exact { Ok(Self(value)) } else { Err(NotAnOrigin) }
    }
}

impl PageOrigin {
    /// Whether a request's `Origin` is this one.
    pub(crate) fn is(&self, origin: &HeaderValue) -> bool {
        self.0 == origin
    }
}

/// `None` when no origin is allowed.
pub(crate) fn layer(origins: &[PageOrigin], with_cookies: bool) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let origins = origins.iter().map(|PageOrigin(value)| value.clone());
    let named = HeaderName::from_static;
    let ours = [
        header::RETRY_AFTER,
        header::LOCATION,
        header::CONTENT_DISPOSITION,
        REQUEST_ID,
        headers::ANTHROPICS_REQUEST_ID,
        headers::PROCESSING,
        named("idempotent-replay"),
        named("x-queue-position"),
        named("x-queue-wait-ms"),
    ];
    let readable = ours.into_iter().chain(limit_headers::names());
    Some(
        CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_credentials(with_cookies)
            .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
            .allow_headers([
                header::AUTHORIZATION,
                header::CONTENT_TYPE,
                named("x-api-key"),
                named("x-request-timeout"),
                named("idempotency-key"),
                named("last-event-id"),
            ])
            .expose_headers(readable.collect::<Vec<_>>())
            .max_age(PREFLIGHT_MAX_AGE),
    )
}

/// Answers a preflight by itself, and anything else by `answer`, with the headers the browser asks for.
pub(crate) async fn apply<F, Fut>(layer: &CorsLayer, request: Request<Inbound>, answer: F) -> Reply
where
    F: FnOnce(Request<Inbound>) -> Fut,
    Fut: Future<Output = Reply>,
{
    // A service may be called often, this one is called once.
    let mut answer = Some(answer);
    let service = service_fn(move |request| {
        let answer = answer.take();
        async move {
            match answer {
                Some(answer) => Ok::<_, Infallible>(answer(request).await),
                None => Ok(Reply::default()),
            }
        }
    });
    let Ok(reply) = layer.layer(service).oneshot(request).await;
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b10_only_what_a_browser_sends_is_an_origin() {
        for text in [
            "*",
            "null",
            "",
            "example.org",
            "https://*.example.org",
            "https://example.org/",
            "https://",
            "https://:8443",
            "https://user@example.org",
            "https://example.org:443",
            "http://example.org:80",
            "HTTPS://example.org",
            "https://Example.org",
            "ftp://example.org",
        ] {
            assert_eq!(text.parse::<PageOrigin>(), Err(NotAnOrigin), "{text:?}");
        }
        for text in ["https://app.example.org:8443", "http://localhost:5173", "https://[::1]:8443"] {
            assert!(text.parse::<PageOrigin>().is_ok(), "{text:?}");
        }
    }
}
