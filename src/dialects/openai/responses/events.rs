//! The events of a stream, as they are written.

use std::io::Write as _;

use serde::Serialize;

use super::{item::ItemView, reply::ResponseReply};
use crate::http::{ErrorObject, append_json};

/// What the events of an item's words are called.
#[derive(PartialEq, Eq)]
pub(super) struct Words {
    pub(super) part_added: &'static str,
    pub(super) delta: &'static str,
    pub(super) done: &'static str,
    pub(super) part_done: &'static str,
    pub(super) index: &'static str,
    /// What follows a delta's text.
    pub(super) after: &'static [u8],
}

pub(super) const REASONING: Words = Words {
    part_added: "response.reasoning_summary_part.added",
    delta: "response.reasoning_summary_text.delta",
    done: "response.reasoning_summary_text.done",
    part_done: "response.reasoning_summary_part.done",
    index: "summary_index",
    after: b"",
};

pub(super) const MESSAGE: Words = Words {
    part_added: "response.content_part.added",
    delta: "response.output_text.delta",
    done: "response.output_text.done",
    part_done: "response.content_part.done",
    index: "content_index",
    after: b",\"logprobs\":[]",
};

#[derive(Serialize)]
struct Numbered<'a, T> {
    #[serde(rename = "type")]
    event: &'static str,
    sequence_number: u64,
    #[serde(flatten)]
    data: &'a T,
}

#[derive(Serialize)]
pub(super) struct ItemEvent<'a> {
    pub(super) output_index: usize,
    pub(super) item: ItemView<'a>,
}

#[derive(Serialize)]
pub(super) struct ResponseEvent<'a> {
    pub(super) response: ResponseReply<'a>,
}

#[derive(Serialize)]
pub(super) struct ArgumentsDelta<'a> {
    pub(super) item_id: &'a str,
    pub(super) output_index: usize,
    pub(super) delta: &'a str,
}

#[derive(Serialize)]
pub(super) struct ArgumentsDone<'a> {
    pub(super) item_id: &'a str,
    pub(super) output_index: usize,
    pub(super) name: &'a str,
    pub(super) arguments: &'a str,
}

/// As OpenAI describes it, and once more as its libraries look for it.
#[derive(Serialize)]
pub(super) struct ErrorEvent<'a> {
    pub(super) code: &'a str,
    pub(super) message: &'a str,
    pub(super) param: Option<&'a str>,
    pub(super) error: ErrorObject<'a>,
}

/// An event with the fields of `data`.
pub(super) fn frame<T: Serialize>(out: &mut Vec<u8>, event: &'static str, sequence_number: u64, data: &T) {
    // Writing to memory cannot fail.
    let _ = write!(out, "event: {event}\ndata: ");
    append_json(out, &Numbered { event, sequence_number, data });
    out.extend_from_slice(b"\n\n");
}
