//! `/docs`: the description of the service as a page to read. It is made once, on the server, and holds no script: its policy
//! lets in nothing but its own style.

mod page;
mod shape;

use std::sync::{Arc, LazyLock};

use actors::system::System;
use http::{
    HeaderValue,
    header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE},
};

use super::fixed::Fixed;
use crate::http::{ApiError, Call, Reply};

const STYLE: &str = include_str!("docs/style.css");

/// The second word is the SHA-256 of [`STYLE`]; a test says which.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'sha256-CjANu/y5Ch27U/SkmHhUp9py+gh2qGHwAn41ixCb/bY='; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

static PAGE: LazyLock<Fixed> = LazyLock::new(|| {
    let document = serde_json::from_str(&super::openapi::openapi()).unwrap_or_default();
    Fixed::new("text/html; charset=utf-8", page::page(&document, STYLE))
});

/// Shows this description as a page to read.
#[utoipa::path(get, path = "/docs", operation_id = "showDescription", tag = "operations",
    responses((status = 200, content_type = "text/html", body = String),
    (status = 304, description = "The page is the one that `If-None-Match` names")))]
pub(crate) async fn show(_system: Arc<System>, call: Call) -> Result<Reply, ApiError> {
    let mut reply = PAGE.reply(&call.head.headers);
    if reply.headers().contains_key(CONTENT_TYPE) {
        reply.headers_mut().insert(CONTENT_SECURITY_POLICY, POLICY);
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};

    use super::*;

    #[test]
    fn the_pages_policy_lets_in_its_own_style_and_nothing_else() {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, STYLE.as_bytes());
        let source = format!("style-src 'sha256-{}';", BASE64_STANDARD.encode(hash));
        let policy = POLICY.to_str().unwrap().to_owned();
        assert!(policy.contains(&source) && policy.starts_with("default-src 'none';"), "{source}");
    }
}
