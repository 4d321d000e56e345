use domain::chat::{ChatMessage, Role, Sampling, ToolCall, ToolChoice};
use serde_json::json;

use super::*;
use crate::{
    dialects::{fuzz, openai::Manner},
    http::understand_body,
};

fn read(body: &Value) -> Result<Asked<ChatCompletions>, ApiError> {
    understand_body(body.to_string().as_bytes(), |body: ChatCompletionRequest, _| body.read())
}

fn hi() -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
}

/// A good body with this field.
fn with(field: &str, value: Value) -> Value {
    let mut body = hi();
    body[field] = value;
    body
}

fn asked(field: &str, value: Value) -> ChatRequest {
    read(&with(field, value)).unwrap().request
}

/// The `param` of the refusal.
fn refused(body: &Value) -> String {
    let error = read(body).unwrap_err();
    assert_eq!(error.status(), 400, "{body}");
    error.object("r").param.unwrap_or_default().to_owned()
}

fn said(messages: Value) -> Vec<ChatMessage> {
    asked("messages", messages).messages
}

fn weather() -> Value {
    json!({"type": "function", "function": {"name": "weather", "strict": true, "parameters": {"type": "object"}}})
}

/// One with all there is.
fn everything() -> Value {
    json!({
        "model": "qwen3:8b",
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "be brief"}, {"type": "text", "text": "be kind"}]},
            {"role": "user", "name": "ada", "content": [
                {"type": "text", "text": "what is this"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "BBBB", "format": "wav"}},
            ]},
            {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}},
                {"id": "call_2", "type": "function", "function": {"name": "clock", "arguments": ""}},
            ]},
            {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "noon"}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
            {"role": "assistant", "content": "it rains", "reasoning": "so", "refusal": null},
            {"role": "user", "content": "and now"},
        ],
        "stream": true, "stream_options": {"include_usage": true},
        "max_completion_tokens": 50, "max_tokens": 10, "seed": 7, "temperature": 0.5, "top_p": 0.25,
        "presence_penalty": -1, "frequency_penalty": 2.0, "stop": ["a", "b"],
        "tools": [weather(), {"type": "function", "function": {"name": "clock"}}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": {"type": "object"}}},
        "reasoning_effort": "minimal", "logprobs": true, "top_logprobs": 3, "n": 1, "store": true,
        "user": "u", "metadata": {"a": "b"}, "logit_bias": {"1": 2}, "parallel_tool_calls": false,
        "service_tier": "auto", "modalities": ["text"], "prediction": null, "web_search_options": {},
    })
}

#[test]
fn each_field_has_its_place_in_what_is_asked_of_the_model() {
    let Asked { request, options, manner, .. } = read(&everything()).unwrap();
    let call =
        |id: &str, name: &str, arguments: Value| ToolCall { id: id.into(), name: name.into(), arguments };
    let result = |id: &str, name: &str, text: &str| ChatMessage {
        tool_call_id: Some(id.into()),
        tool_name: Some(name.into()),
        ..ChatMessage::text(Role::Tool, text)
    };
    let messages = vec![
        ChatMessage::text(Role::System, "be brief\nbe kind"),
        ChatMessage {
            images: vec!["AAAA".into(), "BBBB".into()],
            ..ChatMessage::text(Role::User, "what is this")
        },
        ChatMessage {
            thinking: Some("hm".into()),
            tool_calls: vec![
                call("call_1", "weather", json!({"city": "Oslo"})),
                call("call_2", "clock", json!({})),
            ],
            ..ChatMessage::text(Role::Assistant, "")
        },
        result("call_2", "clock", "noon"),
        result("call_1", "weather", "rain"),
        ChatMessage { thinking: Some("so".into()), ..ChatMessage::text(Role::Assistant, "it rains") },
        ChatMessage::text(Role::User, "and now"),
    ];
    let expected = ChatRequest {
        sampling: Sampling {
            num_predict: Some(50),
            seed: Some(7),
            temperature: Some(0.5),
            top_p: Some(0.25),
            presence_penalty: Some(-1.0),
            frequency_penalty: Some(2.0),
            stop: vec!["a".into(), "b".into()],
            ..Sampling::default()
        },
        tools: vec![weather()],
        tool_choice: ToolChoice::Required,
        format: Some(Format::Schema(json!({"type": "object"}))),
        think: Some(Think::Low),
        logprobs: Some(3),
        ..ChatRequest::new(model_name("qwen3:8b").unwrap(), messages)
    };
    assert_eq!(request, expected);
    assert_eq!(manner, Manner::Streamed { with_usage: true });
    assert!(options.store && options.is_streamed && !options.continue_on_disconnect);
}

#[test]
fn what_is_not_said_is_left_to_the_model_and_nothing_is_kept() {
    let Asked { request, options, manner, .. } = read(&hi()).unwrap();
    let hi = vec![ChatMessage::text(Role::User, "hi")];
    assert_eq!(request, ChatRequest::new(model_name("m").unwrap(), hi));
    assert_eq!(manner, Manner::Whole);
    assert!(!options.store && !options.is_streamed && !options.continue_on_disconnect);
    // SDKs of some languages write out what is not set.
    let mut nulls = everything();
    for (name, value) in nulls.as_object_mut().unwrap() {
        if !["model", "messages"].contains(&name.as_str()) {
            *value = Value::Null;
        }
    }
    nulls["messages"] =
        json!([{"role": "user", "content": "hi", "name": null, "tool_calls": null, "tool_call_id": null}]);
    let mut expected = request;
    expected.model = model_name("qwen3:8b").unwrap();
    assert_eq!(read(&nulls).unwrap().request, expected);
}

#[test]
fn g11_what_would_reload_the_model_or_name_another_has_no_way_in() {
    let mut body = hi();
    for (name, value) in [
        ("Model", json!("secret")),
        ("MODEL", json!("secret")),
        ("keep_alive", json!(0)),
        ("num_ctx", json!(1)),
        ("options", json!({"num_ctx": 1})),
        ("\u{212a}eep_alive", json!(0)),
    ] {
        body[name] = value;
    }
    assert_eq!(read(&body).unwrap().request, read(&hi()).unwrap().request);
}

#[test]
fn bounds_on_an_answer_take_the_newer_name_first() {
    let bound = |newer: Value, older: Value| {
        let mut body = with("max_completion_tokens", newer);
        body["max_tokens"] = older;
        read(&body).unwrap().request.sampling.num_predict
    };
    assert_eq!(bound(json!(5), json!(9)), Some(5));
    assert_eq!(bound(Value::Null, json!(9)), Some(9));
    assert_eq!(bound(json!(-1), Value::Null), Some(limits::NUM_PREDICT));
    assert_eq!(bound(json!(u32::MAX), Value::Null), Some(limits::NUM_PREDICT));
    assert_eq!(bound(Value::Null, Value::Null), None);
    assert_eq!(refused(&with("max_tokens", json!(0))), "max_tokens");
    assert_eq!(refused(&with("max_completion_tokens", json!(0))), "max_completion_tokens");
}

#[test]
fn a_choice_of_tools_narrows_what_the_model_is_given() {
    let mut body = with("tools", json!([weather(), {"type": "function", "function": {"name": "clock"}}]));
    let mut chosen = |choice: Value| {
        body["tool_choice"] = choice;
        let request = read(&body).ok()?.request;
        let names = request.tools.iter().map(|tool| tool["function"]["name"].as_str().unwrap());
        Some((names.collect::<Vec<_>>().join(" "), request.tool_choice))
    };
    let (auto, required) = (ToolChoice::Auto, ToolChoice::Required);
    let allowed = |mode: &str, name: &str| {
        json!({"type": "allowed_tools", "allowed_tools": {
            "mode": mode, "tools": [{"type": "function", "function": {"name": name}}],
        }})
    };
    for (choice, expected) in [
        (Value::Null, Some(("weather clock", auto))),
        (json!("auto"), Some(("weather clock", auto))),
        (json!("none"), Some(("", auto))),
        (json!("required"), Some(("weather clock", required))),
        (json!({"type": "function", "function": {"name": "clock"}}), Some(("clock", required))),
        (allowed("auto", "clock"), Some(("clock", auto))),
        (allowed("required", "weather"), Some(("weather", required))),
        (json!({"type": "function", "function": {"name": "nothing"}}), None),
        (json!("sometimes"), None),
        (json!({}), None),
        (json!(7), None),
    ] {
        let expected = expected.map(|(names, choice)| (names.to_owned(), choice));
        assert_eq!(chosen(choice.clone()), expected, "{choice}");
    }
}

#[test]
fn thinking_has_openais_words() {
    for (word, think) in [
        ("none", Think::Off),
        ("minimal", Think::Low),
        ("low", Think::Low),
        ("medium", Think::Medium),
        ("high", Think::High),
        ("xhigh", Think::Max),
        ("ultra", Think::Max),
        ("max", Think::Max),
    ] {
        assert_eq!(asked("reasoning_effort", json!(word)).think, Some(think), "{word}");
        assert_eq!(asked("reasoning", json!({"effort": word})).think, Some(think), "{word}");
    }
    let mut both = with("reasoning_effort", json!("low"));
    both["reasoning"] = json!({"effort": "high"});
    assert_eq!(read(&both).unwrap().request.think, Some(Think::Low));
    assert_eq!(asked("reasoning", json!({"summary": "auto"})).think, None);
}

#[test]
fn an_answers_shape_is_free_json_or_of_a_schema() {
    assert_eq!(asked("response_format", json!({"type": "text"})).format, None);
    assert_eq!(asked("response_format", json!({"type": "json_object"})).format, Some(Format::Json));
    let logprobs = |logprobs: Value, top: Value| {
        let mut body = with("logprobs", logprobs);
        body["top_logprobs"] = top;
        read(&body).unwrap().request.logprobs
    };
    assert_eq!(logprobs(json!(true), Value::Null), Some(0));
    assert_eq!(logprobs(json!(true), json!(20)), Some(20));
    assert_eq!(logprobs(json!(false), json!(5)), None);
    assert_eq!(logprobs(Value::Null, json!(5)), None);
}

#[test]
fn what_is_mistyped_or_out_of_bounds_is_named() {
    for (field, value, param) in [
        ("model", json!("../etc"), "model"),
        ("model", json!(7), "model"),
        ("messages", json!([]), "messages"),
        ("messages", json!("hi"), "messages"),
        ("messages", json!(vec![json!({"role": "user", "content": ""}); limits::MESSAGES + 1]), "messages"),
        ("messages", json!([{"content": "hi"}]), "messages[0].role"),
        ("messages", json!([{"role": "function", "content": "hi"}]), "messages[0].role"),
        ("messages", json!([{"role": "user", "content": 7}]), "messages[0].content"),
        ("messages", json!([{"role": "user", "content": [{"type": "file"}]}]), "messages[0].content[0].type"),
        ("messages", json!([{"role": "user", "content": [{"type": "text"}]}]), "messages[0].content[0].text"),
        (
            "messages",
            json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://10.0.0.1/a.png"}}]}]),
            "messages[0].content[0].image_url.url",
        ),
        (
            "messages",
            json!([{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "?"}}]}]),
            "messages[0].content[0].input_audio.data",
        ),
        (
            "messages",
            json!([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]),
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            "messages",
            json!([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}]),
            "messages[0].tool_calls[0].function.arguments",
        ),
        ("stream", json!("yes"), "stream"),
        ("stream_options", json!({"include_usage": 1}), "stream_options.include_usage"),
        ("max_tokens", json!(1.5), "max_tokens"),
        ("temperature", json!(2.5), "temperature"),
        ("temperature", json!("hot"), "temperature"),
        ("top_p", json!(-0.1), "top_p"),
        ("presence_penalty", json!(3), "presence_penalty"),
        ("frequency_penalty", json!(-3), "frequency_penalty"),
        ("seed", json!(u64::MAX), "seed"),
        ("stop", json!(7), "stop"),
        ("stop", json!(vec!["x"; limits::STOP_SEQUENCES + 1]), "stop"),
        ("tools", json!({}), "tools"),
        ("tools", json!([{"type": "web_search"}]), "tools[0]"),
        ("tools", json!([weather(), {"type": "function"}]), "tools[1]"),
        ("tool_choice", json!("required"), "tool_choice"),
        ("response_format", json!({"type": "yaml"}), "response_format"),
        ("response_format", json!({"type": "json_schema"}), "response_format.json_schema.schema"),
        ("response_format", json!("json"), "response_format"),
        ("reasoning_effort", json!("very"), "reasoning_effort"),
        ("reasoning", json!({"effort": "very"}), "reasoning.effort"),
        ("top_logprobs", json!(21), "top_logprobs"),
        ("logprobs", json!(5), "logprobs"),
        ("n", json!(2), "n"),
        ("n", json!(0), "n"),
        ("store", json!("yes"), "store"),
    ] {
        assert_eq!(refused(&with(field, value.clone())), param, "{field}: {value}");
    }
}

#[test]
fn an_absent_content_is_an_empty_one() {
    let messages = said(json!([{"role": "user"}, {"role": "assistant", "content": []}]));
    assert_eq!(messages, [ChatMessage::text(Role::User, ""), ChatMessage::text(Role::Assistant, "")]);
}

#[test]
fn b05_no_body_is_our_fault() {
    fuzz::no_body_is_our_fault(&[hi(), everything()], ChatCompletionRequest::read);
}
