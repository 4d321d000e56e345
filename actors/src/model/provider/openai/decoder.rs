//! The events of a streamed answer in, deltas and the last words out.
//!
//! ```text
//! bytes ──▶ sse: whole events ──▶ Chunk ──▶ text at once; tool calls when all their pieces are there; the end at `[DONE]`
//! ```
//!
//! It trusts nothing: servers leave out indexes, ids, `[DONE]` or the reason of the end, and some send an error as an event.
//! Whatever the bytes, it answers with deltas and at most one end, and never panics.

mod calls;
#[cfg(test)]
mod tests;

use std::time::Duration;

use domain::reply::{Delta, FinishReason, Usage};
use http::StatusCode;

use self::calls::Calls;
use super::{
    error::{Meaning, failed},
    sse::Events,
    wire::{Chunk, ChunkChoice},
};
use crate::model::provider::{
    Batch, Finish, UpstreamError,
    answer::{append_content, append_thinking, flaw, usage},
    transport::{Decode, LINE_BYTES_MAX},
};

/// Decodes one answer.
pub(super) struct Decoder {
    events: Events,
    answer: Answer,
    meaning: Meaning,
}

/// What is known of the answer beside the text that was passed on.
#[derive(Default)]
struct Answer {
    calls: Calls,
    called_tools: bool,
    reason: Option<FinishReason>,
    usage: Option<Usage>,
    ended: bool,
}

impl Decoder {
    pub(super) fn new(meaning: Meaning) -> Self {
        Self { events: Events::new(LINE_BYTES_MAX), answer: Answer::default(), meaning }
    }
}

impl Decode for Decoder {
    fn is_spoken_in(&self, content_type: &[u8]) -> bool {
        !content_type.starts_with(b"text/html") && !content_type.starts_with(b"application/json")
    }

    fn feed(&mut self, bytes: &[u8], batch: &mut Batch) -> Result<(), UpstreamError> {
        if self.answer.ended {
            return Ok(());
        }
        let Self { events, answer, meaning } = self;
        events.feed(bytes, |data| answer.event(data, meaning, batch))
    }

    fn end(&mut self, batch: &mut Batch) -> Result<(), UpstreamError> {
        let Self { events, answer, meaning } = self;
        match events.end(|data| answer.event(data, meaning, batch)) {
            // Half an event is what an answer that was cut off ends in.
            Ok(()) | Err(UpstreamError::Garbage(_)) => {}
            Err(error) => return Err(error),
        }
        if answer.ended {
            return Ok(());
        }
        match answer.reason {
            Some(_) => answer.done(batch),
            None => Err(UpstreamError::Incomplete),
        }
    }

    fn lacks_only_its_end(&self) -> bool {
        self.answer.reason.is_some()
    }

    fn refused(&self, status: StatusCode, words: &[u8]) -> UpstreamError {
        self.meaning.of(status, words)
    }
}

impl Answer {
    fn event(&mut self, data: &[u8], meaning: &Meaning, batch: &mut Batch) -> Result<(), UpstreamError> {
        let data = data.trim_ascii();
        if self.ended || data.is_empty() {
            return Ok(());
        }
        if data == b"[DONE]" {
            return self.done(batch);
        }
        // Serde would take an array for the fields in their order.
        if data.first() != Some(&b'{') {
            return Err(UpstreamError::Garbage("an event that is no JSON object".to_owned()));
        }
        let chunk: Chunk<'_> = serde_json::from_slice(data).map_err(|error| {
            UpstreamError::Garbage(format!("an event that is no JSON of ours: {}", flaw(&error)))
        })?;
        if let Some(error) = chunk.error.as_ref().and_then(|error| failed(error, meaning)) {
            return Err(error);
        }
        if let Some(counts) = &chunk.usage {
            self.usage =
                usage(counts.prompt_tokens.as_ref(), counts.completion_tokens.as_ref()).or(self.usage);
        }
        // We ask for one answer.
        match chunk.choices.and_then(|choices| choices.into_iter().next()) {
            Some(choice) => self.choice(choice, batch),
            None => Ok(()),
        }
    }

    fn choice(&mut self, choice: ChunkChoice<'_>, batch: &mut Batch) -> Result<(), UpstreamError> {
        let delta = choice.delta.unwrap_or_default();
        let calls = delta.tool_calls.unwrap_or_default();
        // Some servers give the same thought under both names.
        let thinking =
            if delta.reasoning_content.is_empty() { delta.reasoning } else { delta.reasoning_content };
        let texts = [&thinking, &delta.content, &delta.refusal, &choice.text];
        if !(texts.iter().all(|text| text.is_empty()) && calls.is_empty()) {
            batch.pieces += 1;
        }
        append_thinking(batch, thinking);
        append_content(batch, delta.content);
        append_content(batch, delta.refusal);
        append_content(batch, choice.text);
        if let Some(tokens) = choice.logprobs.map(Vec::from).filter(|tokens| !tokens.is_empty()) {
            batch.deltas.push(Delta::Logprobs(tokens));
        }
        for piece in calls {
            self.calls.add(piece)?;
        }
        if let Some(reason) = choice.finish_reason.as_deref().filter(|reason| !reason.is_empty()) {
            self.reason = Some(match reason {
                "length" | "max_tokens" => FinishReason::Length,
                "error" | "abort" | "insufficient_system_resource" => {
                    return Err(UpstreamError::Failed(format!("the answer ended with the reason {reason}")));
                }
                _ => FinishReason::Stop,
            });
            self.give_calls(batch)?;
        }
        Ok(())
    }

    /// Passes on the calls whose last piece has come.
    fn give_calls(&mut self, batch: &mut Batch) -> Result<(), UpstreamError> {
        let is_cut = self.reason == Some(FinishReason::Length);
        for call in self.calls.take(is_cut) {
            batch.deltas.push(Delta::ToolCall(call));
            self.called_tools = true;
        }
        Ok(())
    }

    fn done(&mut self, batch: &mut Batch) -> Result<(), UpstreamError> {
        self.give_calls(batch)?;
        self.ended = true;
        let reason = match self.reason {
            Some(FinishReason::Length) => FinishReason::Length,
            _ if self.called_tools => FinishReason::ToolCalls,
            _ => FinishReason::Stop,
        };
        batch.finish = Some(Finish { reason, usage: self.usage, load: Duration::ZERO });
        Ok(())
    }
}
