//! Calls of tools as OpenAI's clients write and read them: with an id, and arguments as JSON in a string.

use std::{borrow::Cow, collections::HashMap};

use domain::{
    chat::{ChatMessage, ToolCall, limits},
    id::TurnId,
};
use serde_json::{Map, Value};

use crate::{
    dialects::raw::Allowance,
    http::{ApiError, JSON_DEPTH_MAX, append_json, is_json_deeper_than},
};

/// The object that `text` is; nothing at all is an empty one.
///
/// # Errors
///
/// 400 naming `param` when it is something else, too large, too deep, or together with those before it too much for `all`.
pub(crate) fn arguments(
    text: &str,
    all: &mut Allowance,
    param: impl FnOnce() -> String,
) -> Result<Value, ApiError> {
    all.take_bytes(text.len())?;
    if text.trim_ascii().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let wrong = if text.len() > limits::ARGUMENTS_BYTES {
        format!("this is larger than {} bytes of JSON", limits::ARGUMENTS_BYTES)
    } else if is_json_deeper_than(text.as_bytes(), JSON_DEPTH_MAX) {
        format!("the JSON nests deeper than {JSON_DEPTH_MAX} levels")
    } else if let Ok(arguments) = serde_json::from_str(text) {
        return Ok(Value::Object(arguments));
    } else {
        "this must be a JSON object in a string".to_owned()
    };
    Err(ApiError::invalid(wrong).at(param()))
}

/// A call's arguments as text.
pub(crate) fn arguments_text(call: &ToolCall) -> String {
    let mut text = Vec::new();
    match &call.arguments {
        Value::Object(arguments) => append_json(&mut text, arguments),
        other => append_json(&mut text, &arguments_object(other.clone())),
    }
    String::from_utf8(text).unwrap_or_default()
}

/// A call's arguments as clients are promised them, who take a model's for an object; it may answer with anything.
pub(crate) fn arguments_object(arguments: Value) -> Map<String, Value> {
    match arguments {
        Value::Object(arguments) => arguments,
        other => Map::from_iter([("value".to_owned(), other)]),
    }
}

/// What the `nth` call of a turn's answer is known by, whoever asks and however often.
pub(crate) fn call_id(call: &ToolCall, turn: TurnId, nth: usize) -> Cow<'_, str> {
    if call.id.is_empty() {
        return Cow::Owned(format!("call_{}_{nth}", turn.as_uuid().simple()));
    }
    Cow::Borrowed(&call.id)
}

/// # Errors
///
/// 400 naming the message in which the name of a function or the id of a call is too long.
pub(crate) fn check_names(messages: &[ChatMessage]) -> Result<(), ApiError> {
    let is_long = |message: &ChatMessage| {
        let of_calls = message.tool_calls.iter().flat_map(|call| [&call.id, &call.name]);
        let mut all = of_calls.chain(&message.tool_name).chain(&message.tool_call_id);
        all.any(|name| name.len() > limits::CALL_NAME_BYTES)
    };
    let Some(at) = messages.iter().position(is_long) else { return Ok(()) };
    let most = limits::CALL_NAME_BYTES;
    let wrong = format!("a function's name or a call's id has more than {most} bytes");
    Err(ApiError::invalid(wrong).at(format!("messages[{at}]")))
}

/// Says of each result which function it is of, where only the id of its call was given: models know functions by name.
///
/// # Errors
///
/// See [`check_names`].
pub(crate) fn name_results(messages: &mut [ChatMessage]) -> Result<(), ApiError> {
    check_names(messages)?;
    let mut names: HashMap<String, String> = HashMap::new();
    for message in messages {
        for call in &message.tool_calls {
            if !call.id.is_empty() {
                names.insert(call.id.clone(), call.name.clone());
            }
        }
        if message.tool_name.is_none() {
            message.tool_name = message.tool_call_id.as_ref().and_then(|id| names.get(id)).cloned();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use domain::chat::Role;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn read(text: &str) -> Result<Value, ApiError> {
        let mut all = Allowance::new("messages", limits::ALL_ARGUMENTS_BYTES);
        arguments(text, &mut all, || "at".to_owned())
    }

    fn call(id: &str, name: &str, arguments: Value) -> ToolCall {
        ToolCall { id: id.to_owned(), name: name.to_owned(), arguments }
    }

    #[test]
    fn arguments_are_an_object_in_a_string_or_nothing() {
        assert_eq!(read("").unwrap(), json!({}));
        assert_eq!(read(" \n").unwrap(), json!({}));
        assert_eq!(read(r#"{"b":1,"a":[2]}"#).unwrap().to_string(), r#"{"b":1,"a":[2]}"#);
        for wrong in ["{", "[]", "null", "7", "\"{}\"", "{} {}", "{\"a\":"] {
            let refused = read(wrong).unwrap_err();
            assert_eq!((refused.status().as_u16(), refused.object("r").param), (400, Some("at")), "{wrong}");
        }
    }

    #[test]
    fn b04_arguments_are_bounded_in_size_and_depth_and_in_all() {
        let of_bytes = |bytes: usize| format!("{{\"x\":\"{}\"}}", "y".repeat(bytes - 8));
        assert!(read(&of_bytes(limits::ARGUMENTS_BYTES)).is_ok());
        assert_eq!(read(&of_bytes(limits::ARGUMENTS_BYTES + 1)).unwrap_err().status(), 400);
        let nested = |depth: usize| format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(JSON_DEPTH_MAX - 1)).is_ok());
        assert_eq!(read(&nested(JSON_DEPTH_MAX)).unwrap_err().status(), 400);
        let mut all = Allowance::new("messages", limits::ALL_ARGUMENTS_BYTES);
        let mut taken = 0;
        let refused = loop {
            match arguments(&of_bytes(limits::ARGUMENTS_BYTES), &mut all, String::new) {
                Ok(_) => taken += 1,
                Err(refused) => break refused,
            }
        };
        assert_eq!((taken, refused.object("r").param), (4, Some("messages")));
    }

    #[test]
    fn what_a_model_says_is_told_as_an_object_under_an_id_that_stays() {
        assert_eq!(arguments_text(&call("", "f", json!({"a": "\u{2028}"}))), r#"{"a":"\u2028"}"#);
        assert_eq!(arguments_text(&call("", "f", json!([1]))), r#"{"value":[1]}"#);
        let turn = Uuid::from_u128(7).into();
        assert_eq!(call_id(&call("call_x", "f", json!({})), turn, 1), "call_x");
        assert_eq!(call_id(&call("", "f", json!({})), turn, 1), "call_00000000000000000000000000000007_1");
    }

    #[test]
    fn b04_names_and_ids_that_results_repeat_are_bounded() {
        let long = "n".repeat(limits::CALL_NAME_BYTES + 1);
        let calling = |id: &str, name: &str| ChatMessage {
            tool_calls: vec![call(id, name, json!({}))],
            ..ChatMessage::text(Role::Assistant, "")
        };
        assert!(check_names(&[calling("i", &long[1..])]).is_ok());
        for message in [
            calling("i", &long),
            calling(&long, "f"),
            ChatMessage { tool_name: Some(long.clone()), ..ChatMessage::text(Role::Tool, "") },
            ChatMessage { tool_call_id: Some(long.clone()), ..ChatMessage::text(Role::Tool, "") },
        ] {
            let refused = name_results(&mut [ChatMessage::text(Role::User, "hi"), message]).unwrap_err();
            assert_eq!((refused.status().as_u16(), refused.object("r").param), (400, Some("messages[1]")));
        }
    }

    #[test]
    fn a_result_is_named_after_the_latest_call_before_it_that_has_its_id() {
        let calling = |calls: Vec<ToolCall>| ChatMessage {
            tool_calls: calls,
            ..ChatMessage::text(Role::Assistant, "")
        };
        let result = |id: &str, name: Option<&str>| ChatMessage {
            tool_call_id: Some(id.to_owned()),
            tool_name: name.map(str::to_owned),
            ..ChatMessage::text(Role::Tool, "4")
        };
        let mut messages = vec![
            result("1", None),
            calling(vec![call("1", "sum", json!({})), call("", "odd", json!({}))]),
            result("1", None),
            result("1", Some("said")),
            result("", None),
            calling(vec![call("1", "difference", json!({}))]),
            result("1", None),
        ];
        name_results(&mut messages).unwrap();
        let names: Vec<_> = messages.iter().map(|message| message.tool_name.as_deref()).collect();
        assert_eq!(names, [None, None, Some("sum"), Some("said"), None, None, Some("difference")]);
    }
}
