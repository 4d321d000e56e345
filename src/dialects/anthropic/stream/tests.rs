use std::time::Duration;

use actors::reply::{Notice, Outcome};
use domain::reply::{FailureCode, FinishReason, Position, Timings, Usage, UsageSource};
use serde_json::json;

use super::*;
use crate::dialects::native::sse::tests::{names, request_id};

fn told(events: Vec<Event<'_>>) -> String {
    let mut encoder = Encoder::new(names(), request_id(), 5);
    let mut out = Vec::new();
    for event in events {
        encoder.encode(event, &mut out);
    }
    String::from_utf8(out).unwrap()
}

fn ended(outcome: Outcome) -> Ending {
    let usage = Usage { prompt_tokens: 3, completion_tokens: 4, source: UsageSource::Reported };
    Ending { outcome, usage, timings: Timings::default(), stored: None }
}

fn content(text: &str) -> Event<'_> {
    Event::Content { text, end: Position::default() }
}

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_00000000000000000000000000000001\",\
    \"type\":\"message\",\"role\":\"assistant\",\"model\":\"llama3.2\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\
    \"usage\":{\"input_tokens\":5,\"output_tokens\":0}}}\n\n";

#[test]
fn b16_the_events_of_a_whole_answer_are_these_bytes() {
    let call = ToolCall { id: String::new(), name: "now".into(), arguments: json!({"zone": "UTC"}) };
    let ending = ended(Outcome::Complete(FinishReason::ToolCalls));
    let end = Position::default();
    let text = told(vec![
        Event::Queued(Notice { loading: false, position: 2, eta: Some(Duration::from_millis(1)) }),
        Event::Started,
        Event::Thinking { text: "hm\n", end },
        content("a\"\u{2028}"),
        content("b"),
        Event::ToolCall { call: &call, end },
        Event::Ended { ending: &ending, end },
    ]);
    let expected = [
        START,
        "event: ping\ndata: {\"type\":\"ping\"}\n\n",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\\n\"}}\n\n",
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\\\"\\u2028\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"b\"}}\n\n",
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":\"tool_use\",\"id\":\"call_00000000000000000000000000000001_0\",\"name\":\"now\",\"input\":{}}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"zone\\\":\\\"UTC\\\"}\"}}\n\n",
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":2}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\",\"stop_sequence\":null},\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ];
    assert_eq!(text, expected.concat());
}

#[test]
fn b16_a_failed_turn_ends_with_an_error_event_and_no_stop() {
    let failed = Outcome::Failed {
        code: FailureCode::UpstreamIncomplete,
        message: "the answer broke off".into(),
        retry_after: None,
    };
    let ending = ended(failed);
    let text = told(vec![content("a"), Event::Ended { ending: &ending, end: Position::default() }]);
    let end = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"the answer broke off\"},\
               \"request_id\":\"r-1\"}\n\n";
    assert!(text.ends_with(end) && !text.contains("message_stop"), "{text}");
}
