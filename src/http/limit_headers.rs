//! How a caller stands with its limits (C8), in the draft's words, the customary ones and OpenAI's.
//!
//! ```text
//! RateLimit-Policy: "user";q=60;w=60, "tokens";q=9000;w=60    all buckets that were asked
//! RateLimit: "user";r=12;t=34, "tokens";r=7976;t=7
//! X-RateLimit-Limit/Remaining/Reset: 60, 12, 34               the bucket that binds
//! x-ratelimit-limit/remaining/reset-requests: 60, 12, 34s     the one of requests that does, on `/v1`
//! x-ratelimit-limit/remaining/reset-tokens: 9000, 7976, 7s    the one of tokens, where there is one
//! ```
//!
//! They are on every reply, so all their values are written into one buffer and cut out of it.

use std::fmt::{self, Write as _};

use actors::rate_limit::{Decision, Said};
use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};

use domain::wait::whole_seconds;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Limit, remaining, reset.
type Names = [HeaderName; 3];

const CUSTOMARY: Names = [
    HeaderName::from_static("x-ratelimit-limit"),
    HeaderName::from_static("x-ratelimit-remaining"),
    HeaderName::from_static("x-ratelimit-reset"),
];
const REQUESTS: Names = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const TOKENS: Names = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// All of these headers, for pages that may read them.
pub(super) fn names() -> impl Iterator<Item = HeaderName> {
    [POLICY, LIMIT].into_iter().chain(CUSTOMARY).chain(REQUESTS).chain(TOKENS)
}

/// What one bucket takes in them, roughly.
const BYTES: usize = 96;

/// Whose headers a path has beside ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Plain,
    OpenAi,
}

/// Tells the caller how it stands with the buckets that were asked.
pub(super) fn tell_limits(headers: &mut HeaderMap, decision: &Decision, dialect: Dialect) {
    let mut pen = Pen(BytesMut::with_capacity(2 * BYTES));
    pen.list(headers, POLICY, decision, |text, Said { scope, verdict }| {
        write!(
            text,
            "\"{}\";q={};w={}",
            scope.as_str(),
            verdict.quota.permits,
            verdict.quota.period.as_secs()
        )
    });
    pen.list(headers, LIMIT, decision, |text, said| {
        write!(text, "\"{}\";r={};t={}", said.scope.as_str(), said.verdict.remaining, seconds(&said))
    });
    let binding = decision.binding();
    pen.bucket(headers, CUSTOMARY, &binding, |text, seconds| write!(text, "{seconds}"));
    if dialect == Dialect::OpenAi {
        let tightest = [(REQUESTS, decision.tightest_of_requests()), (TOKENS, decision.tightest_of_tokens())];
        for (names, said) in tightest {
            if let Some(said) = said {
                pen.bucket(headers, names, &said, go_duration);
            }
        }
    }
}

/// Until the same may be asked again, or until the bucket is full. `Retry-After` comes from the same number, so it is never
/// the earlier one.
fn seconds(Said { verdict, .. }: &Said) -> u64 {
    whole_seconds(if verdict.allowed { verdict.reset_after } else { verdict.retry_after })
}

/// As in `1s`, `6m0s` and `1h0m0s`.
fn go_duration(text: &mut BytesMut, seconds: u64) -> fmt::Result {
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => write!(text, "{seconds}s"),
        (0, _) => write!(text, "{minutes}m{seconds}s"),
        _ => write!(text, "{hours}h{minutes}m{seconds}s"),
    }
}

/// Writes values one after another.
struct Pen(BytesMut);

impl Pen {
    fn list(
        &mut self,
        headers: &mut HeaderMap,
        name: HeaderName,
        decision: &Decision,
        write: impl Fn(&mut BytesMut, Said) -> fmt::Result,
    ) {
        for (at, said) in decision.said().enumerate() {
            if at > 0 {
                self.0.extend_from_slice(b", ");
            }
            // Writing into memory does not fail.
            let _ = write(&mut self.0, said);
        }
        self.put(headers, name);
    }

    fn bucket(
        &mut self,
        headers: &mut HeaderMap,
        [limit, remaining, reset]: Names,
        said: &Said,
        write: impl Fn(&mut BytesMut, u64) -> fmt::Result,
    ) {
        for (name, number) in [(limit, said.verdict.quota.permits), (remaining, said.verdict.remaining)] {
            let _ = write!(self.0, "{number}");
            self.put(headers, name);
        }
        let _ = write(&mut self.0, seconds(said));
        self.put(headers, reset);
    }

    /// Cuts off what was written as the value of this header.
    fn put(&mut self, headers: &mut HeaderMap, name: HeaderName) {
        if let Ok(value) = HeaderValue::from_maybe_shared(self.0.split().freeze()) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actors::rate_limit::Scope;
    use domain::quota::{Quota, Verdict};

    use super::*;

    fn said(scope: Scope, permits: u32, remaining: u32) -> Said {
        let quota = Quota { permits, period: Duration::from_secs(60), burst: permits };
        let reset_after = Duration::from_millis(33_400);
        let verdict = Verdict { quota, allowed: true, remaining, retry_after: Duration::ZERO, reset_after };
        Said { scope, verdict }
    }

    fn refused(said: Said, wait: Duration) -> Said {
        Said { verdict: Verdict { allowed: false, retry_after: wait, ..said.verdict }, ..said }
    }

    fn told(said: &[Said], dialect: Dialect) -> String {
        let decision = Decision::of(said.to_vec()).unwrap();
        let mut headers = HeaderMap::new();
        tell_limits(&mut headers, &decision, dialect);
        assert!(headers.keys().all(|name| names().any(|known| known == *name)));
        let lines: Vec<_> = names()
            .filter_map(|name| Some(format!("{name}: {}\n", headers.get(&name)?.to_str().unwrap())))
            .collect();
        lines.concat()
    }

    #[test]
    fn c08_one_bucket_is_told_in_the_drafts_and_the_customary_way() {
        let shown = told(&[said(Scope::Address, 60, 12)], Dialect::Plain);
        assert_eq!(
            shown,
            "ratelimit-policy: \"address\";q=60;w=60\n\
             ratelimit: \"address\";r=12;t=34\n\
             x-ratelimit-limit: 60\n\
             x-ratelimit-remaining: 12\n\
             x-ratelimit-reset: 34\n"
        );
    }

    #[test]
    fn c08_several_buckets_are_lists_and_the_one_that_binds_is_told_alone() {
        let user = said(Scope::User, 60, 59);
        let tokens = refused(said(Scope::Tokens, 9_000, 7), Duration::from_millis(360_001));
        let shown = told(&[user, said(Scope::Key, 30, 12), tokens], Dialect::OpenAi);
        assert_eq!(
            shown,
            "ratelimit-policy: \"user\";q=60;w=60, \"key\";q=30;w=60, \"tokens\";q=9000;w=60\n\
             ratelimit: \"user\";r=59;t=34, \"key\";r=12;t=34, \"tokens\";r=7;t=361\n\
             x-ratelimit-limit: 9000\n\
             x-ratelimit-remaining: 7\n\
             x-ratelimit-reset: 361\n\
             x-ratelimit-limit-requests: 30\n\
             x-ratelimit-remaining-requests: 12\n\
             x-ratelimit-reset-requests: 34s\n\
             x-ratelimit-limit-tokens: 9000\n\
             x-ratelimit-remaining-tokens: 7\n\
             x-ratelimit-reset-tokens: 6m1s\n"
        );
    }

    #[test]
    fn c08_openais_clients_hear_of_tokens_only_where_they_are_counted() {
        let shown = told(&[said(Scope::User, 60, 1), said(Scope::Model, 6, 5)], Dialect::OpenAi);
        assert!(shown.contains("x-ratelimit-remaining-requests: 1\n"), "{shown}");
        assert!(!shown.contains("tokens"), "{shown}");
    }

    #[test]
    fn c08_durations_are_written_as_openais_are() {
        for (seconds, written) in
            [(0, "0s"), (1, "1s"), (59, "59s"), (360, "6m0s"), (3_600, "1h0m0s"), (7_325, "2h2m5s")]
        {
            let mut text = BytesMut::new();
            go_duration(&mut text, seconds).unwrap();
            assert_eq!(text, written);
        }
    }
}
