//! What is sent: the typed request in the server's own words, and nothing else.

use domain::chat::Sampling;
use serde_json::json;

use super::*;

/// What reloads or evicts a model, or is none of a caller's business, in any dialect.
const NEVER_SENT: [&str; 11] = [
    "keep_alive",
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "use_mmap",
    "num_thread",
    "shift",
    "truncate",
    "user",
    "metadata",
];

each_kind! {
    async fn nothing_of_the_caller_but_the_typed_request_is_sent(kind) {
        let (fake, provider) = kind.playing(Scenario::Normal).await;
        ask(&provider).await.end.unwrap();
        let sent = last_request(fake.control(), kind.paths()[0]);
        let mut headers: Vec<_> = sent.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        headers.sort();
        headers.retain(|name| kind == Kind::Ollama || name != "authorization");
        assert_eq!(headers, ["accept", "content-length", "content-type", "host", "user-agent"]);
        let keys: Vec<_> = sent.json().as_object().unwrap().keys().cloned().collect();
        match kind {
            Kind::Ollama => assert_eq!(keys, ["model", "messages", "stream"]),
            Kind::OpenAi => assert_eq!(keys, ["model", "messages", "stream", "stream_options"]),
        }
        assert_eq!((&sent.json()["stream"], &sent.json()["model"]), (&json!(true), &json!(MODEL)));
    }

    async fn no_option_of_a_caller_can_reload_a_model_or_keep_it(kind) {
        let (fake, provider) = kind.playing(Scenario::Normal).await;
        let every_option = Sampling {
            num_predict: Some(9),
            seed: Some(7),
            temperature: Some(0.5),
            top_k: Some(40),
            top_p: Some(0.9),
            min_p: Some(0.1),
            typical_p: Some(0.8),
            repeat_last_n: Some(64),
            repeat_penalty: Some(1.1),
            presence_penalty: Some(0.2),
            frequency_penalty: Some(0.3),
            stop: vec!["\n".to_owned()],
        };
        let request = ChatRequest { sampling: every_option, ..request() };
        ask_for(&provider, &request).await.end.unwrap();
        let body = String::from_utf8(last_request(fake.control(), kind.paths()[0]).body.to_vec()).unwrap();
        for name in NEVER_SENT {
            assert!(!body.contains(&format!("\"{name}\":")), "{name}: {body}");
        }
        assert!(!body.contains("spelling"), "the model's name is the server's: {body}");
        for value in ["9", "7", "0.5", "40", "0.9", "0.1", "0.8", "64", "1.1", "0.2", "0.3", r#""\n""#] {
            assert!(body.contains(value), "{value}: {body}");
        }
    }

    async fn a_conversation_with_tools_is_told_from_their_definition_to_their_result(kind) {
        let (fake, provider) = kind.playing(Scenario::Normal).await;
        let call = ToolCall { id: "c1".to_owned(), name: "f".to_owned(), arguments: json!({"z": 1, "a": 2}) };
        let mut request = request();
        request.tools = vec![json!({"type": "function", "function": {"name": "f"}})];
        request.messages.push(ChatMessage { tool_calls: vec![call], ..ChatMessage::text(Role::Assistant, "") });
        request.messages.push(ChatMessage {
            tool_name: Some("f".to_owned()),
            tool_call_id: Some("c1".to_owned()),
            ..ChatMessage::text(Role::Tool, "42")
        });
        ask_for(&provider, &request).await.end.unwrap();
        let body = last_request(fake.control(), kind.paths()[0]).json();
        assert_eq!(body["tools"], json!([{"type": "function", "function": {"name": "f"}}]));
        let function = &body["messages"][1]["tool_calls"][0]["function"];
        match kind {
            Kind::Ollama => assert_eq!(function["arguments"].to_string(), r#"{"z":1,"a":2}"#),
            Kind::OpenAi => assert_eq!(function["arguments"], r#"{"z":1,"a":2}"#),
        }
        let result = &body["messages"][2];
        assert_eq!(
            [&result["role"], &result["content"], &result["tool_call_id"]],
            [&json!("tool"), &json!("42"), &json!("c1")]
        );
    }
}
