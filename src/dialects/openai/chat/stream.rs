//! The answer as it comes: a chunk that says who speaks, thoughts and content in pieces, each tool call whole, and why it ended.

use actors::{
    model::TurnNames,
    reply::{Ending, Event},
};
use domain::{chat::ToolCall, reply::TokenLogprob};
use serde::Serialize;

use super::reply::AnsweredCall;
use crate::{
    dialects::{
        Encode,
        openai::{finish_reason, frames::Frames, logprobs::ChatLogprobs, reply::CHAT},
    },
    http::{ApiError, RequestId, append_json},
};

/// Turns a turn's events into chunks.
pub(crate) struct Encoder {
    frames: Frames,
    is_open: bool,
    calls: usize,
}

#[derive(Serialize)]
struct CallDelta<'a> {
    index: usize,
    #[serde(flatten)]
    call: AnsweredCall<'a>,
}

impl Encoder {
    pub(super) fn new(names: TurnNames, request_id: RequestId, with_usage: bool) -> Self {
        Self { frames: Frames::new(CHAT, names, request_id, with_usage), is_open: false, calls: 0 }
    }

    /// The first chunk, which says who speaks.
    fn open(&mut self, out: &mut Vec<u8>) {
        if !self.is_open {
            self.is_open = true;
            self.delta(out, |out| out.extend_from_slice(b"\"role\":\"assistant\",\"content\":\"\""));
        }
    }

    fn delta(&self, out: &mut Vec<u8>, fields: impl FnOnce(&mut Vec<u8>)) {
        self.frames.choice(out, |out| {
            out.extend_from_slice(b"\"delta\":{");
            fields(out);
            out.push(b'}');
        });
    }

    fn call(&mut self, call: &ToolCall, out: &mut Vec<u8>) {
        let index = self.calls;
        self.calls += 1;
        let call = AnsweredCall::new(call, self.frames.names.turn, index);
        self.delta(out, |out| {
            out.extend_from_slice(b"\"tool_calls\":");
            append_json(out, &[CallDelta { index, call }]);
        });
    }

    /// They come after the content they are of.
    fn logprobs(&self, tokens: &[TokenLogprob], out: &mut Vec<u8>) {
        self.frames.choice(out, |out| {
            out.extend_from_slice(b"\"delta\":{\"content\":\"\"},\"logprobs\":");
            append_json(out, &ChatLogprobs::of(tokens));
        });
    }

    fn end(&mut self, ending: &Ending, out: &mut Vec<u8>) {
        match finish_reason(ending, self.calls > 0) {
            Ok(finish) => {
                self.open(out);
                self.frames.end(out, b"\"delta\":{}", finish, ending);
            }
            Err(error) => self.frames.fail(&error, out),
        }
    }
}

impl Encode for Encoder {
    fn encode(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        if let Event::Content { .. }
        | Event::Thinking { .. }
        | Event::ToolCall { .. }
        | Event::Logprobs { .. } = event
        {
            self.open(out);
        }
        match event {
            Event::Queued(notice) => Frames::queue(out, notice),
            Event::Started => self.open(out),
            Event::Content { text, .. } => self.delta(out, |out| {
                out.extend_from_slice(b"\"content\":");
                append_json(out, text);
            }),
            Event::Thinking { text, .. } => self.delta(out, |out| {
                out.extend_from_slice(b"\"reasoning\":");
                let text_at = out.len();
                append_json(out, text);
                let text_end = out.len();
                out.extend_from_slice(b",\"reasoning_content\":");
                out.extend_from_within(text_at..text_end);
            }),
            Event::ToolCall { call, .. } => self.call(call, out),
            Event::Logprobs { tokens } => self.logprobs(tokens, out),
            Event::Ended { ending, .. } => self.end(ending, out),
        }
    }

    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        self.frames.fail(error, out);
    }

    fn heartbeat(&mut self, out: &mut Vec<u8>) {
        Frames::heartbeat(out);
    }
}

#[cfg(test)]
mod tests;
