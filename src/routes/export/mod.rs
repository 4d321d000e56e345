//! What callers take along: documents that are written piece by piece, so that their size is nobody's matter but the
//! reader's.
//!
//! ```text
//! reader asks ─▶ one page of the store ─▶ its text ─▶ reader
//! ```
//!
//! # When it breaks
//!
//! Where the store fails, the service stops or the reader takes too long, the connection is closed before the end, and the
//! download counts as broken with whoever receives it. Nothing of it is kept: ask again.

pub(crate) mod account;
pub(crate) mod conversation;
mod markdown;
mod slots;
mod views;

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::unfold;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

pub(crate) use self::slots::Exports;
use self::slots::Slot;
use crate::http::{ApiError, Call, CutShort, Reply, attachment, breakable_stream_reply};

/// How long one export may take, however slowly it is read.
const EXPORT_TIME_MAX: Duration = Duration::from_mins(15);

/// A document that is written in order.
trait Document: Send + 'static {
    /// What comes next; `None` when all was written.
    fn next(&mut self) -> impl Future<Output = Result<Option<Vec<u8>>, ApiError>> + Send;
}

/// An export under way. Dropping it, sent or not, makes room for another.
struct Download<D> {
    document: D,
    _slot: Slot,
    until: Instant,
    ending: CancellationToken,
}

impl<D: Document> Download<D> {
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, CutShort>> {
        let piece = self.ending.run_until_cancelled(timeout_at(self.until, self.document.next()));
        let cause = match piece.await {
            Some(Ok(Ok(piece))) => return piece.map(|piece| Ok(Frame::data(piece.into()))),
            Some(Ok(Err(error))) => error.cause().unwrap_or("refused").to_owned(),
            Some(Err(_)) => "it took too long".to_owned(),
            None => "the service is shutting down".to_owned(),
        };
        tracing::warn!(cause, "an export was cut short");
        Some(Err(CutShort))
    }
}

/// Answers with `document`, to be kept as a file of this name.
fn download<D: Document>(
    document: D,
    slot: Slot,
    call: &Call,
    content_type: &'static str,
    filename: &str,
) -> Result<Reply, ApiError> {
    let until = Instant::now() + EXPORT_TIME_MAX;
    let download = Download { document, _slot: slot, until, ending: call.ending.clone() };
    let frames = unfold(Some(download), |download| async {
        let mut download = download?;
        let frame = download.next().await?;
        let goes_on = frame.is_ok();
        Some((frame, goes_on.then_some(download)))
    });
    let mut reply = breakable_stream_reply(content_type, StreamBody::new(frames));
    attachment(&mut reply, filename)?;
    Ok(reply)
}
