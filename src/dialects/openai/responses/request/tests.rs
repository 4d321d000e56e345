use domain::chat::{ChatMessage, Role, Sampling, Think, ToolCall, ToolChoice};
use uuid::Uuid;

use super::*;
use crate::{
    dialects::{fuzz, openai::Manner},
    http::understand_body,
};

fn read(body: &Value) -> Result<Asked<Responses>, ApiError> {
    understand_body(body.to_string().as_bytes(), |body: ResponsesRequest, _| body.read())
}

fn with(field: &str, value: Value) -> Value {
    let mut body = json!({"model": "m", "input": "hi"});
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

fn said(input: Value) -> Vec<ChatMessage> {
    asked("input", input).messages
}

/// What a response tells again.
fn told(body: &Value) -> Value {
    serde_json::to_value(&read(body).unwrap().shape.0).unwrap()
}

fn function(name: &str) -> Value {
    json!({"type": "function", "name": name, "description": "d", "parameters": {"type": "object"}, "strict": true})
}

fn call(id: &str, name: &str, arguments: Value) -> ToolCall {
    ToolCall { id: id.into(), name: name.into(), arguments }
}

/// One with all there is.
fn everything() -> Value {
    json!({
        "model": "qwen3:8b", "instructions": "be brief",
        "input": [
            {"role": "developer", "content": "be kind"},
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "what is this"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"},
                {"type": "input_audio", "input_audio": {"data": "BBBB", "format": "wav"}},
            ]},
            {"type": "reasoning", "id": "rs_1", "encrypted_content": null, "summary": [
                {"type": "summary_text", "text": "hm"},
            ]},
            {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [
                {"type": "output_text", "text": "let me see", "annotations": [], "logprobs": []},
            ]},
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "arguments": "{\"city\":\"Oslo\"}",
             "status": "completed"},
            {"type": "function_call", "call_id": "call_2", "name": "clock", "arguments": ""},
            {"type": "function_call_output", "call_id": "call_2", "output": "noon"},
            {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "rain"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "it rains"}]},
            {"role": "user", "content": "and now"},
        ],
        "stream": true, "max_output_tokens": 50, "temperature": 0.5, "top_p": 0.25,
        "tools": [function("weather"), {"type": "function", "name": "clock"}],
        "tool_choice": {"type": "function", "name": "weather"},
        "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "x", "strict": true, "schema": {"type": "object"}}},
        "reasoning": {"effort": "minimal", "summary": "auto"}, "include": ["message.output_text.logprobs", "other"],
        "top_logprobs": 3, "store": true, "metadata": {"a": "b\u{2028}"}, "parallel_tool_calls": false,
        "previous_response_id": "resp_00000000000000000000000000000007", "background": false, "truncation": "disabled",
        "user": "u", "service_tier": "auto", "stream_options": {"include_obfuscation": false}, "conversation": null,
        "prompt": null, "max_tool_calls": 1, "safety_identifier": "s", "prompt_cache_key": "k",
    })
}

#[test]
fn each_field_has_its_place_in_what_is_asked_of_the_model() {
    let Asked { request, options, previous, manner, .. } = read(&everything()).unwrap();
    let result = |id: &str, name: &str, text: &str| ChatMessage {
        tool_call_id: Some(id.into()),
        tool_name: Some(name.into()),
        ..ChatMessage::text(Role::Tool, text)
    };
    let messages = vec![
        ChatMessage::text(Role::System, "be brief"),
        ChatMessage::text(Role::System, "be kind"),
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
            ..ChatMessage::text(Role::Assistant, "let me see")
        },
        result("call_2", "clock", "noon"),
        result("call_1", "weather", "rain"),
        ChatMessage::text(Role::Assistant, "it rains"),
        ChatMessage::text(Role::User, "and now"),
    ];
    let weather = json!({"type": "function", "function": {
        "name": "weather", "description": "d", "parameters": {"type": "object"},
    }});
    let expected = ChatRequest {
        sampling: Sampling {
            num_predict: Some(50),
            temperature: Some(0.5),
            top_p: Some(0.25),
            ..Sampling::default()
        },
        tools: vec![weather],
        tool_choice: ToolChoice::Required,
        format: Some(Format::Schema(json!({"type": "object"}))),
        think: Some(Think::Low),
        logprobs: Some(3),
        ..ChatRequest::new(model_name("qwen3:8b").unwrap(), messages)
    };
    assert_eq!(request, expected);
    assert!(matches!(manner, Manner::Streamed { .. }));
    assert!(options.store && options.is_streamed && !options.continue_on_disconnect);
    assert_eq!(previous, Some(Uuid::from_u128(7).into()));
}

#[test]
fn what_is_not_said_is_left_to_the_model_and_nothing_is_kept() {
    let Asked { request, options, previous, manner, .. } =
        read(&json!({"model": "m", "input": "hi"})).unwrap();
    let hi = vec![ChatMessage::text(Role::User, "hi")];
    assert_eq!(request, ChatRequest::new(model_name("m").unwrap(), hi));
    assert_eq!((manner, previous), (Manner::Whole, None));
    assert!(!options.store && !options.is_streamed);
    let mut nulls = everything();
    for (name, value) in nulls.as_object_mut().unwrap() {
        if !["model", "input"].contains(&name.as_str()) {
            *value = Value::Null;
        }
    }
    nulls["input"] = json!("hi");
    let mut expected = request;
    expected.model = model_name("qwen3:8b").unwrap();
    assert_eq!(read(&nulls).unwrap().request, expected);
}

#[test]
fn whoever_goes_on_with_what_is_kept_keeps_it_unless_told_otherwise() {
    let mut body = with("previous_response_id", json!("resp_00000000000000000000000000000007"));
    assert!(read(&body).unwrap().options.store);
    body["store"] = json!(false);
    assert!(!read(&body).unwrap().options.store);
    for wrong in ["", "resp_", "resp_7", "chatcmpl-00000000000000000000000000000007"] {
        assert_eq!(refused(&with("previous_response_id", json!(wrong))), "previous_response_id");
    }
}

#[test]
fn g11_what_would_reload_the_model_or_name_another_has_no_way_in() {
    let mut body = with("Model", json!("secret"));
    for (name, value) in [
        ("keep_alive", json!(0)),
        ("num_ctx", json!(1)),
        ("options", json!({"num_ctx": 1})),
        ("\u{212a}eep_alive", json!(0)),
    ] {
        body[name] = value;
    }
    assert_eq!(read(&body).unwrap().request, asked("user", json!("u")));
}

#[test]
fn what_an_assistant_did_in_a_row_is_one_message_and_what_came_later_another() {
    let thought =
        |text: &str| json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]});
    let said_so = |text: &str| json!({"role": "assistant", "content": text});
    let called = json!({"type": "function_call", "call_id": "c", "name": "now", "arguments": "{}"});
    let assistant = |text: &str| ChatMessage::text(Role::Assistant, text);
    let calls = vec![call("c", "now", json!({}))];
    assert_eq!(
        said(
            json!([thought("a"), thought("b"), called, said_so("x"), said_so("y"), thought("z"), {"role": "user", "content": "?"}])
        ),
        vec![
            ChatMessage { thinking: Some("a\nb".into()), tool_calls: calls, ..assistant("") },
            assistant("x"),
            assistant("y"),
            ChatMessage { thinking: Some("z".into()), ..assistant("") },
            ChatMessage::text(Role::User, "?"),
        ]
    );
    // Thoughts that another service keeps to itself are none.
    let empty = json!({"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "xyz"});
    assert_eq!(said(json!([empty, {"role": "user", "content": "?"}])).len(), 1);
    let open =
        json!({"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "t"}]});
    assert_eq!(said(json!([open, said_so("x")]))[0].thinking.as_deref(), Some("t"));
}

#[test]
fn a_choice_of_tools_narrows_what_the_model_is_given() {
    let mut body = with("tools", json!([function("weather"), {"type": "function", "name": "clock"}]));
    let mut chosen = |choice: Value| {
        body["tool_choice"] = choice;
        let request = read(&body).ok()?.request;
        let names = request.tools.iter().map(|tool| tool["function"]["name"].as_str().unwrap());
        Some((names.collect::<Vec<_>>().join(" "), request.tool_choice))
    };
    let (auto, required) = (ToolChoice::Auto, ToolChoice::Required);
    let allowed =
        json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "clock"}]});
    for (choice, expected) in [
        (Value::Null, Some(("weather clock", auto))),
        (json!("auto"), Some(("weather clock", auto))),
        (json!("none"), Some(("", auto))),
        (json!("required"), Some(("weather clock", required))),
        (json!({"type": "function", "name": "clock"}), Some(("clock", required))),
        (allowed, Some(("clock", auto))),
        (json!({"type": "function", "name": "nothing"}), None),
        (json!({"type": "web_search"}), None),
        (json!("sometimes"), None),
        (json!(7), None),
    ] {
        let expected = expected.map(|(names, choice)| (names.to_owned(), choice));
        assert_eq!(chosen(choice.clone()), expected, "{choice}");
    }
}

#[test]
fn an_answers_shape_is_free_json_or_of_a_schema() {
    let format = |kind: &str| asked("text", json!({"format": {"type": kind}})).format;
    assert_eq!((format("text"), format("json_object")), (None, Some(Format::Json)));
    assert_eq!(asked("text", json!({"verbosity": "low"})).format, None);
    assert_eq!(
        refused(&with("text", json!({"format": {"type": "json_schema", "name": "x"}}))),
        "text.format.schema"
    );
    assert_eq!(asked("include", json!(["message.output_text.logprobs"])).logprobs, Some(0));
    assert_eq!(asked("top_logprobs", json!(5)).logprobs, Some(5));
}

#[test]
fn a_response_tells_again_how_it_was_asked_for_in_one_line() {
    let again = told(&everything());
    assert_eq!(again["metadata"], json!({"a": "b\u{2028}"}));
    assert_eq!(again["tool_choice"], everything()["tool_choice"]);
    assert_eq!(again["tools"][0], function("weather"));
    assert_eq!((&again["max_output_tokens"], &again["store"]), (&json!(50), &json!(true)));
    assert_eq!(again["previous_response_id"], everything()["previous_response_id"]);
    assert_eq!(again["reasoning"], json!({"effort": "minimal", "summary": null}));
    assert_eq!(again["text"]["format"]["schema"], json!({"type": "object"}));
    let usual = told(&with("user", Value::Null));
    assert_eq!((&usual["tools"], &usual["tool_choice"]), (&json!([]), &json!("auto")));
    assert_eq!((&usual["metadata"], &usual["text"]), (&json!({}), &json!({"format": {"type": "text"}})));

    // A line end between two tokens of what was given must not be one of a frame.
    let text = "{\"model\":\"m\",\"input\":\"hi\",\n\"metadata\":{\r\n\"a\":\"\u{2028}\"\n},\"tools\":[\n]}";
    let asked = understand_body(text.as_bytes(), |body: ResponsesRequest, _| body.read()).unwrap();
    let mut out = Vec::new();
    crate::http::append_json(&mut out, &asked.shape.0);
    let out = String::from_utf8(out).unwrap();
    assert!(!out.contains(['\n', '\r', '\u{2028}']) && out.contains("\\u2028"), "{out}");
}

#[test]
fn what_is_mistyped_out_of_bounds_or_not_here_is_named() {
    let item = |item: Value| with("input", json!([item]));
    let part = |part: Value| item(json!({"role": "user", "content": [part]}));
    let many: serde_json::Map<_, _> = (0..17).map(|n| (n.to_string(), json!("x"))).collect();
    for (body, param) in [
        (with("model", json!("../etc")), "model"),
        (with("input", json!([])), "input"),
        (with("max_output_tokens", json!(0)), "max_output_tokens"),
        (with("temperature", json!(2.1)), "temperature"),
        (with("top_p", json!(1.1)), "top_p"),
        (with("top_logprobs", json!(21)), "top_logprobs"),
        (with("reasoning", json!({"effort": "hard"})), "reasoning.effort"),
        (with("background", json!(true)), "background"),
        (with("conversation", json!("conv_1")), "conversation"),
        (with("prompt", json!({"id": "pmpt_1"})), "prompt"),
        (with("tools", json!([{"type": "web_search"}])), "tools[0]"),
        (with("tools", json!([function("a"), {"type": "custom", "name": "x"}])), "tools[1]"),
        (with("tool_choice", json!("required")), "tool_choice"),
        (with("metadata", json!({"a": 1})), "metadata"),
        (with("metadata", Value::Object(many)), "metadata"),
        (with("text", json!({"format": {"type": "x"}})), "text"),
        (item(json!({"type": "item_reference", "id": "x"})), "input[0].type"),
        (item(json!({"type": "message", "content": "x"})), "input[0].role"),
        (item(json!({"role": "user"})), "input[0].content"),
        (item(json!({"type": "function_call", "name": "x"})), "input[0].call_id"),
        (item(json!({"type": "function_call", "call_id": "x"})), "input[0].name"),
        (
            item(json!({"type": "function_call", "call_id": "x", "name": "x", "arguments": "["})),
            "input[0].arguments",
        ),
        (item(json!({"type": "function_call_output", "call_id": "x"})), "input[0].output"),
        (part(json!({"type": "input_text"})), "input[0].content[0].text"),
        (part(json!({"type": "input_file", "file_id": "x"})), "input[0].content[0].type"),
        (part(json!({"type": "input_image", "file_id": "x"})), "input[0].content[0].image_url"),
        (
            part(json!({"type": "input_image", "image_url": "http://127.0.0.1/"})),
            "input[0].content[0].image_url",
        ),
    ] {
        assert_eq!(refused(&body), param, "{body}");
    }
}

#[test]
fn b05_no_body_is_our_fault() {
    fuzz::no_body_is_our_fault(&[everything(), json!({"model": "m", "input": "hi"})], ResponsesRequest::read);
}
