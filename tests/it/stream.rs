//! `POST /v1/chat/stream`: the frames, their order and their ids.

use std::time::Duration;

use serde_json::json;
use support::fake_ollama::Model;

use crate::{
    harness::{MODEL, Store, both_stores},
    turn::{answer, prompt, service},
};

/// The bytes with what differs from run to run replaced: ids by the order of their appearance, times, durations.
fn redacted(text: &str) -> String {
    let mut seen: Vec<&str> = Vec::new();
    let mut out = String::new();
    for (index, piece) in text.split('"').enumerate() {
        if index > 0 {
            out.push('"');
        }
        if let Ok(id) = uuid::Uuid::try_parse(piece) {
            assert_eq!(id.get_version_num(), 7, "{piece}");
            let known = seen.iter().position(|known| *known == piece).unwrap_or(seen.len());
            if known == seen.len() {
                seen.push(piece);
            }
            out.push_str(&format!("‹uuid {}›", known + 1));
        } else if chrono::DateTime::parse_from_rfc3339(piece).is_ok() {
            assert!(piece.ends_with('Z'), "{piece}");
            out.push_str("‹utc time›");
        } else if out.ends_with("_ms\"")
            && let Some(number) = piece.strip_prefix(':')
        {
            out.push_str(":‹n›");
            out.push_str(number.trim_start_matches(|digit: char| digit.is_ascii_digit()));
        } else {
            out.push_str(piece);
        }
    }
    out
}

both_stores! {
    async fn b16_the_bytes_of_a_stream_are_these(store) {
        // One token, so that the frames do not depend on what arrives together.
        let app = service(store, [Model::new(MODEL).tokens(1)]).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        app.warm_up(&ada, MODEL).await;
        let mut events = app.ask(&ada, &prompt(MODEL, "one word")).await;
        events.last().await;
        let word = answer("one word", 1);
        let expected = format!(
            "event: start\nid: 0\ndata: {{\"turn_id\":\"‹uuid 1›\",\"conversation_id\":\"‹uuid 2›\",\"message_id\":\"‹uuid 3›\",\
             \"model\":\"qwen3:8b\"}}\n\n\
             event: chunk\nid: {at}\ndata: {{\"model\":\"qwen3:8b\",\"content\":{word},\"done\":false}}\n\n\
             event: done\nid: {at}\ndata: {{\"id\":\"‹uuid 1›\",\"object\":\"chat\",\"model\":\"qwen3:8b\",\"created_at\":\"‹utc time›\",\
             \"done\":true,\"finish_reason\":\"stop\",\"conversation_id\":\"‹uuid 2›\",\"message_id\":\"‹uuid 3›\",\
             \"usage\":{{\"prompt_tokens\":2,\"completion_tokens\":1,\"total_tokens\":3,\"source\":\"reported\"}},\
             \"timings\":{{\"queued_ms\":‹n›,\"load_ms\":‹n›,\"first_token_ms\":‹n›,\"total_ms\":‹n›}},\"stored\":true}}\n\n",
            at = word.len(),
            word = json!(word),
        );
        assert_eq!(redacted(events.raw()), expected);
        for (name, promised) in [
            ("content-type", "text/event-stream"),
            ("cache-control", "no-store, no-transform"),
            ("x-accel-buffering", "no"),
            ("transfer-encoding", "chunked"),
        ] {
            assert_eq!(events.header(name), Some(promised), "{name}");
        }
        app.finish().await;
    }
}

both_stores! {
    async fn frames_come_as_they_are_made_and_each_says_where_in_the_answer_it_ends(store) {
        const TOKENS: u64 = 30;
        let model = Model::new(MODEL).tokens(TOKENS).tokens_per_s(60.0);
        let app = service(store, [model]).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let mut events = app.ask(&ada, &prompt(MODEL, "slowly please")).await;
        events.until("chunk").await;
        assert_eq!(app.ollama.control().counters().running, 1, "the first chunk came while the rest was being made");
        let first = events.frames.last().unwrap().at;
        let done = events.last().await;

        assert_eq!(done.event, "done");
        assert!(done.at - first > Duration::from_millis(200), "an answer of half a second came all at once");
        let names: Vec<&str> = events.frames.iter().map(|frame| frame.event.as_str()).collect();
        let start = names.iter().position(|name| *name == "start").unwrap();
        assert!(names[..start].iter().all(|name| *name == "queue"), "{names:?}");
        assert!(names[start + 1..names.len() - 1].iter().all(|name| *name == "chunk"), "{names:?}");
        assert!(names.len() > start + 3, "an answer of half a second in one piece: {names:?}");
        let mut bytes = 0;
        for frame in &events.frames {
            bytes += frame.data["content"].as_str().unwrap_or_default().len();
            assert_eq!(frame.id, bytes.to_string(), "{frame:?}");
        }
        assert_eq!(events.text(), answer("slowly please", TOKENS));
        for name in ["conversation_id", "message_id"] {
            assert_eq!(done.data[name], events.frames[start].data[name]);
        }
        assert_eq!(done.data["id"], events.frames[start].data["turn_id"]);
        app.finish().await;
    }
}

#[tokio::test]
async fn thinking_has_frames_of_its_own_and_tool_calls_come_whole() {
    let app = service(Store::Sqlite, Model::every_scenario()).await;
    let ada = app.sign_up_and_in("ada@example.org").await;

    let mut events = app.ask(&ada, &prompt("fake-thinking", "think")).await;
    let done = events.last().await;
    let thought: String = answer("think", 5) + " so";
    assert_eq!(events.said("thinking"), thought);
    assert_eq!(
        thought + &events.text(),
        answer("think", 5) + " so" + &answer("think", 11)[answer("think", 5).len()..]
    );
    assert_eq!(done.id, format!("{}.{}.0", events.text().len(), events.said("thinking").len()));

    for (scenario, names) in [
        ("fake-tools-last", &["get_weather"][..]),
        ("fake-tools-mid", &["get_weather"]),
        ("fake-tools-two", &["get_weather", "get_tides"]),
    ] {
        let mut events = app.ask(&ada, &prompt(scenario, "call")).await;
        let done = events.last().await;
        assert_eq!(done.data["finish_reason"], "tool_calls", "{scenario}");
        let calls: Vec<_> = events.frames.iter().filter(|frame| frame.event == "tool_call").collect();
        assert_eq!(
            calls.iter().map(|call| &call.data["function"]["name"]).collect::<Vec<_>>(),
            names,
            "{scenario}"
        );
        for call in &calls {
            assert_eq!(call.data["function"]["arguments"], json!({ "city": "Oslo", "days": 2 }));
            assert!(call.data["id"].as_str().unwrap().starts_with("call_"), "{call:?}");
        }
        assert!(done.id.ends_with(&format!(".{}", names.len())), "{scenario}: {}", done.id);
        let whole = app.chat(&ada, &prompt(scenario, "call")).send().await.json();
        assert_eq!(whole["message"]["tool_calls"].as_array().unwrap().len(), names.len(), "{scenario}");
    }
    app.finish().await;
}
