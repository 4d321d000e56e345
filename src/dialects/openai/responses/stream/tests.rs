use std::time::Duration;

use actors::reply::{Notice, Outcome};
use domain::reply::{Answer, FailureCode, Position};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    dialects::{
        native::sse::tests::{ended, names, request_id},
        openai::{
            Shape as _,
            responses::{Responses, ResponsesRequest},
        },
    },
    http::understand_body,
};

fn shape() -> Responses {
    let body = br#"{"model":"llama3.2","input":"hi"}"#;
    understand_body(body, |body: ResponsesRequest, _| body.read()).unwrap().shape
}

/// The bytes of a stream of these.
fn told(events: Vec<Event<'_>>) -> String {
    let (mut encoder, mut out) = (shape().encoder(names(), request_id(), false), Vec::new());
    for event in events {
        encoder.encode(event, &mut out);
    }
    String::from_utf8(out).unwrap()
}

/// Its events, whose numbers and names are as they must be.
fn read(text: &str) -> Vec<Value> {
    let frames = text.split_terminator("\n\n").filter(|frame| !frame.starts_with(':')).enumerate();
    let read = |(nth, frame): (usize, &str)| {
        let (name, data) = frame.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: ").unwrap(), data["type"]);
        assert_eq!(data["sequence_number"], nth, "{frame}");
        data
    };
    frames.map(read).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap().trim_start_matches("response.")).collect()
}

fn content(text: &str) -> Event<'_> {
    Event::Content { text, end: Position::default() }
}

fn thinking(text: &str) -> Event<'_> {
    Event::Thinking { text, end: Position::default() }
}

fn token(text: &str) -> TokenLogprob {
    TokenLogprob { token: text.into(), logprob: -0.5, bytes: None, top_logprobs: Vec::new() }
}

/// The item at this place.
fn id(prefix: &str, index: usize) -> String {
    format!("{prefix}_00000000000000000000000000000001_{index}")
}

#[test]
fn b16_the_events_of_a_text_are_these_bytes() {
    let ending = ended(Outcome::Complete(FinishReason::Stop));
    let text = told(vec![
        Event::Queued(Notice { loading: false, position: 2, eta: Some(Duration::from_millis(1_500)) }),
        Event::Started,
        content("a\"\u{2028}"),
        content("b"),
        Event::Ended { ending: &ending, end: Position::default() },
    ]);
    let settings = concat!(
        r#""background":false,"instructions":null,"max_output_tokens":null,"metadata":{},"parallel_tool_calls":true,"#,
        r#""previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":false,"temperature":null,"#,
        r#""text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_logprobs":0,"top_p":null,"truncation":"auto""#,
    );
    let response = |status: &str, output: &str, usage: &str| {
        format!(
            r#"{{"id":"resp_00000000000000000000000000000001","object":"response","created_at":1790000000,"status":"{status}","error":null,"incomplete_details":null,"model":"llama3.2","output":[{output}],"usage":{usage},{settings}"#,
        )
    };
    let usage = r#"{"input_tokens":3,"input_tokens_details":{"cached_tokens":0},"output_tokens":4,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":7,"source":"reported"}"#;
    let part =
        |text: &str| format!(r#"{{"type":"output_text","text":"{text}","annotations":[],"logprobs":[]}}"#);
    let item = |status: &str, content: &str| {
        let id = id("msg", 0);
        format!(
            r#"{{"type":"message","id":"{id}","status":"{status}","role":"assistant","content":[{content}]}}"#
        )
    };
    let whole = item("completed", &part(r#"a\"\u2028b"#));
    let place = format!(r#""item_id":"{}","output_index":0,"content_index":0"#, id("msg", 0));
    let expected = [
        ("response.created", format!(r#""response":{}}}"#, response("in_progress", "", "null"))),
        ("response.in_progress", format!(r#""response":{}}}"#, response("in_progress", "", "null"))),
        ("response.output_item.added", format!(r#""output_index":0,"item":{}"#, item("in_progress", ""))),
        ("response.content_part.added", format!(r#"{place},"part":{}"#, part(""))),
        ("response.output_text.delta", format!(r#"{place},"delta":"a\"\u2028","logprobs":[]"#)),
        ("response.output_text.delta", format!(r#"{place},"delta":"b","logprobs":[]"#)),
        ("response.output_text.done", format!(r#"{place},"text":"a\"\u2028b","logprobs":[]"#)),
        ("response.content_part.done", format!(r#"{place},"part":{}"#, part(r#"a\"\u2028b"#))),
        ("response.output_item.done", format!(r#""output_index":0,"item":{whole}"#)),
        (
            "response.completed",
            format!(
                r#""response":{},"timings":{{"queued_ms":5,"load_ms":0,"first_token_ms":7,"total_ms":900}},"stored":true}}"#,
                response("completed", &whole, usage),
            ),
        ),
    ];
    let frame = |(nth, (event, rest)): (usize, (&str, String))| {
        format!("event: {event}\ndata: {{\"type\":\"{event}\",\"sequence_number\":{nth},{rest}}}\n\n")
    };
    let expected: String = expected.into_iter().enumerate().map(frame).collect();
    assert_eq!(text, format!(": queue state=waiting position=2 eta_ms=1500\n\n{expected}"));
}

#[test]
fn thoughts_words_and_calls_are_items_one_after_another_and_all_of_them_come_again_at_the_end() {
    let call = ToolCall { id: String::new(), name: "now".into(), arguments: json!({"zone": "UTC"}) };
    let ending = ended(Outcome::Complete(FinishReason::ToolCalls));
    let events = read(&told(vec![
        thinking("hm"),
        content("let me see"),
        Event::ToolCall { call: &call, end: Position::default() },
        Event::Ended { ending: &ending, end: Position::default() },
    ]));
    assert_eq!(
        kinds(&events),
        [
            "created",
            "in_progress",
            "output_item.added",
            "reasoning_summary_part.added",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.done",
            "reasoning_summary_part.done",
            "output_item.done",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
            "completed",
        ]
    );
    let done: Vec<_> = events.iter().filter(|event| event["type"] == "response.output_item.done").collect();
    let items: Vec<_> = done.iter().map(|event| event["item"].clone()).collect();
    assert_eq!(events[18]["response"]["output"], json!(items));
    assert_eq!(
        items,
        [
            json!({"type": "reasoning", "id": id("rs", 0), "summary": [{"type": "summary_text", "text": "hm"}],
                   "encrypted_content": null, "status": "completed"}),
            json!({"type": "message", "id": id("msg", 1), "status": "completed", "role": "assistant", "content": [
                {"type": "output_text", "text": "let me see", "annotations": [], "logprobs": []}]}),
            json!({"type": "function_call", "id": id("fc", 2), "call_id": "call_00000000000000000000000000000001_0",
                   "name": "now", "arguments": "{\"zone\":\"UTC\"}", "status": "completed"}),
        ]
    );
    assert_eq!(
        (&events[14]["item"]["arguments"], &events[15]["delta"]),
        (&json!(""), &items[2]["arguments"])
    );

    let answer = Answer {
        content: "let me see".into(),
        thinking: "hm".into(),
        tool_calls: vec![call],
        ..Answer::default()
    };
    let (shape, names) = (shape(), names());
    let whole = serde_json::to_value(shape.whole(&names, &answer, &ending).unwrap()).unwrap();
    assert_eq!(whole, events[18]["response"], "one that is told at once is the same");
}

#[test]
fn probabilities_come_with_the_message_they_are_of_and_never_with_thoughts() {
    let ending = ended(Outcome::Complete(FinishReason::Stop));
    let (early, late) = ([token("a")], [token("b")]);
    let events = read(&told(vec![
        Event::Logprobs { tokens: &early },
        content("ab"),
        Event::Logprobs { tokens: &late },
        thinking("hm"),
        Event::Logprobs { tokens: &late },
        Event::Ended { ending: &ending, end: Position::default() },
    ]));
    let told = |event: &Value| event["logprobs"].as_array().map_or(0, Vec::len);
    let deltas: Vec<_> =
        events.iter().filter(|event| event["type"] == "response.output_text.delta").collect();
    assert_eq!(deltas.iter().map(|event| told(event)).collect::<Vec<_>>(), [1, 0, 1]);
    let done = events.iter().find(|event| event["type"] == "response.output_text.done").unwrap();
    let expected = |token: &str| json!({"token": token, "logprob": -0.5, "bytes": null, "top_logprobs": []});
    assert_eq!(done["logprobs"], json!([expected("a"), expected("b")]));
}

#[test]
fn an_answer_that_was_cut_is_incomplete_and_one_without_a_word_is_an_empty_message() {
    let cut = ended(Outcome::Complete(FinishReason::Length));
    let events = read(&told(vec![content("a"), Event::Ended { ending: &cut, end: Position::default() }]));
    let last = events.last().unwrap();
    assert_eq!(
        (&last["type"], &last["response"]["status"]),
        (&json!("response.incomplete"), &json!("incomplete"))
    );
    assert_eq!(last["response"]["incomplete_details"], json!({"reason": "max_output_tokens"}));
    assert_eq!(last["response"]["output"][0]["status"], "incomplete");

    let ending = ended(Outcome::Complete(FinishReason::Stop));
    let events = read(&told(vec![Event::Ended { ending: &ending, end: Position::default() }]));
    assert_eq!(events.last().unwrap()["response"]["output"][0]["content"][0]["text"], "");
    let (shape, names) = (shape(), names());
    let whole = serde_json::to_value(shape.whole(&names, &Answer::default(), &ending).unwrap()).unwrap();
    assert_eq!(whole, events.last().unwrap()["response"]);
}

#[test]
fn b16_a_failed_turn_ends_with_a_failed_response_and_the_error_that_libraries_raise() {
    let failed = ended(Outcome::Failed {
        code: FailureCode::UpstreamIncomplete,
        message: "the answer broke off".into(),
        retry_after: None,
    });
    let text = told(vec![content("a"), Event::Ended { ending: &failed, end: Position::default() }]);
    let error = "event: error\ndata: {\"type\":\"error\",\"sequence_number\":9,\"code\":\"upstream_incomplete\",\
                 \"message\":\"the answer broke off\",\"param\":null,\"error\":{\"code\":\"upstream_incomplete\",\
                 \"message\":\"the answer broke off\",\"type\":\"api_error\",\"param\":null,\"request_id\":\"r-1\"}}\n\n";
    assert!(text.ends_with(error), "{text}");
    let events = read(&text);
    let response = &events[8]["response"];
    assert_eq!((&events[8]["type"], &response["status"]), (&json!("response.failed"), &json!("failed")));
    assert_eq!(response["error"], json!({"code": "upstream_incomplete", "message": "the answer broke off"}));
    assert_eq!(response["output"][0]["status"], "incomplete");
    assert_eq!(
        (&response["output"][0]["content"][0]["text"], &response["usage"]["total_tokens"]),
        (&json!("a"), &json!(7))
    );

    let (mut encoder, mut out) = (shape().encoder(names(), request_id(), false), Vec::new());
    encoder.heartbeat(&mut out);
    encoder.fail(&ApiError::shutting_down(), &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with(": hb\n\nevent: response.created\n"), "{text}");
    assert_eq!(kinds(&read(&text)), ["created", "in_progress", "failed", "error"]);

    let (shape, names) = (shape(), names());
    assert_eq!(shape.whole(&names, &Answer::default(), &failed).err().unwrap().status(), 502);
}

/// A piece of an answer.
#[derive(Debug, Clone)]
enum Said {
    Content(String),
    Thinking(String),
    Call,
    Logprobs,
}

fn said() -> impl Strategy<Value = Said> {
    let text = prop_oneof!["[a-z\"\n]{1,4}", Just("é\u{2028}".to_owned())];
    prop_oneof![
        4 => text.clone().prop_map(Said::Content),
        2 => text.prop_map(Said::Thinking),
        1 => Just(Said::Call),
        1 => Just(Said::Logprobs),
    ]
}

/// The words of each item as they came, in the order of their places.
fn words(events: &[Value]) -> Vec<String> {
    let mut words = Vec::new();
    for event in events {
        if event["type"] == "response.output_item.added" {
            assert_eq!(event["output_index"], words.len());
            words.push(String::new());
        } else if let Some(delta) = event["delta"].as_str() {
            let at = usize::try_from(event["output_index"].as_u64().unwrap()).unwrap();
            assert_eq!(at + 1, words.len(), "only the last item grows: {event}");
            words[at].push_str(delta);
        }
    }
    words
}

/// The words of a whole item.
fn words_of(item: &Value) -> &str {
    let at = ["/content/0/text", "/summary/0/text", "/arguments"];
    at.iter().find_map(|at| item.pointer(at)?.as_str()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn b16_whatever_is_said_each_item_begins_and_ends_once_and_comes_again_at_the_end(
        said in prop::collection::vec(said(), 0..12),
        outcome in prop_oneof![
            Just(Outcome::Complete(FinishReason::Stop)),
            Just(Outcome::Complete(FinishReason::Length)),
            Just(Outcome::Failed { code: FailureCode::UpstreamError, message: "x".into(), retry_after: None }),
        ],
    ) {
        let call = ToolCall { id: String::new(), name: "now".into(), arguments: json!({"zone": "UTC"}) };
        let tokens = [token("a")];
        let end = Position::default();
        let is_failed = matches!(outcome, Outcome::Failed { .. });
        let ending = ended(outcome);
        let pieces = said.iter().map(|said| match said {
            Said::Content(text) => content(text),
            Said::Thinking(text) => thinking(text),
            Said::Call => Event::ToolCall { call: &call, end },
            Said::Logprobs => Event::Logprobs { tokens: &tokens },
        });
        let events = read(&told(pieces.chain([Event::Ended { ending: &ending, end }]).collect()));
        let (last, before) = match &events[..] {
            [before @ .., last, error] if is_failed => {
                prop_assert_eq!(&error["type"], "error");
                (last, before)
            }
            [before @ .., last] => (last, before),
            [] => unreachable!("there is always an end"),
        };
        prop_assert_eq!(kinds(before).iter().filter(|kind| kind.starts_with("created")).count(), 1);
        let items = last["response"]["output"].as_array().unwrap();
        let done: Vec<_> =
            before.iter().filter(|event| event["type"] == "response.output_item.done").collect();
        prop_assert_eq!(done.len(), items.len());
        let words = words(before);
        prop_assert_eq!(words.len(), items.len());
        for (at, (item, done)) in items.iter().zip(done).enumerate() {
            prop_assert_eq!(&done["output_index"], at);
            prop_assert_eq!(&done["item"], item);
            prop_assert_eq!(words_of(item), &words[at]);
        }
        let of = |kind: &str| -> String {
            items.iter().filter(|item| item["type"] == kind).map(words_of).collect()
        };
        let told = |wanted: fn(&Said) -> Option<&str>| said.iter().filter_map(wanted).collect::<String>();
        prop_assert_eq!(of("message"), told(|said| if let Said::Content(text) = said { Some(text) } else { None }));
        prop_assert_eq!(of("reasoning"), told(|said| if let Said::Thinking(text) = said { Some(text) } else { None }));
    }
}
