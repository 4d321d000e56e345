use std::time::Duration;

use actors::reply::{Ending, Notice, Outcome};
use chrono::DateTime;
use domain::{
    chat::ToolCall,
    reply::{FailureCode, FinishReason, Position, Timings, TokenLogprob, Usage, UsageSource},
};
use serde_json::json;

use super::*;
use crate::dialects::native::sse::tests::{names, request_id};

fn told(manner: Manner, events: Vec<Event<'_>>) -> String {
    let clock = Clock::from_fn(|| DateTime::from_timestamp(1_790_000_000, 5_000).unwrap());
    let mut encoder = Encoder::new(names(), request_id(), manner, clock);
    let mut out = Vec::new();
    for event in events {
        encoder.encode(event, &mut out);
    }
    encoder.heartbeat(&mut out);
    String::from_utf8(out).unwrap()
}

fn ended(outcome: Outcome) -> Ending {
    let timings = Timings {
        queued: Duration::from_nanos(1),
        load: Duration::from_nanos(20),
        first_token: Some(Duration::from_nanos(300)),
        total: Duration::from_nanos(4_000),
    };
    let usage = Usage { prompt_tokens: 3, completion_tokens: 4, source: UsageSource::Reported };
    Ending { outcome, usage, timings, stored: None }
}

const HEAD: &str = r#"{"model":"llama3.2","created_at":"2026-09-21T14:13:20.000005000Z","#;

#[test]
fn b16_the_lines_of_a_chat_are_these_bytes() {
    let call = ToolCall { id: "call_1".into(), name: "now".into(), arguments: json!({"zone": "UTC"}) };
    let token = TokenLogprob { token: "a".into(), logprob: -0.5, bytes: None, top_logprobs: Vec::new() };
    let ending = ended(Outcome::Complete(FinishReason::ToolCalls));
    let end = Position::default();
    let text = told(
        Manner::Chat,
        vec![
            Event::Queued(Notice { loading: false, position: 2, eta: None }),
            Event::Started,
            Event::Thinking { text: "hm", end },
            Event::Content { text: "a\n\u{85}\u{2028}", end },
            Event::Logprobs { tokens: &[token] },
            Event::ToolCall { call: &call, end },
            Event::Ended { ending: &ending, end },
        ],
    );
    let expected = [
        r#""message":{"role":"assistant","content":"","thinking":"hm"},"done":false}"#,
        r#""message":{"role":"assistant","content":"a\n\u0085\u2028"},"done":false}"#,
        r#""message":{"role":"assistant","content":""},"logprobs":[{"token":"a","logprob":-0.5}],"done":false}"#,
        r#""message":{"role":"assistant","content":"","tool_calls":[{"id":"call_1","function":{"index":0,"name":"now","arguments":{"zone":"UTC"}}}]},"done":false}"#,
        r#""message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":4000,"load_duration":20,"prompt_eval_count":3,"prompt_eval_duration":280,"eval_count":4,"eval_duration":3699}"#,
        r#""message":{"role":"assistant","content":""},"done":false}"#,
    ];
    let expected: String = expected.iter().map(|line| format!("{HEAD}{line}\n")).collect();
    assert_eq!(text, expected);
}

#[test]
fn b16_a_text_that_is_continued_has_a_response_and_one_that_fails_an_error_and_no_end() {
    let failed = Outcome::Failed {
        code: FailureCode::UpstreamIncomplete,
        message: "the answer broke off".into(),
        retry_after: None,
    };
    let ending = ended(failed);
    let end = Position::default();
    let text = told(
        Manner::Generate,
        vec![
            Event::Thinking { text: "hm", end },
            Event::Content { text: "a", end },
            Event::Ended { ending: &ending, end },
        ],
    );
    let expected = format!(
        "{HEAD}\"response\":\"\",\"thinking\":\"hm\",\"done\":false}}\n{HEAD}\"response\":\"a\",\"done\":false}}\n\
         {{\"error\":\"the answer broke off\"}}\n{HEAD}\"response\":\"\",\"done\":false}}\n"
    );
    assert_eq!(text, expected);
}
