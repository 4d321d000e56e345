use std::time::Duration;

use actors::reply::{Notice, Outcome};
use domain::reply::{Answer, FailureCode, FinishReason, Position};
use serde_json::{Value, json};

use super::*;
use crate::dialects::{
    native::sse::tests::{ended, names, request_id},
    openai::{Shape as _, chat::ChatCompletions},
};

/// What every chunk begins and goes on with.
macro_rules! chunk {
    ($rest:literal) => {
        concat!(
            "data: {\"id\":\"chatcmpl-00000000000000000000000000000001\",\"object\":\"chat.completion.chunk\",",
            "\"created\":1790000000,\"model\":\"llama3.2\",\"system_fingerprint\":\"fp_deepersensor\",\"choices\":[",
            $rest,
            "}\n\n"
        )
    };
}

const ROLE: &str = chunk!(r#"{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]"#);

fn frames(with_usage: bool, events: Vec<Event<'_>>) -> String {
    let (mut encoder, mut out) = (Encoder::new(names(), request_id(), with_usage), Vec::new());
    for event in events {
        encoder.encode(event, &mut out);
    }
    String::from_utf8(out).unwrap()
}

const NOWHERE: Position = Position { content: 0, thinking: 0, tool_calls: 0 };

fn call(id: &str) -> ToolCall {
    ToolCall { id: id.into(), name: "now".into(), arguments: json!({"zone": "UTC"}) }
}

#[test]
fn b16_the_frames_of_a_whole_answer_are_these_bytes() {
    let ending = ended(Outcome::Complete(FinishReason::Stop));
    let (named, nameless) = (call("call_1"), call(""));
    let text = frames(
        true,
        vec![
            Event::Queued(Notice { loading: false, position: 2, eta: Some(Duration::from_millis(1_500)) }),
            Event::Queued(Notice { loading: true, position: 0, eta: None }),
            Event::Started,
            Event::Thinking { text: "hm\n", end: NOWHERE },
            Event::Content { text: "a\"\u{2028}\u{85}", end: NOWHERE },
            Event::ToolCall { call: &named, end: NOWHERE },
            Event::ToolCall { call: &nameless, end: NOWHERE },
            Event::Ended { ending: &ending, end: NOWHERE },
        ],
    );
    let expected = [
        ": queue state=waiting position=2 eta_ms=1500\n\n: queue state=loading position=0\n\n",
        ROLE,
        chunk!(
            r#"{"index":0,"delta":{"reasoning":"hm\n","reasoning_content":"hm\n"},"finish_reason":null}]"#
        ),
        chunk!(r#"{"index":0,"delta":{"content":"a\"\u2028\u0085"},"finish_reason":null}]"#),
        chunk!(
            r#"{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"now","arguments":"{\"zone\":\"UTC\"}"}}]},"finish_reason":null}]"#
        ),
        chunk!(
            r#"{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_00000000000000000000000000000001_1","type":"function","function":{"name":"now","arguments":"{\"zone\":\"UTC\"}"}}]},"finish_reason":null}]"#
        ),
        chunk!(r#"{"index":0,"delta":{},"finish_reason":"tool_calls"}],"stored":true"#),
        chunk!(
            r#"],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7,"source":"reported"},"timings":{"queued_ms":5,"load_ms":0,"first_token_ms":7,"total_ms":900}"#
        ),
        "data: [DONE]\n\n",
    ];
    assert_eq!(text, expected.concat());
}

#[test]
fn a_stream_says_what_it_cost_only_if_asked_and_that_it_is_stored_only_if_it_was_to_be() {
    let mut ending = ended(Outcome::Complete(FinishReason::Length));
    ending.stored = None;
    let text = frames(false, vec![Event::Ended { ending: &ending, end: NOWHERE }]);
    let end = chunk!(r#"{"index":0,"delta":{},"finish_reason":"length"}]"#);
    assert_eq!(text, [ROLE, end, "data: [DONE]\n\n"].concat());
}

#[test]
fn b16_a_failure_is_told_and_never_looks_like_an_end() {
    let failed = Outcome::Failed {
        code: FailureCode::UpstreamIncomplete,
        message: "it broke off".to_owned(),
        retry_after: None,
    };
    let ending = ended(failed);
    let text = frames(
        true,
        vec![Event::Content { text: "a", end: NOWHERE }, Event::Ended { ending: &ending, end: NOWHERE }],
    );
    let content = chunk!(r#"{"index":0,"delta":{"content":"a"},"finish_reason":null}]"#);
    let error = "data: {\"error\":{\"code\":\"upstream_incomplete\",\"message\":\"it broke off\",\
        \"type\":\"api_error\",\"param\":null,\"request_id\":\"r-1\"}}\n\n";
    assert_eq!(text, [ROLE, content, error].concat());

    let (mut encoder, mut out) = (Encoder::new(names(), request_id(), true), Vec::new());
    encoder.heartbeat(&mut out);
    encoder.fail(&ApiError::shutting_down(), &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with(": hb\n\ndata: {\"error\":{\"code\":\"server_shutting_down\","), "{text}");
    assert!(text.ends_with("\"retry_after\":5}}\n\n"), "{text}");
}

#[test]
fn probabilities_follow_the_content_that_they_are_of() {
    let token = TokenLogprob { token: "a".into(), logprob: -0.5, bytes: None, top_logprobs: Vec::new() };
    let text =
        frames(false, vec![Event::Content { text: "a", end: NOWHERE }, Event::Logprobs { tokens: &[token] }]);
    let logprobs = chunk!(
        r#"{"index":0,"delta":{"content":""},"logprobs":{"content":[{"token":"a","logprob":-0.5,"bytes":null,"top_logprobs":[]}],"refusal":null},"finish_reason":null}]"#
    );
    assert!(text.ends_with(logprobs), "{text}");
}

#[test]
fn a_whole_answer_says_the_same_in_one_piece() {
    let told = |answer: &Answer| -> Value {
        let (names, ending) = (names(), ended(Outcome::Complete(FinishReason::Stop)));
        serde_json::to_value(ChatCompletions.whole(&names, answer, &ending).unwrap()).unwrap()
    };
    let calling = Answer { thinking: "hm".into(), tool_calls: vec![call("")], ..Answer::default() };
    assert_eq!(
        told(&calling),
        json!({
            "id": "chatcmpl-00000000000000000000000000000001", "object": "chat.completion", "created": 1_790_000_000,
            "model": "llama3.2", "system_fingerprint": "fp_deepersensor",
            "choices": [{
                "index": 0,
                "message": {
                    "role": "assistant", "content": null, "refusal": null, "reasoning": "hm", "reasoning_content": "hm",
                    "tool_calls": [{
                        "id": "call_00000000000000000000000000000001_0", "type": "function",
                        "function": {"name": "now", "arguments": "{\"zone\":\"UTC\"}"},
                    }],
                },
                "logprobs": null,
                "finish_reason": "tool_calls",
            }],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "source": "reported"},
            "timings": {"queued_ms": 5, "load_ms": 0, "first_token_ms": 7, "total_ms": 900},
            "stored": true,
        })
    );
    let plain = told(&Answer { content: "four".into(), ..Answer::default() });
    assert_eq!(
        plain["choices"][0]["message"],
        json!({"role": "assistant", "content": "four", "refusal": null})
    );
    assert_eq!(plain["choices"][0]["finish_reason"], "stop");
    assert_eq!(told(&Answer::default())["choices"][0]["message"]["content"], "");

    let (names, failed) = (
        names(),
        Outcome::Failed { code: FailureCode::UpstreamError, message: "x".to_owned(), retry_after: None },
    );
    let refused = ChatCompletions.whole(&names, &calling, &ended(failed)).err().unwrap();
    assert_eq!(refused.status(), 502);
}
