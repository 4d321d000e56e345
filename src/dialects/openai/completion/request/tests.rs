use domain::chat::Sampling;
use serde_json::{Value, json};

use super::*;
use crate::{
    dialects::{fuzz, openai::Manner},
    http::understand_body,
};

fn read(body: &Value) -> Result<Asked<Completions>, ApiError> {
    understand_body(body.to_string().as_bytes(), |body: CompletionRequest, _| body.read())
}

fn everything() -> Value {
    json!({
        "model": "m", "prompt": "fn main", "suffix": "}", "stream": true, "stream_options": {"include_usage": false},
        "max_tokens": 16, "seed": 1, "temperature": 0, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0,
        "stop": "\n", "logprobs": 2, "echo": false, "best_of": 1, "n": 1, "user": "u", "store": false,
    })
}

#[test]
fn a_completion_is_a_text_to_go_on_with() {
    let Asked { request, options, manner, .. } = read(&everything()).unwrap();
    let expected = ChatRequest {
        sampling: Sampling {
            num_predict: Some(16),
            seed: Some(1),
            temperature: Some(0.0),
            top_p: Some(1.0),
            presence_penalty: Some(0.0),
            frequency_penalty: Some(0.0),
            stop: vec!["\n".to_owned()],
            ..Sampling::default()
        },
        logprobs: Some(2),
        completion: Some(Completion { suffix: Some("}".to_owned()), raw: false }),
        ..ChatRequest::new(model_name("m").unwrap(), vec![ChatMessage::text(Role::User, "fn main")])
    };
    assert_eq!(request, expected);
    assert_eq!(manner, Manner::Streamed { with_usage: false });
    assert!(!options.store && options.is_streamed);
    let listed = read(&json!({"model": "m", "prompt": ["fn main"]})).unwrap();
    assert_eq!((&listed.request.messages, listed.manner), (&request.messages, Manner::Whole));
}

#[test]
fn what_is_mistyped_or_out_of_bounds_is_named() {
    for (field, value) in [
        ("prompt", json!(["a", "b"])),
        ("prompt", json!([])),
        ("prompt", json!("")),
        ("prompt", Value::Null),
        ("prompt", json!(7)),
        ("n", json!(2)),
        ("best_of", json!(2)),
        ("echo", json!(true)),
        ("logprobs", json!(21)),
        ("logprobs", json!(true)),
        ("max_tokens", json!(0)),
        ("suffix", json!(7)),
    ] {
        let mut body = everything();
        body[field] = value.clone();
        let error = read(&body).unwrap_err();
        assert_eq!(
            (error.status().as_u16(), error.object("r").param),
            (400, Some(field)),
            "{field}: {value}"
        );
    }
    let tokens = read(&json!({"model": "m", "prompt": [1, 2]})).unwrap_err();
    assert_eq!(tokens.object("r").param, Some("prompt[0]"));
}

#[test]
fn b05_no_body_is_our_fault() {
    let list = json!({"model": "m", "prompt": ["x"]});
    fuzz::no_body_is_our_fault(&[list, everything()], CompletionRequest::read);
}
