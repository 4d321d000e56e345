//! The text as it comes.

use actors::{model::TurnNames, reply::Event};

use crate::{
    dialects::{
        Encode,
        openai::{finish_reason, frames::Frames, logprobs::TextLogprobs, reply::COMPLETION},
    },
    http::{ApiError, RequestId, append_json},
};

/// Turns a turn's events into chunks.
pub(crate) struct Encoder {
    frames: Frames,
    /// Characters of the text whose tokens were told.
    offset: usize,
}

impl Encoder {
    pub(super) fn new(names: TurnNames, request_id: RequestId, with_usage: bool) -> Self {
        Self { frames: Frames::new(COMPLETION, names, request_id, with_usage), offset: 0 }
    }
}

impl Encode for Encoder {
    fn encode(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Queued(notice) => Frames::queue(out, notice),
            Event::Content { text, .. } => self.frames.choice(out, |out| {
                out.extend_from_slice(b"\"text\":");
                append_json(out, text);
                out.extend_from_slice(b",\"logprobs\":null");
            }),
            Event::Logprobs { tokens } => {
                let logprobs = TextLogprobs::of(tokens, &mut self.offset);
                self.frames.choice(out, |out| {
                    out.extend_from_slice(b"\"text\":\"\",\"logprobs\":");
                    append_json(out, &logprobs);
                });
            }
            Event::Ended { ending, .. } => match finish_reason(ending, false) {
                Ok(finish) => self.frames.end(out, b"\"text\":\"\",\"logprobs\":null", finish, ending),
                Err(error) => self.frames.fail(&error, out),
            },
            Event::Started | Event::Thinking { .. } | Event::ToolCall { .. } => {}
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
