//! The answer as it comes: `message_start`, blocks one after another, `message_delta`, `message_stop`.
//!
//! Its libraries take a stream that just ends for a whole answer, so one that fails ends with an `error` event. What comes while
//! nothing is said is a `ping`, which they know.

use actors::{
    model::TurnNames,
    reply::{Ending, Event},
};
use domain::chat::ToolCall;
use serde::Serialize;
use serde_json::{Map, Value};

use super::reply::{AnswerBlock, MessageReply, MessageUsage, stop_reason};
use crate::{
    dialects::{
        Encode,
        native::finish_reason,
        parts::{arguments_text, call_id},
    },
    http::{ApiError, Place, RequestId, Wire, append_json},
};

const PING: &[u8] = b"event: ping\ndata: {\"type\":\"ping\"}\n\n";

/// Turns a turn's events into Anthropic's.
pub(crate) struct Encoder {
    names: TurnNames,
    request_id: RequestId,
    /// Of what there was to read, until it is counted.
    estimate: u32,
    has_begun: bool,
    open: Option<Open>,
    /// The place of the block that is open, or of the next one.
    index: u32,
    calls: usize,
}

/// A block that grows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
}

#[derive(Serialize)]
struct MessageStart<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: MessageReply<'a>,
}

#[derive(Serialize)]
struct BlockStart<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    index: u32,
    content_block: AnswerBlock<'a>,
}

#[derive(Serialize)]
struct BlockStop {
    #[serde(rename = "type")]
    kind: &'static str,
    index: u32,
}

#[derive(Serialize)]
struct MessageDelta {
    #[serde(rename = "type")]
    kind: &'static str,
    delta: Stopped,
    usage: MessageUsage,
}

#[derive(Serialize)]
struct Stopped {
    stop_reason: &'static str,
    stop_sequence: Option<&'static str>,
}

#[derive(Serialize)]
struct MessageStop {
    #[serde(rename = "type")]
    kind: &'static str,
}

impl Encoder {
    /// `estimate` is what there is to read, in tokens.
    pub(crate) fn new(names: TurnNames, request_id: RequestId, estimate: u32) -> Self {
        Self { names, request_id, estimate, has_begun: false, open: None, index: 0, calls: 0 }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.has_begun, true) {
            let message = MessageReply::opening(&self.names, self.estimate);
            frame(out, "message_start", &MessageStart { kind: "message_start", message });
        }
    }

    /// Sees to it that the block which is open is one of these.
    fn enter(&mut self, block: Open, out: &mut Vec<u8>) {
        if self.open == Some(block) {
            return;
        }
        self.close(out);
        let content_block = match block {
            Open::Text => AnswerBlock::Text { text: "" },
            Open::Thinking => AnswerBlock::Thinking { thinking: "", signature: "" },
        };
        self.start(content_block, out);
        self.open = Some(block);
    }

    fn start(&self, content_block: AnswerBlock<'_>, out: &mut Vec<u8>) {
        let kind = "content_block_start";
        frame(out, kind, &BlockStart { kind, index: self.index, content_block });
    }

    /// Ends the block that is open, if there is one.
    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            self.stop(out);
        }
    }

    fn stop(&mut self, out: &mut Vec<u8>) {
        let kind = "content_block_stop";
        frame(out, kind, &BlockStop { kind, index: self.index });
        self.index += 1;
    }

    /// More of the block that is open, of this type and in this field.
    fn delta(&self, delta: &str, field: &str, text: &str, out: &mut Vec<u8>) {
        let head = format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{},\"delta\":{{\"type\":\"{delta}\",\
             \"{field}\":",
            self.index
        );
        out.extend_from_slice(head.as_bytes());
        append_json(out, text);
        out.extend_from_slice(b"}}\n\n");
    }

    fn call(&mut self, call: &ToolCall, out: &mut Vec<u8>) {
        self.close(out);
        let id = call_id(call, self.names.turn, self.calls).into_owned();
        self.calls += 1;
        self.start(AnswerBlock::ToolUse { id, name: &call.name, input: Map::<String, Value>::new() }, out);
        self.delta("input_json_delta", "partial_json", &arguments_text(call), out);
        self.stop(out);
    }

    fn end(&mut self, ending: &Ending, out: &mut Vec<u8>) {
        match finish_reason(ending) {
            Err(error) => self.fail(&error, out),
            Ok(finish) => {
                self.begin(out);
                self.close(out);
                let delta = Stopped { stop_reason: stop_reason(finish), stop_sequence: None };
                let kind = "message_delta";
                frame(out, kind, &MessageDelta { kind, delta, usage: ending.usage.into() });
                frame(out, "message_stop", &MessageStop { kind: "message_stop" });
            }
        }
    }
}

impl Encode for Encoder {
    fn encode(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Queued(_) => {
                self.begin(out);
                out.extend_from_slice(PING);
            }
            Event::Started => self.begin(out),
            Event::Content { text, .. } => {
                self.begin(out);
                self.enter(Open::Text, out);
                self.delta("text_delta", "text", text, out);
            }
            Event::Thinking { text, .. } => {
                self.begin(out);
                self.enter(Open::Thinking, out);
                self.delta("thinking_delta", "thinking", text, out);
            }
            Event::ToolCall { call, .. } => {
                self.begin(out);
                self.call(call, out);
            }
            Event::Logprobs { .. } => {}
            Event::Ended { ending, .. } => self.end(ending, out),
        }
    }

    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: error\ndata: ");
        Wire::Anthropic.append(error, self.request_id.as_str(), Place::Stream, out);
        out.extend_from_slice(b"\n\n");
    }

    fn heartbeat(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(PING);
    }
}

fn frame<T: Serialize>(out: &mut Vec<u8>, event: &str, data: &T) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    append_json(out, data);
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests;
