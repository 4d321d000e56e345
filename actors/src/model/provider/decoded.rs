//! What a decoder makes of bytes, for the tests of each.

use domain::{chat::ToolCall, reply::Delta};
use serde_json::Value;

use super::{Batch, Finish, UpstreamError, transport::Decode};

/// What a stream of bytes came to: its deltas with neighbours of one kind joined, the pieces, and how it ended.
#[derive(Debug, PartialEq)]
pub(super) struct Decoded {
    pub(super) deltas: Vec<Delta>,
    pub(super) pieces: u32,
    pub(super) end: Result<Finish, UpstreamError>,
}

/// Of these chunks, fed to `decoder` one by one.
pub(super) fn decoded<'a>(mut decoder: impl Decode, chunks: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let (mut deltas, mut pieces, mut finish, mut batch) = (Vec::new(), 0, None, Batch::default());
    let mut take = |batch: &mut Batch| {
        for mut delta in batch.deltas.drain(..) {
            if let Delta::ToolCall(call) = &mut delta
                && call.id.starts_with("call_")
                && call.id.len() == 37
            {
                call.id = "made up".to_owned();
            }
            match (deltas.last_mut(), delta) {
                (Some(Delta::Content(last)), Delta::Content(more)) => last.push_str(&more),
                (Some(Delta::Thinking(last)), Delta::Thinking(more)) => last.push_str(&more),
                (_, delta) => deltas.push(delta),
            }
        }
        pieces += batch.pieces;
        assert!(finish.is_none() || batch.finish.is_none(), "two ends");
        finish = finish.or(batch.finish);
    };
    let mut fed = Ok(());
    for chunk in chunks {
        batch.clear();
        fed = decoder.feed(chunk, &mut batch);
        take(&mut batch);
        if fed.is_err() {
            break;
        }
    }
    let ended = fed.and_then(|()| {
        batch.clear();
        let ended = decoder.end(&mut batch);
        take(&mut batch);
        ended
    });
    let end = ended.map(|()| finish.expect("an end without an error has its last words"));
    Decoded { deltas, pieces, end }
}

pub(super) fn content(text: &str) -> Delta {
    Delta::Content(text.to_owned())
}

pub(super) fn call(id: &str, name: &str, arguments: Value) -> Delta {
    Delta::ToolCall(ToolCall { id: id.to_owned(), name: name.to_owned(), arguments })
}
