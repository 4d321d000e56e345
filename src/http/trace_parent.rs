//! Whether a request goes on with a trace that somebody else began (W3C Trace Context, `traceparent` and `tracestate`).
//!
//! Only a trusted proxy is believed, as with the request's name: a stranger could otherwise write into traces of others, have
//! each of their requests recorded, or none. What cannot be read exactly as it is defined begins a new trace.

use actors::trace::Parent;
use http::{HeaderMap, HeaderName};
use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// All that is defined fits; later versions may say more.
const PARENT_BYTES_MAX: usize = 128;

/// What vendors must keep (the standard asks for at least as much).
const STATE_BYTES_MAX: usize = 512;

/// The span of a trusted proxy that this request is part of, if it is.
pub(super) fn parent(headers: &HeaderMap, peer_is_trusted: bool) -> Option<Parent> {
    let headers = Some(headers).filter(|_| peer_is_trusted)?;
    let (trace, span, flags) = read(only(headers, &TRACEPARENT)?)?;
    Some(Parent::new(trace, span, flags, true, state(headers)))
}

/// The value of a header that is there once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|value| value.len() <= PARENT_BYTES_MAX)?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

/// `00-<trace>-<span>-<flags>`; a later version may go on behind another dash.
fn read(text: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let mut parts = text.split('-');
    let mut part = |chars| parts.next().filter(|part| is_hex(part, chars));
    let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    if version == "ff" || version == "00" && parts.next().is_some() {
        return None;
    }
    let trace = TraceId::from_hex(trace).ok().filter(|id| *id != TraceId::INVALID)?;
    let span = SpanId::from_hex(span).ok().filter(|id| *id != SpanId::INVALID)?;
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    Some((trace, span, flags))
}

fn is_hex(text: &str, chars: usize) -> bool {
    text.len() == chars && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What vendors have to say; nothing when it is not as it should be.
fn state(headers: &HeaderMap) -> TraceState {
    let lines: Option<Vec<&str>> =
        headers.get_all(&TRACESTATE).iter().map(|line| line.to_str().ok()).collect();
    let text = lines.unwrap_or_default().join(",");
    if text.len() > STATE_BYTES_MAX || !text.split(',').all(is_member) {
        return TraceState::default();
    }
    text.parse().unwrap_or_default()
}

/// `key=value`; the library lets more pass.
fn is_member(text: &str) -> bool {
    let Some((key, value)) = text.trim().split_once('=') else { return false };
    let is_of_a_key = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    let is_of_a_value = |byte| matches!(byte, b' '..=b'~') && byte != b'=';
    !key.is_empty() && key.bytes().all(is_of_a_key) && !value.is_empty() && value.bytes().all(is_of_a_value)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn given(lines: &[(&'static str, &str)], is_trusted: bool) -> Option<Parent> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        parent(&headers, is_trusted)
    }

    fn believed(text: &str) -> bool {
        given(&[("traceparent", text)], true).is_some()
    }

    #[test]
    fn b13_a_trusted_proxy_may_go_on_with_its_trace_and_a_stranger_may_not() {
        let lines = [("traceparent", &*format!("00-{TRACE}-{SPAN}-01")), ("tracestate", "a=1,b=2")];
        let parent = given(&lines, true).unwrap();
        assert_eq!(
            (parent.trace_id().to_string(), parent.span_id().to_string()),
            (TRACE.into(), SPAN.into())
        );
        assert!(parent.is_sampled() && parent.is_remote());
        assert_eq!(parent.trace_state().header(), "a=1,b=2");
        assert!(given(&lines, false).is_none());
        let unsampled = given(&[("traceparent", &format!("00-{TRACE}-{SPAN}-02"))], true).unwrap();
        assert!(!unsampled.is_sampled(), "an unknown flag is none of ours");
    }

    #[test]
    fn b13_what_is_no_traceparent_begins_a_new_trace() {
        let nulls = "0".repeat(32);
        let short = &TRACE[1..];
        let upper = TRACE.to_uppercase();
        let long = format!("01-{TRACE}-{SPAN}-01-{}", "x".repeat(100));
        for text in [
            "",
            "x",
            "00",
            &format!("00-{TRACE}-{SPAN}"),
            &format!("00-{TRACE}-{SPAN}-01-more"),
            &format!("00-{TRACE}-{SPAN}-1"),
            &format!("00-{TRACE}-{SPAN}-0g"),
            &format!("0-{TRACE}-{SPAN}-01"),
            &format!("ff-{TRACE}-{SPAN}-01"),
            &format!("00-{nulls}-{SPAN}-01"),
            &format!("00-{TRACE}-{}-01", &nulls[..16]),
            &format!("00-{short}-{SPAN}-01"),
            &format!("00-+{short}-{SPAN}-01"),
            &format!("00-{upper}-{SPAN}-01"),
            &format!(" 00-{TRACE}-{SPAN}-01"),
            &format!("00-{TRACE}-{SPAN}-01\u{e9}"),
            &long,
        ] {
            assert!(!believed(text), "{text:?}");
        }
        assert!(believed(&format!("00-{TRACE}-{SPAN}-00")));
        assert!(believed(&format!("01-{TRACE}-{SPAN}-01-more")), "a later version may say more");
        let twice = format!("00-{TRACE}-{SPAN}-01");
        assert!(given(&[("traceparent", &twice), ("traceparent", &twice)], true).is_none());
    }

    #[test]
    fn b13_a_tracestate_that_is_none_or_too_long_is_left_out() {
        let parent = format!("00-{TRACE}-{SPAN}-01");
        let with = |states: &[&str]| {
            let mut lines = vec![("traceparent", parent.as_str())];
            lines.extend(states.iter().map(|state| ("tracestate", *state)));
            given(&lines, true).unwrap().trace_state().header()
        };
        assert_eq!(with(&["a=1", "b=2"]), "a=1,b=2");
        for state in ["no", "=", "A B=1", "a=\u{e9}", &format!("a={}", "x".repeat(512))] {
            assert_eq!(with(&[state]), "", "{state:?}");
        }
    }
}
