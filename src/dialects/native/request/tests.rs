use domain::chat::{ChatMessage, Format, Role, Sampling, Think};
use serde_json::{Value, json};

use super::*;

fn parse(body: Value) -> Result<(ChatRequest, TurnOptions), ApiError> {
    serde_json::from_value::<ChatBody>(body).unwrap().into_request(None)
}

fn refused_at(field: &str, value: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    body[field] = value;
    let error = parse(body).unwrap_err();
    assert_eq!(error.status(), 400);
    serde_json::to_value(error.object("r")).unwrap()["param"].clone()
}

#[test]
fn a_plain_request_is_stored_and_ends_with_its_client() {
    let (request, options) =
        parse(json!({"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]})).unwrap();
    assert_eq!(request.messages, [ChatMessage::text(Role::User, "hi")]);
    assert_eq!(request.sampling, Sampling::default());
    assert!(options.store && !options.continue_on_disconnect && options.conversation.is_none());
}

#[test]
fn g11_runner_options_are_ignored_and_endless_answers_get_an_end() {
    let options =
        json!({"num_ctx": 999_999_999, "num_gpu": "all", "nonsense": [], "num_predict": -1, "stop": "x"});
    let body = json!({
        "model": "m", "messages": [{"role": "user", "content": "hi"}], "keep_alive": -1, "options": options,
    });
    let sampling = parse(body).unwrap().0.sampling;
    let expected = Sampling {
        num_predict: Some(limits::NUM_PREDICT),
        stop: vec!["x".to_owned()],
        ..Sampling::default()
    };
    assert_eq!(sampling, expected);
}

#[test]
fn what_is_out_of_bounds_or_mistyped_is_named() {
    assert_eq!(refused_at("model", json!("../etc")), "model");
    assert_eq!(refused_at("messages", json!([])), "messages");
    let many: Vec<_> = (0..=limits::MESSAGES).map(|_| json!({"role": "user", "content": ""})).collect();
    assert_eq!(refused_at("messages", json!(many)), "messages");
    assert_eq!(refused_at("options", json!({"temperature": "hot"})), "options.temperature");
    assert_eq!(refused_at("options", json!({"top_k": -1})), "options.top_k");
    assert_eq!(refused_at("options", json!({"stop": [1]})), "options.stop");
    assert_eq!(refused_at("format", json!("yaml")), "format");
    assert_eq!(refused_at("think", json!("hard")), "think");
    let images = json!([{"role": "user", "images": ["data:image/png;base64,AAAA"]}]);
    assert_eq!(refused_at("messages", images), "messages[0].images");
    assert_eq!(refused_at("tools", json!({"type": "function"})), "tools");
    assert_eq!(refused_at("tools", json!([function(json!({})), "function"])), "tools[1]");
    for other in
        [json!({}), json!({"type": "web_search"}), json!({"type": "function", "function": {"name": 1}})]
    {
        assert_eq!(refused_at("tools", json!([other])), "tools[0]");
    }
    assert_eq!(refused_at("options", json!([])), "options");
    assert_eq!(refused_at("messages", calling(json!("{}"), 1)), FIRST_ARGUMENTS);
}

const FIRST_ARGUMENTS: &str = "messages[0].tool_calls[0].function.arguments";

/// A message that calls a tool this many times.
fn calling(arguments: Value, times: usize) -> Value {
    let call = json!({"function": {"name": "f", "arguments": arguments}});
    json!([{"role": "assistant", "tool_calls": vec![call; times]}])
}

/// A tool with these parameters.
fn function(parameters: Value) -> Value {
    json!({"type": "function", "function": {"name": "f", "parameters": parameters}})
}

/// An object whose text is a little longer than `bytes`, of small values: what costs most as a tree.
fn tree_above(bytes: usize) -> Value {
    json!({ "x": vec![0; bytes / 2] })
}

#[test]
fn b04_what_becomes_a_tree_is_bounded_as_text_each_and_in_all() {
    assert_eq!(refused_at("format", tree_above(limits::FORMAT_BYTES)), "format");
    assert_eq!(refused_at("options", tree_above(limits::OPTIONS_BYTES)), "options");
    let large = function(tree_above(limits::TOOL_BYTES));
    assert_eq!(refused_at("tools", json!([function(json!({})), large])), "tools[1]");
    let tools = vec![function(tree_above(limits::TOOL_BYTES - 128)); 9];
    assert_eq!(refused_at("tools", json!(tools)), "tools");
    assert_eq!(refused_at("think", tree_above(1_000)), "think");
    let large = calling(tree_above(limits::ARGUMENTS_BYTES), 1);
    assert_eq!(refused_at("messages", large), FIRST_ARGUMENTS);
    let many = calling(tree_above(limits::ARGUMENTS_BYTES - 32), 5);
    assert_eq!(refused_at("messages", many), "messages");
}

#[test]
fn what_is_within_its_bounds_arrives_as_it_was_sent() {
    let (schema, tool, arguments) = (
        tree_above(limits::FORMAT_BYTES - 32),
        function(tree_above(limits::TOOL_BYTES - 128)),
        tree_above(limits::ARGUMENTS_BYTES - 32),
    );
    let body = json!({
        "model": "m", "messages": calling(arguments.clone(), 3), "format": schema, "tools": [tool],
        "think": "high", "options": null,
    });
    let request = parse(body).unwrap().0;
    assert_eq!(request.format, Some(Format::Schema(schema)));
    assert_eq!(request.tools, [tool]);
    assert_eq!(request.think, Some(Think::High));
    assert_eq!(request.messages[0].tool_calls[2].arguments, arguments);
}

#[test]
fn g02_of_a_tool_only_what_defines_its_function_is_passed_on() {
    let sneaky = json!({"type": "function", "server_url": "http://169.254.169.254/",
        "function": {"name": "f", "description": "d", "parameters": {}, "require_approval": "never"}});
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": [sneaky]});
    let passed = json!({"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}});
    assert_eq!(parse(body).unwrap().0.tools, [passed]);
}

#[test]
fn only_what_follows_a_named_message_may_say_nothing_new() {
    let id = "01900000-0000-7000-8000-000000000000";
    let options =
        parse(json!({"model": "m", "messages": [], "conversation_id": id, "parent_id": id})).unwrap().1;
    assert_eq!(options.parent.map(|parent| parent.to_string()).as_deref(), Some(id));
    let refused = |body: Value| {
        let error = parse(body).unwrap_err();
        (error.status().as_u16(), serde_json::to_value(error.object("r")).unwrap()["param"].clone())
    };
    let silent = json!({"model": "m", "messages": [], "conversation_id": id});
    assert_eq!(refused(silent), (400, json!("messages")));
    assert_eq!(refused_at("parent_id", json!(id)), "parent_id");
}

#[test]
fn an_answer_nobody_could_ever_read_is_not_generated() {
    let body = json!({
        "model": "m", "messages": [{"role": "user", "content": "hi"}], "store": false, "on_disconnect": "continue",
    });
    assert_eq!(parse(body).unwrap_err().status(), 400);
}

#[test]
fn b14_a_request_with_a_key_goes_on_without_its_client_unless_it_says_otherwise() {
    let claim = Claim { key: [1; 32], request: [2; 32] };
    let continues = |store: bool, wish: Value| {
        let body = json!({
            "model": "m", "messages": [{"role": "user", "content": "hi"}], "store": store, "on_disconnect": wish,
        });
        let body: ChatBody = serde_json::from_value(body).unwrap();
        let (_, options) = body.into_request(Some(claim)).unwrap();
        assert_eq!(options.claim, Some(claim));
        options.continue_on_disconnect
    };
    assert!(
        continues(true, Value::Null) && continues(false, Value::Null) && continues(false, json!("continue"))
    );
    assert!(!continues(true, json!("cancel")));
}
