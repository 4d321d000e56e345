//! The decoder against what OpenAI-compatible servers send, as bytes.

use domain::{reply::UsageSource, secret::Secret};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::*;
use crate::model::provider::decoded::{Decoded, call, content, decoded};

fn decode_chunks<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    decoded(Decoder::new(Meaning::new(Some(Secret::new("sk-canary".to_owned())))), chunks)
}

fn decode(stream: &str) -> Decoded {
    let decoded = decode_chunks([stream.as_bytes()]);
    // The same bytes, torn in the least convenient way.
    assert_eq!(decode_chunks(stream.as_bytes().chunks(1)), decoded, "byte by byte: {stream}");
    decoded
}

fn event(chunk: &Value) -> String {
    format!("data: {chunk}\n\n")
}

/// A chunk of an answer.
fn delta(delta: Value) -> String {
    event(&json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
                  "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": null}]}))
}

fn finished(reason: &str) -> String {
    event(&json!({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
}

fn counts() -> String {
    event(&json!({"id": "chatcmpl-1", "choices": [], "usage":
                  {"prompt_tokens": 26, "completion_tokens": 58, "total_tokens": 84}}))
}

const DONE: &str = "data: [DONE]\n\n";

fn finish(reason: FinishReason) -> Result<Finish, UpstreamError> {
    let usage = Usage { prompt_tokens: 26, completion_tokens: 58, source: UsageSource::Reported };
    Ok(Finish { reason, usage: Some(usage), load: Duration::ZERO })
}

fn piece(text: &str) -> String {
    delta(json!({ "content": text }))
}

#[test]
fn an_answer_is_its_pieces_its_reason_and_its_counts() {
    let role = delta(json!({"role": "assistant", "content": ""}));
    let stream = [&*role, &piece("a "), &piece("b 😀"), &finished("stop"), &counts(), DONE].concat();
    let decoded = decode(&stream);
    assert_eq!((&decoded.deltas, decoded.pieces), (&vec![content("a b 😀")], 2));
    assert_eq!(decoded.end, finish(FinishReason::Stop));
    let cut = [&*piece("a"), &finished("length"), &counts(), DONE].concat();
    assert_eq!(decode(&cut).end, finish(FinishReason::Length));
    let odd = [&*piece("a"), &finished("weariness"), &counts(), DONE].concat();
    assert_eq!(decode(&odd).end, finish(FinishReason::Stop));
    let refused = [&*delta(json!({"refusal": "no"})), &finished("stop"), DONE].concat();
    assert_eq!(decode(&refused).deltas, [content("no")]);
}

#[test]
fn the_end_is_where_either_sign_of_it_is() {
    for stream in [
        piece("a") + &counts() + DONE,
        piece("a") + &finished("stop") + &counts(),
        piece("a") + &finished("stop") + counts().trim_end(),
        piece("a") + &counts() + DONE.trim_end(),
        piece("a") + &finished("stop") + &counts() + DONE + &piece("b") + "data: <html>\n\n",
    ] {
        let decoded = decode(&stream);
        assert_eq!(
            (decoded.deltas, decoded.end),
            (vec![content("a")], finish(FinishReason::Stop)),
            "{stream}"
        );
    }
    for stream in
        [piece("a"), piece("a") + "data: {\"choices\":[{\"del", piece("a") + &counts(), String::new()]
    {
        assert_eq!(decode(&stream).end, Err(UpstreamError::Incomplete), "{stream}");
    }
}

#[test]
fn thinking_has_two_names_and_comes_before_the_content() {
    let stream = delta(json!({"reasoning_content": "Two plus"}))
        + &delta(json!({"reasoning": " two"}))
        + &delta(json!({"content": "4", "reasoning": "!", "reasoning_content": "!"}))
        + &finished("stop")
        + DONE;
    let decoded = decode(&stream);
    assert_eq!(decoded.deltas, [Delta::Thinking("Two plus two!".to_owned()), content("4")]);
    assert_eq!((decoded.pieces, decoded.end.unwrap().usage), (3, None));
}

#[test]
fn tool_calls_are_put_together_from_their_pieces() {
    let calls = |calls: Value| delta(json!({ "tool_calls": calls }));
    let stream = calls(
        json!([{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]),
    ) + &calls(json!([{"index": 0, "function": {"arguments": "{\"z\":1,"}}]))
        + &calls(json!([{"index": 1, "id": "c2", "function": {"name": "g", "arguments": "{"}}]))
        + &calls(
            json!([{"index": 0, "function": {"arguments": "\"a\":2}"}}, {"index": 1, "function": {"arguments": "}"}}]),
        )
        + &finished("tool_calls")
        + &counts()
        + DONE;
    let decoded = decode(&stream);
    assert_eq!(decoded.deltas, [call("c1", "f", json!({"z": 1, "a": 2})), call("c2", "g", json!({}))]);
    assert_eq!(decoded.end, finish(FinishReason::ToolCalls));
    let Delta::ToolCall(first) = &decoded.deltas[0] else { panic!("no call") };
    assert_eq!(first.arguments.to_string(), r#"{"z":1,"a":2}"#, "the order of the keys is kept");
}

#[test]
fn calls_without_indexes_ids_or_a_reason_are_understood() {
    let calls = |calls: Value| delta(json!({ "tool_calls": calls }));
    let stream = calls(json!([{"id": "c1", "function": {"name": "f", "arguments": "{}"}}]))
        + &calls(json!([{"id": "c2", "function": {"name": "g", "arguments": "{\"a\":"}}]))
        + &calls(json!([{"function": {"arguments": "1}"}}]))
        + &finished("stop")
        + DONE;
    let decoded = decode(&stream);
    assert_eq!(decoded.deltas, [call("c1", "f", json!({})), call("c2", "g", json!({"a": 1}))]);
    assert_eq!(decoded.end.unwrap().reason, FinishReason::ToolCalls);
    let bare = calls(json!([{"index": 0, "function": {"name": "f", "arguments": {"a": 1}}}])) + DONE;
    assert_eq!(decode(&bare).deltas, [call("made up", "f", json!({"a": 1}))]);
}

#[test]
fn what_a_model_wrote_for_a_call_is_told_as_it_is_but_for_what_was_cut_or_has_no_name() {
    let half = |reason: &str| {
        let given = json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{\"a\":"}}]});
        decode(&(delta(given) + &finished(reason) + &counts() + DONE))
    };
    assert_eq!(half("tool_calls").deltas, [call("c", "f", json!("{\"a\":"))]);
    let cut = half("length");
    assert_eq!((cut.deltas.len(), cut.end), (0, finish(FinishReason::Length)));
    for (arguments, told) in [("[1]", json!([1])), ("3", json!(3)), ("\"x\"", json!("x"))] {
        let given = json!({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": arguments}}]});
        let decoded = decode(&(delta(given) + &finished("tool_calls") + DONE));
        assert_eq!(decoded.deltas, [call("made up", "f", told)], "{arguments}");
    }
    let nameless = json!({"tool_calls": [{"index": 0, "id": "c", "function": {"arguments": "{}"}}]});
    let decoded = decode(&(delta(nameless) + &finished("tool_calls") + DONE));
    assert!(decoded.deltas.is_empty() && decoded.end.is_ok());
}

#[test]
fn calls_without_end_trip_their_bounds() {
    let endless = |text: &str, step: u64| {
        let mut decoder = Decoder::new(Meaning::default());
        (0..100_000_u64)
            .find_map(|place| {
                let call = json!({"tool_calls": [{"index": place * step, "function": {"name": "f", "arguments": text}}]});
                decoder.feed(delta(call).as_bytes(), &mut Batch::default()).err()
            })
            .expect("a bound")
    };
    for error in [endless(&"x".repeat(64 << 10), 0), endless("{}", 1)] {
        assert_eq!(error, UpstreamError::TooLarge);
    }
}

#[test]
fn probabilities_come_in_the_shape_of_a_chat_or_of_a_continued_text() {
    let chat = event(&json!({"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [
        {"token": "a", "logprob": -0.25, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1.5, "bytes": null}]}]}}]}));
    let text = event(&json!({"choices": [{"index": 0, "text": "a", "logprobs": {
        "tokens": ["a"], "token_logprobs": [-0.25], "top_logprobs": [{"b": -1.5}], "text_offset": [0]}}]}));
    for (stream, bytes) in [(chat, None), (text, Some(vec![b'b']))] {
        let decoded = decode(&(stream + DONE));
        let [Delta::Content(text), Delta::Logprobs(tokens)] = &decoded.deltas[..] else {
            panic!("{decoded:?}")
        };
        assert_eq!((text.as_str(), tokens.len()), ("a", 1));
        let told = &tokens[0];
        assert_eq!((told.token.as_str(), told.logprob, told.bytes.as_deref()), ("a", -0.25, Some(&b"a"[..])));
        let other = &told.top_logprobs[0];
        assert_eq!((other.token.as_str(), other.logprob, &other.bytes), ("b", -1.5, &bytes));
    }
}

#[test]
fn an_error_in_the_middle_ends_the_answer_with_its_words_and_without_the_key() {
    let failed = |words: &str| Err(UpstreamError::Failed(words.to_owned()));
    for (error, expected) in [
        (json!({"error": {"message": "boom for sk-canary", "type": "server_error"}}), failed("boom for […]")),
        (json!({"error": "boom"}), failed("boom")),
        (
            json!({"error": {"message": "too long", "code": 400}}),
            Err(UpstreamError::Rejected("too long".to_owned())),
        ),
    ] {
        let decoded = decode(&(piece("a") + &event(&error) + &piece("b") + DONE));
        assert_eq!((decoded.deltas, decoded.end), (vec![content("a")], expected));
    }
    for reason in ["error", "abort"] {
        assert!(matches!(
            decode(&(piece("a") + &finished(reason) + DONE)).end,
            Err(UpstreamError::Failed(_))
        ));
    }
}

#[test]
fn comments_nulls_and_strange_fields_are_no_text() {
    let stream = format!(
        ": PROCESSING\n\nevent: ping\ndata:\n\n{}{}{}{}",
        event(&json!({"error": null, "choices": null, "usage": null, "x_groq": {"id": 1}})),
        event(&json!({"choices": [{"index": 0, "delta": {"content": null, "tool_calls": null}, "finish_reason": ""}]})),
        event(&json!({"choices": [{"delta": {"content": "a"}}], "usage": {"prompt_tokens": -1, "completion_tokens": "many"}})).replace("\"many\"", "58"),
        DONE
    );
    let decoded = decode(&stream);
    assert_eq!((decoded.deltas, decoded.pieces), (vec![content("a")], 1));
    let usage = decoded.end.unwrap().usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (0, 58));
}

#[test]
fn what_is_no_json_object_is_nonsense_and_what_came_before_is_kept() {
    for event in ["<html>", "[]", "nonsense", "{\"choices\":3}", "\"x\"", "{}x", "[done]"] {
        let decoded = decode(&format!("{}data: {event}\n\n{DONE}", piece("a")));
        assert!(matches!(decoded.end, Err(UpstreamError::Garbage(_))), "{event:?}: {decoded:?}");
        assert_eq!(decoded.deltas, [content("a")]);
    }
}

/// Events that occur, in any order and number.
fn any_event() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => any::<String>().prop_map(|text| piece(&text)),
        2 => any::<String>().prop_map(|text| delta(json!({"content": "c", "reasoning": text}))),
        1 => Just(delta(json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]}))),
        1 => Just(delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}))),
        1 => Just(": comment\r\n\r\n".to_owned()),
        1 => Just(finished("stop")),
        1 => Just(counts()),
        1 => Just(DONE.to_owned()),
        1 => Just("data: {\"error\":\"boom\"}\n\n".to_owned()),
        1 => Just("data: {\"choices\":\n\n".to_owned()),
    ]
}

proptest! {
    #[test]
    fn the_same_bytes_mean_the_same_however_they_are_cut(
        events in vec(any_event(), 0..12),
        cuts in vec(any::<prop::sample::Index>(), 0..24),
        dropped in 0_usize..4,
    ) {
        let mut bytes = events.concat().into_bytes();
        bytes.truncate(bytes.len().saturating_sub(dropped));
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let mut from = 0;
        let chunks: Vec<&[u8]> = cuts
            .into_iter()
            .chain([bytes.len()])
            .map(|cut| &bytes[std::mem::replace(&mut from, cut)..cut])
            .collect();
        prop_assert_eq!(decode_chunks(chunks), decode_chunks([&bytes[..]]));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..400), cut in 1_usize..64) {
        decode_chunks(bytes.chunks(cut));
    }

    #[test]
    fn no_damage_to_a_good_stream_makes_it_panic(
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut bytes = (piece("a < b") + &finished("stop") + &counts() + DONE).into_bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        decode_chunks([&bytes[..]]);
    }
}
