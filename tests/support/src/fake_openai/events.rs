//! The events of an answer: what the engine says in Ollama's members, said in OpenAI's.

use serde_json::{Value, json};

use crate::fake_ollama::ask::Api;

/// One event.
pub(crate) fn event(data: &Value) -> Vec<u8> {
    format!("data: {data}\n\n").into_bytes()
}

/// What comes before the first token: a comment and the role.
pub(crate) fn opening(api: Api, model: &str) -> Vec<u8> {
    let mut bytes = b": processing\n\n".to_vec();
    if api == Api::OpenAiChat {
        bytes.extend(chunk(
            api,
            model,
            json!({ "role": "assistant", "content": "" }),
            Value::Null,
            Value::Null,
        ));
    }
    bytes
}

/// A piece of an answer, or its end: the text, what else an Ollama would have in its message, whether it is the last line with
/// its metrics, and what else would stand in the line.
pub(crate) fn piece(
    api: Api,
    model: &str,
    text: &str,
    in_message: &Value,
    end: &Value,
    in_line: &Value,
) -> Vec<u8> {
    let mut out = Vec::new();
    let logprobs = in_line.get("logprobs").map_or(Value::Null, |logprobs| likely(api, logprobs));
    let mut delta = json!({});
    if let Some(thought) = in_message.get("thinking") {
        delta["reasoning_content"] = thought.clone();
    }
    if !text.is_empty() || !logprobs.is_null() {
        delta["content"] = json!(text);
    }
    if delta != json!({}) {
        out.extend(chunk(api, model, delta, logprobs, Value::Null));
    }
    let calls = in_message.get("tool_calls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for call in calls {
        let function = &call["function"];
        let mut head = json!({ "index": function["index"], "type": "function",
                               "function": { "name": function["name"], "arguments": "" } });
        if let Some(id) = call.get("id") {
            head["id"] = id.clone();
        }
        out.extend(chunk(api, model, json!({ "tool_calls": [head] }), Value::Null, Value::Null));
        let arguments = function["arguments"].to_string();
        let (one, two) = arguments.split_at(arguments.len() / 2);
        for part in [one, two] {
            let more = json!({ "index": function["index"], "function": { "arguments": part } });
            out.extend(chunk(api, model, json!({ "tool_calls": [more] }), Value::Null, Value::Null));
        }
    }
    if end["done"] == true {
        if let Some(reason) = end.get("done_reason") {
            let reason = if calls.is_empty() { reason.clone() } else { json!("tool_calls") };
            out.extend(chunk(api, model, json!({}), Value::Null, reason));
        }
        if let Some(count) = end.get("eval_count") {
            let (prompt, answer) =
                (end["prompt_eval_count"].as_u64().unwrap_or(0), count.as_u64().unwrap_or(0));
            let usage = json!({ "prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer });
            out.extend(event(
                &json!({ "id": ID, "object": object(api), "created": 1_787_306_441, "model": model,
                                      "choices": [], "usage": usage, "context": in_line.get("context") }),
            ));
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
    out
}

/// An event without its end.
pub(crate) fn unended() -> Vec<u8> {
    br#"data: {"choices":[{"index":0,"delta":{"content":""#.to_vec()
}

const ID: &str = "chatcmpl-7f0000";

fn object(api: Api) -> &'static str {
    if api == Api::OpenAiText { "text_completion" } else { "chat.completion.chunk" }
}

fn chunk(api: Api, model: &str, delta: Value, logprobs: Value, reason: Value) -> Vec<u8> {
    let mut choice = json!({ "index": 0 });
    match api {
        Api::OpenAiText => choice["text"] = delta.get("content").cloned().unwrap_or_else(|| json!("")),
        _ => choice["delta"] = delta,
    }
    choice["logprobs"] = logprobs;
    choice["finish_reason"] = reason;
    event(
        &json!({ "id": ID, "object": object(api), "created": 1_787_306_441, "model": model, "choices": [choice] }),
    )
}

/// Probabilities in the shape of a chat, or of a continued text.
fn likely(api: Api, logprobs: &Value) -> Value {
    if api != Api::OpenAiText {
        return json!({ "content": logprobs });
    }
    let all = logprobs.as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |name: &str| all.iter().map(|one| one[name].clone()).collect::<Vec<_>>();
    let others = all.iter().map(|one| {
        let others = one["top_logprobs"].as_array().map(Vec::as_slice).unwrap_or_default();
        let named = others.iter().filter_map(|other| Some((other["token"].as_str()?, &other["logprob"])));
        named.map(|(token, logprob)| (token.to_owned(), logprob.clone())).collect::<Value>()
    });
    json!({ "tokens": of("token"), "token_logprobs": of("logprob"), "top_logprobs": others.collect::<Vec<_>>() })
}
