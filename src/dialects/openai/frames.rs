//! What the frames of a streamed answer have in common, of a chat as of a completion.

use std::io::Write as _;

use actors::{
    model::TurnNames,
    reply::{Ending, Notice},
};

use super::reply::{FINGERPRINT, Kind, Usage};
use crate::{
    dialects::native::{TimingsView, millis},
    http::{ApiError, Place, RequestId, Wire, append_json},
};

/// A comment, which clients ignore and idle proxies do not.
const HEARTBEAT: &[u8] = b": hb\n\n";

const END: &[u8] = b"data: [DONE]\n\n";

/// Writes the frames of one answer.
pub(super) struct Frames {
    pub(super) names: TurnNames,
    request_id: RequestId,
    with_usage: bool,
    /// `data: {"id":…,"choices":[`: all of a chunk that does not change, prepared once.
    head: Vec<u8>,
}

impl Frames {
    pub(super) fn new(kind: Kind, names: TurnNames, request_id: RequestId, with_usage: bool) -> Self {
        let mut head = b"data: {\"id\":".to_vec();
        append_json(&mut head, &kind.id(names.turn));
        // Writing to memory cannot fail.
        let _ = write!(
            head,
            ",\"object\":\"{}\",\"created\":{},\"model\":",
            kind.chunk,
            names.created_at.timestamp()
        );
        append_json(&mut head, names.model.as_str());
        let _ = write!(head, ",\"system_fingerprint\":\"{FINGERPRINT}\",\"choices\":[");
        Self { names, request_id, with_usage, head }
    }

    /// A chunk whose one choice has what `write` says of it.
    pub(super) fn choice(&self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        self.open_choice(out);
        write(out);
        out.extend_from_slice(b",\"finish_reason\":null}]}\n\n");
    }

    fn open_choice(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"{\"index\":0,");
    }

    /// The last words: why it ended, beside a choice that says `nothing` more, what it cost if so wished, and the mark that
    /// nothing is missing.
    pub(super) fn end(&self, out: &mut Vec<u8>, nothing: &[u8], finish: &str, ending: &Ending) {
        self.open_choice(out);
        out.extend_from_slice(nothing);
        let _ = write!(out, ",\"finish_reason\":\"{finish}\"}}]");
        if let Some(stored) = ending.stored {
            let _ = write!(out, ",\"stored\":{stored}");
        }
        out.extend_from_slice(b"}\n\n");
        if self.with_usage {
            out.extend_from_slice(&self.head);
            out.extend_from_slice(b"],\"usage\":");
            append_json(out, &Usage::from(ending.usage));
            out.extend_from_slice(b",\"timings\":");
            append_json(out, &TimingsView::from(ending.timings));
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(END);
    }

    /// Says where the turn stands in the only way that these clients bear before the first chunk: a comment.
    pub(super) fn queue(out: &mut Vec<u8>, Notice { loading, position, eta }: Notice) {
        let state = if loading { "loading" } else { "waiting" };
        let _ = write!(out, ": queue state={state} position={position}");
        if let Some(eta) = eta {
            let _ = write!(out, " eta_ms={}", millis(eta));
        }
        out.extend_from_slice(b"\n\n");
    }

    /// Ends the stream without the mark of a whole one: with it, or without this frame, clients would take what came for all.
    pub(super) fn fail(&self, error: &ApiError, out: &mut Vec<u8>) {
        out.extend_from_slice(b"data: ");
        Wire::OpenAi.append(error, self.request_id.as_str(), Place::Stream, out);
        out.extend_from_slice(b"\n\n");
    }

    pub(super) fn heartbeat(out: &mut Vec<u8>) {
        out.extend_from_slice(HEARTBEAT);
    }
}
