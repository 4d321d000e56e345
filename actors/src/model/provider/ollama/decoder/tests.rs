//! The decoder against every kind of stream in ollama-wire §12, as bytes.

use domain::reply::{Usage, UsageSource};
use proptest::{collection::vec, prelude::*};
use serde_json::json;

use super::*;
use crate::model::provider::decoded::{Decoded, call, content, decoded};

fn decode_chunks<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    decoded(Decoder::new(), chunks)
}

fn decode(bytes: &[u8]) -> Decoded {
    decode_chunks([bytes])
}

fn thinking(text: &str) -> Delta {
    Delta::Thinking(text.to_owned())
}

fn finish(reason: FinishReason) -> Finish {
    Finish {
        reason,
        usage: Some(Usage { prompt_tokens: 26, completion_tokens: 58, source: UsageSource::Reported }),
        load: Duration::from_millis(60),
    }
}

/// A line with one piece of content, as Ollama writes it; `text` is already escaped.
fn piece(text: &str) -> String {
    format!(
        r#"{{"model":"qwen3:8b","created_at":"2026-08-21T10:00:41.13190214Z","message":{{"role":"assistant","content":"{text}"}},"done":false}}"#
    ) + "\n"
}

fn last(reason: &str) -> String {
    format!(
        r#"{{"model":"qwen3:8b","created_at":"2026-08-21T10:00:41.2Z","message":{{"role":"assistant","content":""}},"done":true,"done_reason":"{reason}","total_duration":1843502117,"load_duration":60000000,"prompt_eval_count":26,"prompt_eval_duration":128441000,"eval_count":58,"eval_duration":1640220000}}"#
    ) + "\n"
}

fn message(fields: &str) -> String {
    format!(
        r#"{{"model":"m","created_at":"2026-08-21T10:00:41Z","message":{{"role":"assistant",{fields}}},"done":false}}"#
    ) + "\n"
}

fn check(name: &str, stream: &str, deltas: &[Delta], end: Result<Finish, UpstreamError>) {
    let decoded = decode(stream.as_bytes());
    assert_eq!((decoded.deltas.as_slice(), &decoded.end), (deltas, &end), "{name}");
    // The same bytes, torn in the least convenient way.
    let torn = decode_chunks(stream.as_bytes().chunks(1));
    assert_eq!(torn, decoded, "{name}, byte by byte");
}

#[test]
fn an_answer_is_its_pieces_and_its_last_words() {
    let stream = piece("a ") + &piece("b") + &last("stop");
    check("normal", &stream, &[content("a b")], Ok(finish(FinishReason::Stop)));
    assert_eq!(decode(stream.as_bytes()).pieces, 2);
    check("no text at all", &last("stop"), &[], Ok(finish(FinishReason::Stop)));
    let with_content = last("stop").replace(r#""content":"""#, r#""content":"end""#);
    check("content on the last line", &with_content, &[content("end")], Ok(finish(FinishReason::Stop)));
}

#[test]
fn the_reason_of_the_end_is_understood_or_taken_for_a_stop() {
    check("length", &last("length"), &[], Ok(finish(FinishReason::Length)));
    check("unknown", &last("weariness"), &[], Ok(finish(FinishReason::Stop)));
    let without = last("stop").replace(r#""done_reason":"stop","#, "");
    check("absent", &without, &[], Ok(finish(FinishReason::Stop)));
}

#[test]
fn counts_that_are_absent_or_nonsense_cost_the_counts_and_nothing_else() {
    let bare = r#"{"model":"m","message":{"role":"assistant","content":"x"},"done":true}"#;
    let nothing = Finish { reason: FinishReason::Stop, usage: None, load: Duration::ZERO };
    check("no metrics", bare, &[content("x")], Ok(nothing));
    let nonsense = r#"{"done":true,"eval_count":-1,"prompt_eval_count":1.5,"load_duration":null}"#;
    check("negative and broken numbers", nonsense, &[], Ok(nothing));
    let half = decode(br#"{"done":true,"eval_count":7}"#).end.unwrap().usage.unwrap();
    assert_eq!((half.prompt_tokens, half.completion_tokens), (0, 7));
    let huge = decode(br#"{"done":true,"eval_count":99999999999}"#).end.unwrap().usage.unwrap();
    assert_eq!(huge.completion_tokens, u32::MAX);
}

#[test]
fn text_arrives_unescaped_and_whole() {
    let stream = piece(r"a \u003c b \u0026 c: 4 ✓ \n\t\\ \u0022q\u0022 \ud83d\ude00😀") + &last("stop");
    check("escapes", &stream, &[content("a < b & c: 4 ✓ \n\t\\ \"q\" 😀😀")], Ok(finish(FinishReason::Stop)));
    let inner = piece(r#"\"},\"done\":false}"#) + &last("stop");
    check(
        "text that looks like the end of a line",
        &inner,
        &[content(r#""},"done":false}"#)],
        Ok(finish(FinishReason::Stop)),
    );
}

#[test]
fn a_character_cut_between_chunks_is_put_together() {
    let stream = piece("😀") + &piece(r"\ud83d\ude00") + &last("stop");
    let bytes = stream.as_bytes();
    for cut in 0..bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        assert_eq!(decode_chunks([head, tail]).deltas, [content("😀😀")], "cut at {cut}");
    }
}

#[test]
fn half_of_a_surrogate_pair_and_bytes_that_are_not_utf8_are_nonsense() {
    for line in [piece(r"\ud83d").into_bytes(), b"{\"message\":{\"content\":\"\xf0\x9f\"}}\n".to_vec()] {
        let decoded = decode(&line);
        assert!(matches!(decoded.end, Err(UpstreamError::Garbage(_))), "{decoded:?}");
    }
}

#[test]
fn thinking_comes_before_content_also_on_a_mixed_line() {
    let stream = message(r#""content":"","thinking":"Two plus""#)
        + &message(r#""content":"4","thinking":" two""#)
        + &message(r#""content":"!""#)
        + &last("stop");
    let deltas = [thinking("Two plus two"), content("4!")];
    check("thinking", &stream, &deltas, Ok(finish(FinishReason::Stop)));
    assert_eq!(decode(stream.as_bytes()).pieces, 3);
}

#[test]
fn tool_calls_come_whole_in_the_middle_or_on_the_last_line() {
    let on_last = last("stop").replace(
        r#""content":"""#,
        r#""content":"","tool_calls":[{"id":"call_k3x9a0bz","function":{"index":0,"name":"get_weather","arguments":{"city":"Oslo","days":2}}}]"#,
    );
    let weather = call("call_k3x9a0bz", "get_weather", json!({"city": "Oslo", "days": 2}));
    check("on the last line", &on_last, &[weather], Ok(finish(FinishReason::ToolCalls)));
    let middle = message(
        r#""content":"","tool_calls":[{"function":{"index":0,"name":"f","arguments":{"z":1,"a":2}}},{"function":{"index":1,"name":"g","arguments":{}}}]"#,
    ) + &last("stop");
    let calls = [call("made up", "f", json!({"z": 1, "a": 2})), call("made up", "g", json!({}))];
    check("in the middle, without ids", &middle, &calls, Ok(finish(FinishReason::ToolCalls)));
    let Delta::ToolCall(first) = &decode(middle.as_bytes()).deltas[0] else { panic!("no call") };
    assert_eq!(first.arguments.to_string(), r#"{"z":1,"a":2}"#, "the order of the keys is kept");
    let cut = middle.replace(r#""stop""#, r#""length""#);
    assert_eq!(decode(cut.as_bytes()).end, Ok(finish(FinishReason::Length)));
}

#[test]
fn arguments_are_an_object_or_the_call_is_nonsense() {
    let with = |arguments: &str| {
        decode(
            message(&format!(r#""tool_calls":[{{"id":"i","function":{{"name":"f"{arguments}}}}}]"#))
                .as_bytes(),
        )
    };
    for (arguments, expected) in [
        ("", json!({})),
        (r#","arguments":null"#, json!({})),
        (r#","arguments":"{\"a\":1}""#, json!({"a": 1})),
        // Not what was asked of the model, and not for its server to answer for.
        (r#","arguments":"x""#, json!("x")),
        (r#","arguments":[1]"#, json!([1])),
        (r#","arguments":3"#, json!(3)),
    ] {
        assert_eq!(with(arguments).deltas, [call("i", "f", expected)], "{arguments}");
    }
}

#[test]
fn lines_without_text_are_no_pieces() {
    let stream =
        message(r#""content":"","logprobs":[{"token":"a","logprob":-1}]"#) + &piece("") + &last("stop");
    check("logprobs", &stream, &[], Ok(finish(FinishReason::Stop)));
    assert_eq!(decode(stream.as_bytes()).pieces, 0);
}

#[test]
fn an_error_line_ends_the_answer_with_its_words() {
    let failed = |words: &str| Err(UpstreamError::Failed(words.to_owned()));
    let stream = piece("a") + "{\"error\":\"boom\"}\n" + &last("stop");
    check("in the middle", &stream, &[content("a")], failed("boom"));
    check("without a line feed", &(piece("a") + r#"{"error":"boom"}"#), &[content("a")], failed("boom"));
    let nested = r#"{"error":"{\"error\":{\"message\":\"inner\"}}"}"#;
    check("nested", nested, &[], failed("inner"));
    let beside = r#"{"model":"m","error":"boom","message":{"role":"assistant","content":"x"},"done":false}"#;
    check("beside content", beside, &[], failed("boom"));
    let none =
        r#"{"error":null,"done":true,"eval_count":58,"prompt_eval_count":26,"load_duration":60000000}"#;
    check("null is none", none, &[], Ok(finish(FinishReason::Stop)));
}

#[test]
fn a_stream_that_ends_without_its_last_line_is_incomplete() {
    check("clean end", &piece("a"), &[content("a")], Err(UpstreamError::Incomplete));
    check(
        "half a line",
        &(piece("a") + r#"{"model":"m","mess"#),
        &[content("a")],
        Err(UpstreamError::Incomplete),
    );
    check("nothing", "", &[], Err(UpstreamError::Incomplete));
    check(
        "no line feed after a piece",
        piece("a").trim_end(),
        &[content("a")],
        Err(UpstreamError::Incomplete),
    );
}

#[test]
fn a_last_line_without_its_line_feed_counts() {
    let stream = piece("a") + last("stop").trim_end();
    check("no line feed", &stream, &[content("a")], Ok(finish(FinishReason::Stop)));
}

#[test]
fn what_follows_the_last_line_is_ignored() {
    let stream = piece("a") + &last("stop") + &last("length") + &piece("b") + "<html>";
    check("bytes after the end", &stream, &[content("a")], Ok(finish(FinishReason::Stop)));
}

#[test]
fn blank_lines_carriage_returns_and_a_byte_order_mark_are_no_text() {
    let stream = format!("\u{feff}{}\n \r\n\r\n{}", piece("a"), last("stop")).replace('\n', "\r\n");
    check("line ends", &stream, &[content("a")], Ok(finish(FinishReason::Stop)));
}

#[test]
fn what_is_no_json_object_is_nonsense() {
    for line in
        ["<html>\n", "[]\n", "nonsense\n", "{\"message\":3}\n", "{\"done\":\"yes\"}\n", "\"x\"\n", "{}x\n"]
    {
        let decoded = decode((piece("a") + line).as_bytes());
        assert!(matches!(decoded.end, Err(UpstreamError::Garbage(_))), "{line:?}: {decoded:?}");
        assert_eq!(decoded.deltas, [content("a")], "what came before is kept");
    }
    let deep = format!("{{\"message\":{}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(decode(deep.as_bytes()).end, Err(UpstreamError::Garbage(_))));
}

#[test]
fn many_lines_in_one_chunk_are_one_delta_and_all_their_pieces() {
    let stream: String = (0..20).map(|n| piece(&n.to_string())).collect();
    let mut batch = Batch::default();
    Decoder::new().feed(stream.as_bytes(), &mut batch).unwrap();
    assert_eq!((batch.deltas.len(), batch.pieces), (1, 20));
}

#[test]
fn a_huge_line_is_read_and_an_endless_one_trips_the_limit() {
    let huge = format!(r#"{{"done":true,"context":[{}0]}}"#, "123456,".repeat(300_000));
    assert!(decode_chunks(huge.as_bytes().chunks(64 << 10)).end.is_ok());
    let mut decoder = Decoder::new();
    let (chunk, mut batch, mut fed) = (vec![b'x'; 64 << 10], Batch::default(), 0);
    let tripped = loop {
        match decoder.feed(&chunk, &mut batch) {
            Ok(()) => fed += chunk.len(),
            Err(error) => break error,
        }
    };
    assert_eq!(
        (fed, tripped),
        (LINE_BYTES_MAX, UpstreamError::Garbage("a line of more than 16777216 bytes".to_owned()))
    );
    let mut small = Decoder::with_line_bytes_max(8);
    assert!(small.feed(b"\n12345678\n", &mut batch).is_err(), "whole and within the limit, but no JSON");
    assert_eq!(
        Decoder::with_line_bytes_max(8).feed(b"123456789\n", &mut batch),
        Err(UpstreamError::Garbage("a line of more than 8 bytes".to_owned())),
        "the limit holds for a line in one chunk too"
    );
}

/// Lines that occur, in any order and number.
fn any_line() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => any::<String>().prop_map(|text| {
            let literal = serde_json::to_string(&text).unwrap();
            piece(&literal[1..literal.len() - 1])
        }),
        2 => any::<String>().prop_map(|text| message(&format!(r#""content":"c","thinking":{}"#, json!(text)))),
        1 => Just(message(r#""tool_calls":[{"function":{"name":"f","arguments":{"a":"\u00e9"}}}]"#)),
        1 => Just("\r\n".to_owned()),
        1 => Just(last("stop")),
        1 => Just("{\"error\":\"boom\"}\n".to_owned()),
        1 => Just("{\"model\":\"m\",\"mess\n".to_owned()),
    ]
}

proptest! {
    #[test]
    fn the_same_bytes_mean_the_same_however_they_are_cut(
        lines in vec(any_line(), 0..12),
        cuts in vec(any::<prop::sample::Index>(), 0..24),
        dropped in 0_usize..4,
    ) {
        let mut bytes = lines.concat().into_bytes();
        bytes.truncate(bytes.len().saturating_sub(dropped));
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let mut chunks = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            chunks.push(&bytes[from..cut]);
            from = cut;
        }
        prop_assert_eq!(decode_chunks(chunks), decode(&bytes));
    }

    #[test]
    fn the_short_way_and_the_json_parser_read_the_same_text(text in any::<String>()) {
        let literal = serde_json::to_string(&text).unwrap();
        let content = piece(&literal[1..literal.len() - 1]);
        let thinking = message(&format!(r#""content":"","thinking":{literal}"#));
        for line in [content, thinking] {
            let short = plain_piece(line.trim_end().as_bytes()).expect("the short way knows this form");
            prop_assert_eq!(short.text(), &text);
            let parsed: Line<'_> = serde_json::from_str(&line).unwrap();
            let message = parsed.message.unwrap();
            match short {
                Piece::Content(short) => prop_assert_eq!(message.content, short),
                Piece::Thinking(short) => prop_assert_eq!(message.thinking, short),
            }
        }
    }

    #[test]
    fn the_short_way_takes_no_line_that_the_json_parser_would_not(
        middle in "[\"\\\\,:{}a-z]{0,24}",
        second in any::<bool>(),
    ) {
        let middle = if second { format!(r#"","thinking":"{middle}"#) } else { middle };
        let line = piece(&middle);
        if let Some(short) = plain_piece(line.trim_end().as_bytes()) {
            let parsed: Line<'_> = serde_json::from_str(&line).unwrap();
            prop_assert!(!parsed.done && parsed.error.is_none());
            let message = parsed.message.unwrap();
            prop_assert_eq!(message.content + message.thinking, short.text());
        }
    }

    #[test]
    fn no_bytes_make_it_grow_past_its_bound(
        bytes in vec(prop_oneof![9 => Just(b'x'), 1 => Just(b'\n'), 1 => Just(b' ')], 0..400),
        cut in 1_usize..64,
    ) {
        const BOUND: usize = 32;
        let mut decoder = Decoder::with_line_bytes_max(BOUND);
        for chunk in bytes.chunks(cut) {
            let fed = decoder.feed(chunk, &mut Batch::default());
            prop_assert!(decoder.tail.len() <= BOUND);
            if fed.is_err() {
                break;
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..400), cut in 1_usize..64) {
        decode_chunks(bytes.chunks(cut));
    }

    #[test]
    fn no_damage_to_a_good_stream_makes_it_panic(
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut bytes = (piece(r"a \u003c") + &message(r#""content":"","thinking":"x""#) + &last("stop")).into_bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        decode(&bytes);
    }
}
