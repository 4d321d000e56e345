//! Which words of a model server may travel.
//!
//! They are written for its own operator: they hold paths, ports of its runners and sometimes a second JSON document. What leaves
//! here is one short line without any of these.

use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::Value;

/// The most characters of a server's words that we keep.
const TEXT_CHARS_MAX: usize = 300;

#[derive(Deserialize)]
struct ErrorBody {
    error: Value,
}

/// The words of an `error` value: a string, a string that is itself an error document (unwrapped once), or an object with a
/// `message`. Anything else is no error.
pub(in crate::model::provider) fn text_of(error: &Value) -> Option<String> {
    let Value::String(text) = error else { return message_of(error) };
    let nested = serde_json::from_str::<ErrorBody>(text).ok().and_then(|nested| match nested.error {
        Value::String(text) => Some(text),
        other => message_of(&other),
    });
    Some(nested.unwrap_or_else(|| text.clone()))
}

fn message_of(error: &Value) -> Option<String> {
    error.get("message").and_then(Value::as_str).map(str::to_owned)
}

/// Makes one short line of a server's words, without paths, addresses and control characters.
pub(in crate::model::provider) fn sanitise(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(if is_inner_detail(word) { "[…]" } else { word });
    }
    if let Some((cut, _)) = line.char_indices().nth(TEXT_CHARS_MAX) {
        line.truncate(cut);
        line.push('…');
    }
    line
}

fn is_inner_detail(word: &str) -> bool {
    let bare = word.trim_matches(|c: char| {
        matches!(c, '"' | '\'' | '`' | '(' | ')' | '[' | ']' | ',' | ';' | ':' | '.')
    });
    let is_windows_path = bare.as_bytes().get(1..3) == Some(b":\\");
    word.contains("://")
        || bare.contains("=/")
        || bare.contains("/.ollama")
        || (bare.len() > 1 && bare.starts_with(['/', '~', '\\']))
        || is_windows_path
        || bare.parse::<SocketAddr>().is_ok()
        || bare.rsplit("->").any(|part| part.parse::<SocketAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_addresses_and_control_characters_do_not_travel() {
        assert_eq!(
            sanitise(
                "open /usr/share/ollama/.ollama/models/blobs/sha256-1: no\tsuch\nfile \u{7} at 'C:\\models\\x' via http://10.0.0.1:80/x"
            ),
            "open […] no such file at […] via […]"
        );
        assert_eq!(sanitise("dial tcp 127.0.0.1:39001: refused"), "dial tcp […] refused");
        let kept = "registry.ollama.ai/library/m:latest does not support tools";
        assert_eq!(sanitise(kept), kept);
        assert_eq!(sanitise(&"é".repeat(1_000)).chars().count(), TEXT_CHARS_MAX + 1);
    }
}
