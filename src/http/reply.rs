//! What goes back: a whole body or a stream, and the accounts that close when it ends.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_DISPOSITION, CONTENT_TYPE},
};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use serde::Serialize;

use super::{ApiError, json, metrics::Flight, report::Report, socket::Serving};

pub(crate) type Reply = Response<ReplyBody>;

type Streaming = Pin<Box<dyn Body<Data = Bytes, Error = CutShort> + Send>>;

/// A body ends before its end. The connection is closed without the mark that a whole body ends with, so nobody takes what
/// came for all there is.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the reply was cut short")]
pub(crate) struct CutShort;

/// A reply's body. Dropping it, sent or not, closes the request's accounts.
#[derive(Default)]
pub(crate) struct ReplyBody {
    content: Content,
    /// The request's place in flight; held until the last byte was handed to the socket.
    flight: Option<Flight>,
    /// Tells the connection that this reply is still being written.
    serving: Option<Serving>,
    report: Option<Report>,
}

#[derive(Default)]
enum Content {
    #[default]
    Empty,
    Whole(Bytes),
    Stream(Streaming),
}

impl ReplyBody {
    pub(crate) fn carry(&mut self, flight: Flight, serving: Serving, report: Report) {
        self.flight = Some(flight);
        self.serving = Some(serving);
        self.report = Some(report);
        self.look_for_the_end();
    }

    /// hyper does not ask for more of a body that says it has ended.
    fn look_for_the_end(&mut self) {
        if self.is_end_stream()
            && let Some(report) = &mut self.report
        {
            report.over();
        }
    }

    /// The whole content; nothing of one that grows.
    pub(crate) fn into_whole(self) -> Bytes {
        match self.content {
            Content::Whole(bytes) => bytes,
            Content::Empty | Content::Stream(_) => Bytes::new(),
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        let frame = match &mut self.content {
            Content::Empty => Poll::Ready(None),
            Content::Stream(stream) => stream.as_mut().poll_frame(cx),
            Content::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.content = Content::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
        };
        if frame.is_ready() {
            self.look_for_the_end();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(stream) => stream.size_hint(),
        }
    }
}

fn reply(status: StatusCode, content_type: &'static str, content: Content) -> Reply {
    let mut reply = Response::new(ReplyBody { content, flight: None, serving: None, report: None });
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// Answers with `value` as JSON.
pub(crate) fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Reply {
    let mut body = Vec::with_capacity(256);
    json::append(&mut body, value);
    json_text(status, body)
}

/// Answers with what is JSON already.
pub(crate) fn json_text(status: StatusCode, text: Vec<u8>) -> Reply {
    reply(status, "application/json", Content::Whole(text.into()))
}

/// Answers that it is done (204).
pub(crate) fn empty() -> Reply {
    let mut reply = Reply::default();
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply
}

pub(crate) fn text(content_type: &'static str, body: String) -> Reply {
    bytes(content_type, body.into())
}

pub(crate) fn bytes(content_type: &'static str, body: Bytes) -> Reply {
    reply(StatusCode::OK, content_type, Content::Whole(body))
}

/// Has the body kept as a file of this name, which must be plain ASCII without quotation marks.
pub(crate) fn attachment(reply: &mut Reply, name: &str) -> Result<(), ApiError> {
    let disposition = HeaderValue::try_from(format!("attachment; filename=\"{name}\""))
        .map_err(|error| ApiError::internal(error.to_string()))?;
    reply.headers_mut().insert(CONTENT_DISPOSITION, disposition);
    Ok(())
}

/// Answers 200 with a body that grows.
pub(crate) fn stream(
    content_type: &'static str,
    body: impl Body<Data = Bytes, Error = Infallible> + Send + 'static,
) -> Reply {
    breakable_stream(content_type, body.map_err(|never| match never {}))
}

/// As [`stream`], of something that may turn out not to be there.
pub(crate) fn breakable_stream(
    content_type: &'static str,
    body: impl Body<Data = Bytes, Error = CutShort> + Send + 'static,
) -> Reply {
    reply(StatusCode::OK, content_type, Content::Stream(Box::pin(body)))
}
