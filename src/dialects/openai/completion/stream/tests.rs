use actors::reply::Outcome;
use domain::reply::{Answer, FinishReason, Position, TokenLogprob};
use serde_json::{Value, json};

use super::*;
use crate::dialects::{
    native::sse::tests::{ended, names, request_id},
    openai::{Shape as _, completion::Completions},
};

const NOWHERE: Position = Position { content: 0, thinking: 0, tool_calls: 0 };

fn token(text: &str) -> TokenLogprob {
    TokenLogprob { token: text.into(), logprob: -0.5, bytes: None, top_logprobs: Vec::new() }
}

#[test]
fn b16_the_frames_of_a_text_are_these_bytes() {
    let ending = ended(Outcome::Complete(FinishReason::Length));
    let (mut encoder, mut out) = (Encoder::new(names(), request_id(), true), Vec::new());
    let (first, second) = ([token("one"), token(" é")], [token(" two")]);
    for event in [
        Event::Started,
        Event::Thinking { text: "unheard", end: NOWHERE },
        Event::Content { text: "one é", end: NOWHERE },
        Event::Logprobs { tokens: &first },
        Event::Content { text: " two", end: NOWHERE },
        Event::Logprobs { tokens: &second },
        Event::Ended { ending: &ending, end: NOWHERE },
    ] {
        encoder.encode(event, &mut out);
    }
    let head = "data: {\"id\":\"cmpl-00000000000000000000000000000001\",\"object\":\"text_completion\",\
        \"created\":1790000000,\"model\":\"llama3.2\",\"system_fingerprint\":\"fp_deepersensor\",\"choices\":[";
    let expected: String = [
        r#"{"index":0,"text":"one é","logprobs":null,"finish_reason":null}]}"#,
        r#"{"index":0,"text":"","logprobs":{"tokens":["one"," é"],"token_logprobs":[-0.5,-0.5],"top_logprobs":[{},{}],"text_offset":[0,3]},"finish_reason":null}]}"#,
        r#"{"index":0,"text":" two","logprobs":null,"finish_reason":null}]}"#,
        r#"{"index":0,"text":"","logprobs":{"tokens":[" two"],"token_logprobs":[-0.5],"top_logprobs":[{}],"text_offset":[5]},"finish_reason":null}]}"#,
        r#"{"index":0,"text":"","logprobs":null,"finish_reason":"length"}],"stored":true}"#,
        r#"],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7,"source":"reported"},"timings":{"queued_ms":5,"load_ms":0,"first_token_ms":7,"total_ms":900}}"#,
    ]
    .map(|rest| format!("{head}{rest}\n\n"))
    .concat();
    assert_eq!(String::from_utf8(out).unwrap(), expected + "data: [DONE]\n\n");
}

#[test]
fn a_whole_text_says_the_same_in_one_piece() {
    let (names, mut ending) = (names(), ended(Outcome::Complete(FinishReason::Stop)));
    ending.stored = None;
    let answer = Answer { content: "one".into(), logprobs: vec![token("one")], ..Answer::default() };
    let told: Value = serde_json::to_value(Completions.whole(&names, &answer, &ending).unwrap()).unwrap();
    assert_eq!(
        told,
        json!({
            "id": "cmpl-00000000000000000000000000000001", "object": "text_completion", "created": 1_790_000_000,
            "model": "llama3.2", "system_fingerprint": "fp_deepersensor",
            "choices": [{
                "text": "one", "index": 0,
                "logprobs": {
                    "tokens": ["one"], "token_logprobs": [-0.5], "top_logprobs": [{}], "text_offset": [0],
                },
                "finish_reason": "stop",
            }],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "source": "reported"},
            "timings": {"queued_ms": 5, "load_ms": 0, "first_token_ms": 7, "total_ms": 900},
        })
    );
}
