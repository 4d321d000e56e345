//! The name of one request, in replies, logs and the audit trail.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// At most [`RequestId::MAX_BYTES`] of letters, digits, `.`, `_` and `-`: harmless in headers, logs and JSON.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    const MAX_BYTES: usize = 128;

    /// The id a trusted proxy gave, or a fresh one: strangers do not name entries of our logs.
    pub(crate) fn choose(headers: &HeaderMap, peer_is_trusted: bool) -> Self {
        let given = if peer_is_trusted { headers.get(REQUEST_ID) } else { None };
        given.filter(|value| is_plain(value.as_bytes())).cloned().map_or_else(Self::fresh, Self)
    }

    fn fresh() -> Self {
        let mut text = Uuid::encode_buffer();
        let id: Uuid = actors::clock::fresh_id();
        let text = id.hyphenated().encode_lower(&mut text);
        Self(HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown")))
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// A number that differs between requests, to spread retries with.
    pub(crate) fn spread(&self) -> u64 {
        self.as_str().bytes().fold(0, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn is_plain(text: &[u8]) -> bool {
    (1..=RequestId::MAX_BYTES).contains(&text.len())
        && text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(value: &[u8], trusted: bool) -> RequestId {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
        RequestId::choose(&headers, trusted)
    }

    #[test]
    fn b13_a_trusted_proxy_may_name_a_request_and_a_stranger_may_not() {
        assert_eq!(choose(b"edge-7.A_b", true).as_str(), "edge-7.A_b");
        let fresh = choose(b"edge-7.A_b", false);
        assert_eq!(Uuid::parse_str(fresh.as_str()).unwrap().get_version_num(), 7);
    }

    #[test]
    fn b13_names_that_could_forge_log_lines_are_replaced() {
        for value in [&b""[..], b"a b", b"a\tb", b"\xe9", b"\"", &[b'a'; 129], &[b'a'; 10_240]] {
            let id = choose(value, true);
            assert!(Uuid::parse_str(id.as_str()).is_ok(), "{id}");
        }
        assert_eq!(choose(&[b'a'; 128], true).as_str().len(), 128);
    }
}
