use domain::chat::{ChatMessage, Role, ToolChoice};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn asked(body: Value) -> Result<ChatRequest, ApiError> {
    let body: MessagesRequest = serde_json::from_value::<Value>(body)
        .and_then(|body| serde_json::from_str(&body.to_string()))
        .map_err(|error| ApiError::invalid(error.to_string()))?;
    body.read().map(|asked| asked.request)
}

/// A request with these fields beside those that must be there.
fn with(fields: Value) -> Result<ChatRequest, ApiError> {
    let mut body = json!({"model": "m", "max_tokens": 7, "messages": [{"role": "user", "content": "hi"}]});
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    asked(body)
}

/// The field at fault.
fn refused(fields: Value) -> String {
    let error = with(fields.clone()).err().unwrap_or_else(|| panic!("{fields} was taken"));
    assert_eq!(error.status(), 400, "{fields}");
    error.object("r").param.unwrap_or_default().to_owned()
}

#[test]
fn what_is_said_in_blocks_becomes_messages_and_results_come_before_what_is_said_beside_them() {
    let request = with(json!({
        "system": [{"type": "text", "text": "be", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "brief"}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "look"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "x"},
                {"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "wait"},
                {"type": "tool_use", "id": "t1", "name": "now", "input": {"z": 1, "a": 2}}]},
            {"role": "user", "content": [{"type": "text", "text": "and?"},
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "noon"}]}]},
        ],
    }))
    .unwrap();
    let expected = vec![
        ChatMessage::text(Role::System, "be\nbrief"),
        ChatMessage { images: vec!["AAAA".to_owned()], ..ChatMessage::text(Role::User, "look") },
        ChatMessage {
            thinking: Some("hm".to_owned()),
            tool_calls: vec![domain::chat::ToolCall {
                id: "t1".to_owned(),
                name: "now".to_owned(),
                arguments: json!({"z": 1, "a": 2}),
            }],
            ..ChatMessage::text(Role::Assistant, "wait")
        },
        ChatMessage {
            tool_name: Some("now".to_owned()),
            tool_call_id: Some("t1".to_owned()),
            ..ChatMessage::text(Role::Tool, "noon")
        },
        ChatMessage::text(Role::User, "and?"),
    ];
    assert_eq!(request.messages, expected);
}

#[test]
fn options_tools_and_thinking_have_their_own_names_here() {
    let request = with(json!({
        "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "stop_sequences": ["END", ""],
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}},
                  {"type": "custom", "name": "g"}],
        "tool_choice": {"type": "tool", "name": "f"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        "metadata": {"user_id": "x"}, "keep_alive": 0, "Model": "other",
    }))
    .unwrap();
    assert_eq!(request.model.as_str(), "m");
    let Sampling { num_predict, temperature, top_p, top_k, stop, .. } = request.sampling;
    assert_eq!((num_predict, temperature, top_p, top_k), (Some(9), Some(0.5), Some(0.9), Some(5)));
    assert_eq!(stop, ["END"]);
    assert_eq!(
        request.tools,
        [json!({"type": "function", "function":
            {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}})]
    );
    assert_eq!(request.tool_choice, ToolChoice::Required);
    assert_eq!(request.think, Some(Think::High));
    assert_eq!(request.format, Some(Format::Schema(json!({"type": "object"}))));

    assert_eq!(with(json!({"thinking": {"type": "disabled"}})).unwrap().think, Some(Think::Off));
    assert_eq!(with(json!({"thinking": {"type": "adaptive"}})).unwrap().think, Some(Think::On));
    assert_eq!(with(json!({})).unwrap().think, None);
}

#[test]
fn what_cannot_be_done_is_refused_by_its_name() {
    let said = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    for (fields, param) in [
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"messages": []}), "messages"),
        (json!({"model": "../x"}), "model"),
        (json!({"temperature": 3}), "temperature"),
        (json!({"top_k": -1}), "top_k"),
        (json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}), "tools[0].type"),
        (json!({"tool_choice": {"type": "any"}}), "tool_choice"),
        (json!({"tool_choice": {"type": "tool"}}), "tool_choice.name"),
        (json!({"output_config": {"effort": "much"}}), "output_config.effort"),
        (json!({"system": [{"type": "image"}]}), "system[0].text"),
        (said(json!([{"type": "text"}])), "messages[0].content[0].text"),
        (said(json!([{"type": "tool_result"}])), "messages[0].content[0].tool_use_id"),
    ] {
        assert_eq!(refused(fields.clone()), param, "{fields}");
    }
}

#[test]
fn g11_pictures_from_elsewhere_are_refused() {
    for url in ["http://169.254.169.254/", "file:///etc/passwd", "https://example.org/a.png"] {
        let source = json!({"type": "url", "url": url});
        let content = json!([{"type": "image", "source": source}]);
        let param = refused(json!({"messages": [{"role": "user", "content": content}]}));
        assert_eq!(param, "messages[0].content[0].source.type");
        let inner = json!([{"type": "tool_result", "tool_use_id": "t", "content": content}]);
        let param = refused(json!({"messages": [{"role": "user", "content": inner}]}));
        assert_eq!(param, "messages[0].content[0].content[0].source.type");
    }
}

/// Any JSON, with words that mean something here.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "type",
        "text",
        "content",
        "role",
        "user",
        "assistant",
        "tool_result",
        "tool_use",
        "image",
        "thinking",
        "source",
        "input",
        "system",
        "messages",
        "id",
        "name",
        "tool_use_id",
        "base64",
        "enabled",
        "any",
        "tool",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..8).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_comes_is_read_or_refused_as_the_callers_fault(
        messages in any_json(), system in any_json(), tools in any_json(), choice in any_json(), thinking in any_json()
    ) {
        let fields = json!({"messages": messages, "system": system, "tools": tools, "tool_choice": choice, "thinking": thinking});
        if let Err(error) = with(fields) {
            prop_assert!(error.status().is_client_error());
        }
        if let Err(error) = with(json!({"messages": [{"role": "user", "content": messages}]})) {
            prop_assert!(error.status().is_client_error());
        }
    }
}
