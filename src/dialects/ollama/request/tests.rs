use domain::chat::{Format, Sampling, Think};
use serde_json::{Value, json};

use super::*;
use crate::dialects::fuzz::no_body_is_our_fault;

fn chat(body: &Value) -> Result<Asked, ApiError> {
    let body: OllamaChatBody =
        serde_json::from_str(&body.to_string()).map_err(|error| ApiError::invalid(error.to_string()))?;
    body.read()
}

fn generate(body: &Value) -> Result<Asked, ApiError> {
    let body: OllamaGenerateBody =
        serde_json::from_str(&body.to_string()).map_err(|error| ApiError::invalid(error.to_string()))?;
    body.read()
}

fn turn(asked: Result<Asked, ApiError>) -> (ChatRequest, bool) {
    match asked {
        Ok(Asked::Turn { request, is_streamed, .. }) => (*request, is_streamed),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_chat_streams_unless_it_says_otherwise_and_nothing_of_it_moves_a_model() {
    let (request, is_streamed) = turn(chat(&json!({
        "model": "LLAMA3.2", "messages": [{"role": "User", "content": "hi", "images": null}], "tools": [], "format": "",
        "options": {"temperature": 0.5, "num_ctx": 1, "num_gpu": 99, "stop": "x"}, "keep_alive": 0, "shift": true,
        "truncate": false, "think": "high", "Model": "other", "logprobs": true, "top_logprobs": 3,
    })));
    assert!(is_streamed);
    assert_eq!(request.model.as_str(), "LLAMA3.2");
    assert_eq!(request.messages, [ChatMessage::text(Role::User, "hi")]);
    let sampling = Sampling { temperature: Some(0.5), stop: vec!["x".to_owned()], ..Sampling::default() };
    assert_eq!((request.sampling, request.format, request.think), (sampling, None, Some(Think::High)));
    assert_eq!(request.logprobs, Some(3));
    let (request, is_streamed) = turn(chat(&json!({
        "model": "m", "stream": false, "format": {"type": "object"}, "messages": [{"role": "user", "content": "hi"}],
    })));
    assert!(!is_streamed);
    assert_eq!(request.format, Some(Format::Schema(json!({"type": "object"}))));
}

#[test]
fn a_text_is_answered_or_continued() {
    let (request, _) = turn(generate(&json!({
        "model": "m", "prompt": "fn main() {", "suffix": "}", "system": "be brief", "images": ["AAAA"], "context": [1, 2],
    })));
    let images = vec!["AAAA".to_owned()];
    let expected = [
        ChatMessage::text(Role::System, "be brief"),
        ChatMessage { images, ..ChatMessage::text(Role::User, "fn main() {") },
    ];
    assert_eq!(request.messages, expected);
    assert_eq!(request.completion, Some(Completion { suffix: Some("}".to_owned()), raw: false }));
    let (request, _) = turn(generate(&json!({"model": "m", "prompt": "x", "raw": true, "suffix": ""})));
    assert_eq!(request.completion, Some(Completion { suffix: None, raw: true }));
}

#[test]
fn nothing_to_answer_asks_for_a_model_to_come_or_go() {
    let is_to_go = |asked: Result<Asked, ApiError>| match asked {
        Ok(Asked::Residence { is_to_go, .. }) => is_to_go,
        other => panic!("{other:?}"),
    };
    assert!(!is_to_go(chat(&json!({"model": "m"}))));
    assert!(!is_to_go(chat(&json!({"model": "m", "messages": [], "keep_alive": "5m"}))));
    assert!(!is_to_go(generate(&json!({"model": "m", "keep_alive": -1}))));
    for zero in [json!(0), json!("0"), json!("0s")] {
        assert!(is_to_go(chat(&json!({"model": "m", "messages": null, "keep_alive": zero}))));
        assert!(is_to_go(generate(&json!({"model": "m", "prompt": "", "keep_alive": zero}))));
    }
}

#[test]
fn what_cannot_be_done_is_refused_by_its_name() {
    let message = |message: Value| json!({"model": "m", "messages": [message]});
    for (asked, param) in [
        (chat(&json!({"model": "../x", "messages": []})), "model"),
        (chat(&message(json!({"role": "user", "images": ["http://x"]}))), "messages[0].images"),
        (
            chat(&json!({"model": "m", "messages": [{"role": "user"}], "options": {"seed": "x"}})),
            "options.seed",
        ),
        (chat(&json!({"model": "m", "messages": [{"role": "user"}], "format": 1})), "format"),
        (chat(&json!({"model": "m", "messages": [{"role": "user"}], "top_logprobs": 21})), "top_logprobs"),
        (generate(&json!({"model": "m", "prompt": "x", "template": "{{ .Prompt }}"})), "template"),
        (generate(&json!({"model": "m", "prompt": "x", "raw": true, "system": "s"})), "system"),
        (generate(&json!({"model": "m", "prompt": "x", "images": ["?"]})), "images"),
    ] {
        let error = asked.err().unwrap();
        assert_eq!((error.status().as_u16(), error.object("r").param), (400, Some(param)));
    }
}

#[test]
fn b05_no_body_of_a_chat_is_our_fault() {
    let good = [
        json!({"model": "m", "keep_alive": "5m"}),
        json!({
            "model": "m", "stream": false, "think": "high", "format": {"type": "object"}, "keep_alive": 0, "shift": true,
            "messages": [
                {"role": "System", "content": "be brief"}, {"role": "user", "content": "hi", "images": ["AAAA"]},
                {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [
                    {"id": "call_1", "function": {"index": 0, "name": "now", "arguments": {"zone": "UTC"}}}]},
                {"role": "tool", "content": "12:00", "tool_name": "now", "tool_call_id": "call_1"}],
            "tools": [{"type": "function", "function": {"name": "now", "description": "the time", "parameters": {"type": "object"}}}],
            "options": {"temperature": 0.5, "num_ctx": 1, "num_predict": -1, "seed": 7, "stop": ["x"]},
            "logprobs": true, "top_logprobs": 3,
        }),
    ];
    no_body_is_our_fault(&good, OllamaChatBody::read);
}

#[test]
fn b05_no_body_of_a_text_is_our_fault() {
    let good = [
        json!({"model": "m", "prompt": ""}),
        json!({"model": "m", "prompt": "x", "raw": true, "suffix": "y", "stream": false, "context": [1, 2]}),
        json!({
            "model": "m", "prompt": "x", "system": "be brief", "images": ["AAAA"], "format": "json", "think": true,
            "template": "", "options": {"top_k": 40, "stop": "x"}, "keep_alive": -1, "logprobs": true, "top_logprobs": 0,
        }),
    ];
    no_body_is_our_fault(&good, OllamaGenerateBody::read);
}
