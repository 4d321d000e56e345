//! Headers of every reply: security, limits, and when to come back.

use std::time::Duration;

use actors::rate_limit::Decision;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, REFERRER_POLICY, RETRY_AFTER,
        WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};

use super::{
    error::ApiError,
    reply::{Reply, json},
    request_id::{REQUEST_ID, RequestId},
};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// 503s are spread over this many further seconds, so that those we refused together do not come back together.
const SPREAD_SECONDS: u64 = 3;

/// Sets what every reply has (B11); a route that set its own `Cache-Control` keeps it.
pub(crate) fn dress(headers: &mut HeaderMap, request_id: &RequestId) {
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(REQUEST_ID, request_id.header());
}

pub(crate) fn close(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}

/// Tells the caller how it stands with the bucket that decided (C8).
pub(crate) fn tell_limits(headers: &mut HeaderMap, decision: &Decision) {
    let (name, verdict) = (decision.scope.as_str(), &decision.verdict);
    let quota = &verdict.quota;
    // `t` and `Retry-After` come from the same number, so the latter is never the earlier one.
    let seconds = whole_seconds(if verdict.allowed { verdict.reset_after } else { verdict.retry_after });
    let policy = format!("\"{name}\";q={};w={}", quota.permits, quota.period.as_secs());
    let limit = format!("\"{name}\";r={};t={seconds}", verdict.remaining);
    for (header, text) in [(POLICY, policy), (LIMIT, limit)] {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(header, value);
        }
    }
    headers.insert(X_LIMIT, quota.permits.into());
    headers.insert(X_REMAINING, verdict.remaining.into());
    headers.insert(X_RESET, seconds.into());
}

/// Rounds up: a caller that waits as long as we say must not come too early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// Writes `error` for its client.
pub(crate) fn error_reply(error: &ApiError, request_id: &RequestId) -> Reply {
    #[derive(serde::Serialize)]
    struct Envelope<'a> {
        error: super::ErrorObject<'a>,
    }
    let mut reply = json(error.status(), &Envelope { error: error.object(request_id.as_str()) });
    let headers = reply.headers_mut();
    if let Some(wait) = error.wait() {
        let spread = match error.status() {
            StatusCode::SERVICE_UNAVAILABLE if error.may_spread() => request_id.spread() % SPREAD_SECONDS,
            _ => 0,
        };
        headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait).max(1) + spread));
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
    use actors::rate_limit::Scope;
    use domain::quota::{Quota, Verdict};

    use super::*;

    fn decision(allowed: bool, retry_after: Duration, reset_after: Duration) -> Decision {
        let quota = Quota { permits: 60, period: Duration::from_secs(60), burst: 20 };
        let verdict = Verdict { quota, allowed, remaining: 12, retry_after, reset_after };
        Decision { scope: Scope::User, verdict }
    }

    #[test]
    fn c08_limits_are_told_in_the_draft_and_the_customary_way() {
        let mut headers = HeaderMap::new();
        tell_limits(&mut headers, &decision(true, Duration::ZERO, Duration::from_millis(33_400)));
        assert_eq!(headers["ratelimit-policy"], "\"user\";q=60;w=60");
        assert_eq!(headers["ratelimit"], "\"user\";r=12;t=34");
        assert_eq!(headers["x-ratelimit-limit"], "60");
        assert_eq!(headers["x-ratelimit-remaining"], "12");
        assert_eq!(headers["x-ratelimit-reset"], "34");
    }

    #[test]
    fn c08_retry_after_is_never_earlier_than_t_and_never_rounded_down() {
        let denied = decision(false, Duration::from_millis(2_001), Duration::from_secs(20));
        let mut headers = HeaderMap::new();
        tell_limits(&mut headers, &denied);
        assert_eq!(headers["ratelimit"], "\"user\";r=12;t=3");
        let id = RequestId::choose(&HeaderMap::new(), false);
        assert_eq!(error_reply(&ApiError::rate_limited(&denied), &id).headers()["retry-after"], "3");
    }

    #[test]
    fn d01_refusals_of_a_full_service_are_spread_and_at_least_a_second() {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let id = RequestId::choose(&HeaderMap::new(), false);
            let reply = error_reply(&ApiError::overloaded(), &id);
            seen.insert(reply.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
    }
}
