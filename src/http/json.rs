//! JSON as we write it, and the bound on how deep we read it.

mod strict;

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

pub(crate) use self::strict::{Strict, from_slice};

/// How deep arrays and objects of a request may nest.
pub(crate) const DEPTH_MAX: usize = 64;

/// Compact, with U+0085, U+2028 and U+2029 escaped: some clients split lines there (ollama-wire §9).
struct OneLine;

impl Formatter for OneLine {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let bytes = fragment.as_bytes();
        let mut written = 0;
        let mut at = 0;
        while at < bytes.len() {
            let (escape, width): (&[u8], usize) = match bytes[at] {
                0xC2 if bytes[at..].starts_with(b"\xC2\x85") => (b"\\u0085", 2),
                0xE2 if bytes[at..].starts_with(b"\xE2\x80\xA8") => (b"\\u2028", 3),
                0xE2 if bytes[at..].starts_with(b"\xE2\x80\xA9") => (b"\\u2029", 3),
                _ => {
                    at += 1;
                    continue;
                }
            };
            out.write_all(&bytes[written..at])?;
            out.write_all(escape)?;
            at += width;
            written = at;
        }
        out.write_all(&bytes[written..])
    }
}

/// Appends `value` to `out` as one line of JSON.
///
/// Writing to memory cannot fail, and none of our types refuses to serialise; should one ever, `null` is written, so
/// that what surrounds it stays well-formed.
pub(crate) fn append<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let start = out.len();
    if value.serialize(&mut Serializer::with_formatter(&mut *out, OneLine)).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

/// Whether `text` begins as an object does, or is blank. serde would take an array for a struct, field by field.
pub(crate) fn may_be_object(text: &[u8]) -> bool {
    text.trim_ascii_start().first().is_none_or(|first| *first == b'{')
}

/// Whether `text` opens more than `max` brackets at once. Strings are skipped; what is not JSON may give either answer,
/// since the parser refuses it next.
pub(crate) fn is_deeper_than(text: &[u8], max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        let mut out = Vec::new();
        append(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn line_ends_that_only_some_clients_know_are_escaped() {
        assert_eq!(written("a\u{85}b\u{2028}c\u{2029}"), r#""a\u0085b\u2028c\u2029""#);
        assert_eq!(written("é\u{20ac}\u{c2}😀\"\\\n"), "\"é\u{20ac}\u{c2}😀\\\"\\\\\\n\"");
        assert_eq!(
            serde_json::from_str::<String>(&written("\u{2028}\u{2028}x")).unwrap(),
            "\u{2028}\u{2028}x"
        );
    }

    #[test]
    fn b05_nesting_is_counted_outside_strings_only() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!is_deeper_than(nested(64).as_bytes(), DEPTH_MAX));
        assert!(is_deeper_than(nested(65).as_bytes(), DEPTH_MAX));
        assert!(is_deeper_than("{\"a\":".repeat(65).as_bytes(), DEPTH_MAX));
        let text = format!(r#"{{"a":"{}\"{}"}}"#, "[".repeat(100), "{".repeat(100));
        assert!(!is_deeper_than(text.as_bytes(), DEPTH_MAX));
        assert!(!is_deeper_than("[],".repeat(1_000).as_bytes(), DEPTH_MAX));
    }
}
