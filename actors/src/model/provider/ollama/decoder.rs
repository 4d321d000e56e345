//! The line decoder: bytes of a streamed answer in, deltas and the last words out.
//!
//! ```text
//! chunks (cut anywhere) ──▶ whole lines ──▶ plain piece? ──▶ read in place, no JSON parser
//!                                          else ──────────▶ typed serde
//! ```
//!
//! It trusts nothing: HTTP chunks are not lines, a line is at most [`LINE_BYTES_MAX`] long, a stream may end without its
//! last line or go on after it. Whatever the bytes, it answers with deltas and at most one end, and never panics.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, time::Duration};

use domain::{
    chat::ToolCall,
    reply::{Delta, FinishReason, TokenLogprob},
};
use memchr::{memchr, memrchr};

use http::StatusCode;

use super::{
    error::from_status,
    wire::{Line, LineCall},
};
use crate::model::provider::{
    Batch, Finish, UpstreamError,
    answer::{append_content, append_thinking, arguments, call_id, flaw, usage},
    transport::{Decode, LINE_BYTES_MAX, TAIL_BYTES_KEPT, sanitise, text_of},
};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Decodes one answer.
pub(super) struct Decoder {
    /// The beginning of a line whose end has not come yet; never longer than `line_bytes_max`.
    tail: Vec<u8>,
    line_bytes_max: usize,
    /// Whether the next line is the first, which may start with a byte order mark.
    at_start: bool,
    called_tools: bool,
    ended: bool,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self::with_line_bytes_max(LINE_BYTES_MAX)
    }

    fn with_line_bytes_max(line_bytes_max: usize) -> Self {
        Self { tail: Vec::new(), line_bytes_max, at_start: true, called_tools: false, ended: false }
    }

    fn check_room(&self, more: usize) -> Result<(), UpstreamError> {
        if self.tail.len() + more > self.line_bytes_max {
            return Err(UpstreamError::Garbage(format!("a line of more than {} bytes", self.line_bytes_max)));
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], batch: &mut Batch) -> Result<(), UpstreamError> {
        let line =
            if std::mem::take(&mut self.at_start) { line.strip_prefix(BOM).unwrap_or(line) } else { line };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(piece) = plain_piece(line) {
            batch.pieces += u32::from(!piece.text().is_empty());
            match piece {
                Piece::Content(text) => append_content(batch, text),
                Piece::Thinking(text) => append_thinking(batch, text),
            }
            return Ok(());
        }
        match line.trim_ascii().first() {
            None => return Ok(()),
            Some(b'{') => {}
            // Serde would take an array for the fields in their order.
            Some(_) => return Err(UpstreamError::Garbage("a line that is no JSON object".to_owned())),
        }
        let line: Line<'_> = serde_json::from_slice(line).map_err(|error| {
            UpstreamError::Garbage(format!("a line that is no JSON of ours: {}", flaw(&error)))
        })?;
        if let Some(text) = line.error.as_ref().and_then(text_of) {
            return Err(UpstreamError::Failed(sanitise(&text)));
        }
        let message = line.message.unwrap_or_default();
        let calls = message.tool_calls.unwrap_or_default();
        let texts = [&message.content, &message.thinking, &line.response, &line.thinking];
        if !(texts.iter().all(|text| text.is_empty()) && calls.is_empty()) {
            batch.pieces += 1;
        }
        // Thinking comes before content, also when one line holds both.
        append_thinking(batch, message.thinking);
        append_thinking(batch, line.thinking);
        append_content(batch, message.content);
        append_content(batch, line.response);
        if let Some(tokens) = line.logprobs.filter(|tokens| !tokens.is_empty()) {
            batch.deltas.push(Delta::Logprobs(tokens.into_iter().map(TokenLogprob::from).collect()));
        }
        for call in calls {
            batch.deltas.push(Delta::ToolCall(tool_call(call)));
            self.called_tools = true;
        }
        if line.done {
            self.ended = true;
            let reason = match line.done_reason.as_deref() {
                Some("length") => FinishReason::Length,
                _ if self.called_tools => FinishReason::ToolCalls,
                _ => FinishReason::Stop,
            };
            batch.finish = Some(Finish {
                reason,
                usage: usage(line.prompt_eval_count.as_ref(), line.eval_count.as_ref()),
                load: Duration::from_nanos(line.load_duration.and_then(|nanos| nanos.as_u64()).unwrap_or(0)),
            });
        }
        Ok(())
    }
}

impl Decode for Decoder {
    fn is_spoken_in(&self, content_type: &[u8]) -> bool {
        !content_type.starts_with(b"text/html")
    }

    fn feed(&mut self, mut bytes: &[u8], batch: &mut Batch) -> Result<(), UpstreamError> {
        while !self.ended
            && let Some(end) = memchr(b'\n', bytes)
        {
            let line = &bytes[..end];
            bytes = &bytes[end + 1..];
            self.check_room(line.len())?;
            if self.tail.is_empty() {
                self.line(line, batch)?;
            } else {
                let mut whole = std::mem::take(&mut self.tail);
                whole.extend_from_slice(line);
                self.line(&whole, batch)?;
                // Keep the buffer for the next torn line, unless it once held a huge one.
                if whole.capacity() <= TAIL_BYTES_KEPT {
                    whole.clear();
                    self.tail = whole;
                }
            }
        }
        if !self.ended {
            self.check_room(bytes.len())?;
            self.tail.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn end(&mut self, batch: &mut Batch) -> Result<(), UpstreamError> {
        let tail = std::mem::take(&mut self.tail);
        if !self.ended {
            match self.line(&tail, batch) {
                Ok(()) | Err(UpstreamError::Garbage(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if self.ended { Ok(()) } else { Err(UpstreamError::Incomplete) }
    }

    fn refused(&self, status: StatusCode, words: &[u8]) -> UpstreamError {
        from_status(status, words)
    }
}

/// The text of a line that holds nothing else.
enum Piece<'a> {
    Content(Cow<'a, str>),
    Thinking(Cow<'a, str>),
}

impl Piece<'_> {
    fn text(&self) -> &str {
        let (Self::Content(text) | Self::Thinking(text)) = self;
        text
    }
}

/// Reads a line that is nothing but a piece of text, in exactly the form in which Ollama writes it.
///
/// `None` says nothing about the line: let the JSON parser read it. Matching the whole shape, not just a part, is what
/// makes this safe: no other key can hide in the line.
fn plain_piece(line: &[u8]) -> Option<Piece<'_>> {
    let rest = line.strip_prefix(br#"{"model":"#)?;
    let rest = after_string(rest)?.strip_prefix(br#","created_at":"#)?;
    let rest = after_string(rest)?.strip_prefix(br#","message":{"role":"assistant","content":"#)?;
    let rest = rest.strip_suffix(br#"},"done":false}"#)?;
    match rest.strip_prefix(br#""","thinking":"#) {
        Some(literal) => string(literal).map(Piece::Thinking),
        None => string(rest).map(Piece::Content),
    }
}

/// The text of a JSON string literal; `None` unless the bytes are exactly one.
fn string(literal: &[u8]) -> Option<Cow<'_, str>> {
    let inner = literal.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.iter().all(|&b| b != b'"' && b != b'\\' && b >= 0x20) {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    // Escapes. A quote that is not escaped makes this fail, so that the literal is known to be one string.
    serde_json::from_slice::<String>(literal).ok().map(Cow::Owned)
}

/// What follows a JSON string without escapes.
fn after_string(bytes: &[u8]) -> Option<&[u8]> {
    let inner = bytes.strip_prefix(b"\"")?;
    let end = memchr(b'"', inner)?;
    if memrchr(b'\\', &inner[..end]).is_some() { None } else { Some(&inner[end + 1..]) }
}

fn tool_call(call: LineCall) -> ToolCall {
    let arguments = arguments(call.function.arguments);
    ToolCall { id: call_id(call.id), name: call.function.name, arguments }
}
