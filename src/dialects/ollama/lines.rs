//! The answer as it comes: one JSON object a line (ollama-wire §2.3, §9).
//!
//! Each line is whole, and none is blank, which one of Ollama's libraries fails at. A stream that fails ends with an error's line and
//! without `done`.

use actors::{clock::Clock, model::TurnNames, reply::Event};
use serde::Serialize;

use super::reply::{Manner, OllamaReply};
use crate::{
    dialects::Encode,
    http::{ApiError, Place, RequestId, Wire, append_json},
};

/// Turns a turn's events into lines.
pub(crate) struct Encoder {
    names: TurnNames,
    request_id: RequestId,
    manner: Manner,
    clock: Clock,
    calls: usize,
}

impl Encoder {
    pub(crate) fn new(names: TurnNames, request_id: RequestId, manner: Manner, clock: Clock) -> Self {
        Self { names, request_id, manner, clock, calls: 0 }
    }

    fn piece<'a>(&'a self, content: &'a str, thinking: Option<&'a str>) -> OllamaReply<'a> {
        OllamaReply::piece(self.names.model.as_str(), self.clock.now(), self.manner, content, thinking)
    }
}

impl Encode for Encoder {
    fn encode(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        match event {
            // There is no line for either.
            Event::Queued(_) | Event::Started => {}
            Event::Content { text, .. } => line(out, &self.piece(text, None)),
            Event::Thinking { text, .. } => line(out, &self.piece("", Some(text))),
            Event::ToolCall { call, .. } => {
                line(out, &self.piece("", None).calling(std::slice::from_ref(call), self.calls));
                self.calls += 1;
            }
            Event::Logprobs { tokens } => line(out, &self.piece("", None).with_logprobs(tokens)),
            Event::Ended { ending, .. } => match self.piece("", None).ended(ending) {
                Ok(last) => line(out, &last),
                Err(error) => self.fail(&error, out),
            },
        }
    }

    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        Wire::Ollama.append(error, self.request_id.as_str(), Place::Stream, out);
        out.push(b'\n');
    }

    /// A piece without a word in it.
    fn heartbeat(&mut self, out: &mut Vec<u8>) {
        line(out, &self.piece("", None));
    }
}

fn line<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    append_json(out, value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests;
