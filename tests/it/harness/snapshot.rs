//! Replies as text, with what differs from run to run replaced by its form, which is checked on the way.

use std::fmt::Write as _;

use serde_json::Value;

use super::Reply;

/// What every reply says, whatever it is (B11).
const ALWAYS: [(&str, &str); 5] = [
    ("cache-control", "no-store"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];

/// What a reply's kind promises, in this order. Limits change from request to request and are tested by themselves.
const PROMISED: [&str; 10] = [
    "access-control-allow-origin",
    "allow",
    "connection",
    "content-type",
    "retry-after",
    "vary",
    "www-authenticate",
    "x-accel-buffering",
    "x-request-id",
    "server",
];

/// A reply's status, promised headers and JSON, with ids, times and tokens shown as `‹form›`.
///
/// That it has the headers of every reply is asserted rather than shown.
pub(crate) fn snapshot(reply: &Reply) -> String {
    for (name, value) in ALWAYS {
        let cache_control = name == "cache-control";
        let said = reply.header(name).unwrap_or_else(|| panic!("no {name}: {reply:?}"));
        assert!(said == value || cache_control && said.starts_with("no-store,"), "{reply:?}");
    }
    let mut text = format!("{}\n", reply.status);
    for name in PROMISED {
        for value in reply.headers.get_all(name) {
            writeln!(text, "{name}: {}", form(value.to_str().unwrap())).unwrap();
        }
    }
    if !reply.body.is_empty() {
        let mut body = reply.json();
        redact(&mut body);
        writeln!(text, "{}", serde_json::to_string_pretty(&body).unwrap()).unwrap();
    }
    text
}

fn redact(value: &mut Value) {
    match value {
        Value::String(text) => *text = form(text),
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Object(fields) => fields.values_mut().for_each(redact),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The name of the form a text has, or the text itself.
fn form(text: &str) -> String {
    let name = if uuid::Uuid::try_parse(text).is_ok_and(|id| id.get_version_num() == 7) {
        "uuid v7"
    } else if chrono::DateTime::parse_from_rfc3339(text).is_ok_and(|_| text.ends_with('Z')) {
        "utc time"
    } else if is_access_token(text) {
        "access token"
    } else if text.strip_prefix("dsr_").is_some_and(|rest| rest.len() == 71 && is_base64url(rest)) {
        "refresh token"
    } else if is_pasted(text, "dsk_") {
        "api key"
    } else if text.strip_prefix("dsk_").is_some_and(|rest| rest.len() == 8 && is_base64url(rest)) {
        "api key's prefix"
    } else if is_pasted(text, "dsi_") {
        "invite"
    } else {
        return text.to_owned();
    };
    format!("‹{name}›")
}

/// A secret that people paste: 30 letters and digits, and 6 that check them.
fn is_pasted(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix)
        .and_then(|rest| rest.split_once('_'))
        .is_some_and(|(body, check)| body.len() == 30 && check.len() == 6)
}

fn is_access_token(text: &str) -> bool {
    let parts: Vec<_> = text.split('.').collect();
    parts.len() == 3 && parts.iter().all(|part| part.len() > 40 && is_base64url(part))
}

fn is_base64url(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}
