//! Texts that stay the same until another release: whoever has one already is not sent it again.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH},
};

use crate::http::{Reply, bytes_reply, empty_reply};

/// Kept by whoever likes, and asked about each time.
const REVALIDATED: HeaderValue = HeaderValue::from_static("no-cache");

pub(super) struct Fixed {
    content_type: &'static str,
    text: Bytes,
    etag: Option<HeaderValue>,
}

impl Fixed {
    pub(super) fn new(content_type: &'static str, text: String) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let etag = HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish())).ok();
        Self { content_type, text: text.into(), etag }
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// The text, or that it is still the one which the caller has.
    pub(super) fn reply(&self, asked: &HeaderMap) -> Reply {
        let mut reply = if self.is_known(asked) {
            let mut unchanged = empty_reply();
            *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
            unchanged
        } else {
            bytes_reply(self.content_type, self.text.clone())
        };
        let headers = reply.headers_mut();
        headers.insert(CACHE_CONTROL, REVALIDATED);
        if let Some(etag) = &self.etag {
            headers.insert(ETAG, etag.clone());
        }
        reply
    }

    /// A proxy that compresses a text makes its mark a weak one, which is as good here (RFC 9110 §13.1.2).
    fn is_known(&self, asked: &HeaderMap) -> bool {
        let Some(own) = self.etag.as_ref().and_then(|etag| etag.to_str().ok()) else { return false };
        let named = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let mut marks = named.flat_map(|value| value.split(',')).map(str::trim);
        marks.any(|mark| mark == "*" || mark.strip_prefix("W/").unwrap_or(mark) == own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_sent_to_whoever_does_not_have_it() {
        let fixed = Fixed::new("text/plain", "x".to_owned());
        let etag = fixed.reply(&HeaderMap::new()).headers()[ETAG].to_str().unwrap().to_owned();
        let status = |mark: &str| {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, mark.parse().unwrap())]);
            fixed.reply(&headers).status().as_u16()
        };
        for mark in [etag.as_str(), &format!("W/{etag}"), &format!("\"a\", {etag}"), "*"] {
            assert_eq!(status(mark), 304, "{mark}");
        }
        assert_eq!(status("\"another\""), 200);
    }
}
