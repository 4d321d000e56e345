//! Tool calls put together from their pieces.
//!
//! The first piece of a call has its id and name, the later ones more of its arguments. An index says which call a piece belongs
//! to; where it is missing, a piece with another id begins another call.

use domain::chat::ToolCall;
use serde_json::Value;

use super::super::wire::CallPiece;
use crate::model::provider::{
    UpstreamError,
    answer::{arguments, call_id},
};

/// Calls of one answer.
const CALLS_MAX: usize = 128;

/// The text of all arguments of one answer's calls.
const CALLS_BYTES_MAX: usize = 4 << 20;

#[derive(Default)]
pub(super) struct Calls {
    under_way: Vec<UnderWay>,
    bytes: usize,
}

struct UnderWay {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

impl Calls {
    /// # Errors
    ///
    /// [`UpstreamError::TooLarge`] beyond the bounds.
    pub(super) fn add(&mut self, piece: CallPiece) -> Result<(), UpstreamError> {
        let CallPiece { index, id, function } = piece;
        let index = index.and_then(|index| index.as_u64());
        let id = id.unwrap_or_default();
        let function = function.unwrap_or_default();
        // Ollama's dialect, spoken by some who claim this one, has them as an object.
        let text = match function.arguments {
            Some(Value::String(text)) => text,
            Some(Value::Null) | None => String::new(),
            Some(value) => value.to_string(),
        };
        let name = function.name.unwrap_or_default();
        self.bytes += text.len() + name.len() + id.len();
        let is_new = self.find(index, &id).is_none();
        if self.bytes > CALLS_BYTES_MAX || (is_new && self.under_way.len() == CALLS_MAX) {
            return Err(UpstreamError::TooLarge);
        }
        if is_new {
            self.under_way.push(UnderWay { index, id, name, arguments: text });
            return Ok(());
        }
        let Some(call) = self.find(index, &id) else { return Ok(()) };
        // Repeated by some servers with each piece.
        if call.id.is_empty() {
            call.id = id;
        }
        if call.name.is_empty() {
            call.name = name;
        }
        call.arguments.push_str(&text);
        Ok(())
    }

    fn find(&mut self, index: Option<u64>, id: &str) -> Option<&mut UnderWay> {
        match index {
            Some(_) => self.under_way.iter_mut().rfind(|call| call.index == index),
            None => self.under_way.last_mut().filter(|call| id.is_empty() || call.id == id),
        }
    }

    /// The calls as they were meant. Of an answer that was cut for its length, the last one need not be whole, and is left out; so
    /// is one that names nothing.
    pub(super) fn take(&mut self, is_cut: bool) -> Vec<ToolCall> {
        self.bytes = 0;
        let under_way = std::mem::take(&mut self.under_way);
        let last = under_way.len().saturating_sub(1);
        let call = |(place, call): (usize, UnderWay)| {
            let UnderWay { id, name, arguments: text, .. } = call;
            let given = if text.trim().is_empty() { Value::Null } else { Value::String(text) };
            let arguments = arguments(given);
            let is_half = is_cut && place == last && !arguments.is_object();
            (!name.is_empty() && !is_half).then(|| ToolCall { id: call_id(Some(id)), name, arguments })
        };
        under_way.into_iter().enumerate().filter_map(call).collect()
    }
}
