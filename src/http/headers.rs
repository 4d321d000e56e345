//! Headers of every reply: security, and when to come back.

use std::time::Duration;

use domain::wait::whole_seconds;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, REFERRER_POLICY, RETRY_AFTER,
        WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};

use super::{
    error::{ApiError, Place, Wire},
    reply::{Reply, json_text},
    request_id::{REQUEST_ID, RequestId},
};

/// 503s are spread over this many further seconds, so that those we refused together do not come back together.
const SPREAD_SECONDS: u64 = 3;

/// 429s are spread over one part in so many of their wait, one second at least. They are exact, so it is only ever longer.
const SPREAD_PART: u64 = 10;

/// Sets what every reply has (B11); a route that set its own `Cache-Control` or policy keeps it.
pub(crate) fn dress(headers: &mut HeaderMap, request_id: &RequestId) {
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers
        .entry(CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(REQUEST_ID, request_id.header());
}

/// How long a turn took until its reply had a head, by the name that OpenAI's clients know.
pub(super) const PROCESSING: HeaderName = HeaderName::from_static("openai-processing-ms");

/// By which Anthropic's libraries name a request.
pub(super) const ANTHROPICS_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Says what clients of each dialect look for, and how long a turn took, if that may be told.
pub(super) fn tell(headers: &mut HeaderMap, wire: Wire, request_id: &RequestId, turn_took: Option<Duration>) {
    if wire == Wire::Anthropic {
        headers.insert(ANTHROPICS_REQUEST_ID, request_id.header());
    }
    if let Some(took) = turn_took {
        headers.insert(PROCESSING, u64::try_from(took.as_millis()).unwrap_or(u64::MAX).into());
    }
}

pub(crate) fn close(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}

/// Writes `error` for its client, who reads `wire`.
pub(crate) fn error_reply(error: &ApiError, request_id: &RequestId, wire: Wire) -> Reply {
    let mut body = Vec::new();
    wire.append(error, request_id.as_str(), Place::Reply, &mut body);
    let mut reply = json_text(error.status(), body);
    let headers = reply.headers_mut();
    if let Some(wait) = error.wait() {
        let seconds = whole_seconds(wait).max(1);
        let spread = match error.status() {
            _ if !error.may_spread() => 1,
            StatusCode::SERVICE_UNAVAILABLE => SPREAD_SECONDS,
            StatusCode::TOO_MANY_REQUESTS => 1 + (seconds / SPREAD_PART).max(1),
            _ => 1,
        };
        let seconds = seconds.saturating_add(request_id.spread() % spread);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.status() == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(methods) = error.allow().and_then(|methods| HeaderValue::from_str(methods).ok()) {
        headers.insert(ALLOW, methods);
    }
    reply
}

#[cfg(test)]
mod tests {
    use actors::model::ModelError;
    use domain::reply::FailureCode;

    use super::*;

    /// All the waits that a refusal is told, over many requests.
    fn waits(error: &ApiError) -> Vec<u64> {
        let wait = |_| {
            let reply = error_reply(error, &RequestId::choose(&HeaderMap::new(), false), Wire::OpenAi);
            reply.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap()
        };
        let seen: std::collections::BTreeSet<_> = (0..500).map(wait).collect();
        seen.into_iter().collect()
    }

    #[test]
    fn a_moment_that_was_promised_to_one_caller_is_told_as_it_is() {
        for _ in 0..20 {
            let id = RequestId::choose(&HeaderMap::new(), false);
            let wait = Duration::from_millis(3_200);
            for error in [
                ModelError::QueueFull { retry_after: wait },
                ModelError::CannotStartInTime { retry_after: wait },
            ] {
                assert_eq!(error_reply(&error.into(), &id, Wire::OpenAi).headers()["retry-after"], "4");
            }
            let shed = ApiError::turn_failed(FailureCode::Overloaded, "x", Some(wait));
            assert_eq!(error_reply(&shed, &id, Wire::OpenAi).headers()["retry-after"], "4");
        }
    }

    #[test]
    fn d01_refusals_of_a_full_service_are_spread_and_at_least_a_second() {
        assert_eq!(waits(&ApiError::overloaded()), [1, 2, 3]);
    }

    #[test]
    fn c08_retry_after_is_rounded_up_and_spread_by_a_tenth_or_a_second() {
        let refused = |wait| waits(&ApiError::limited("x", wait));
        assert_eq!(refused(Duration::from_millis(1)), [1, 2]);
        assert_eq!(refused(Duration::from_secs(1)), [1, 2]);
        assert_eq!(refused(Duration::from_millis(2_001)), [3, 4]);
        assert_eq!(refused(Duration::from_secs(42)), [42, 43, 44, 45, 46]);
        assert_eq!(refused(Duration::MAX), [u64::MAX]);
    }
}
