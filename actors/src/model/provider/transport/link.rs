//! One open connection and the request that is under way on it.
//!
//! hyper's connection future is polled inside the reader's poll, so that one wake of one task moves a token from the socket to its
//! reader.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;

use super::socket::Socket;

/// hyper's read and write buffers grow up to this.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// One open connection.
pub(super) struct Link {
    /// `None` after it ended; what it brought before can still be read.
    http: Option<http1::Connection<TokioIo<Socket>, Full<Bytes>>>,
    sender: http1::SendRequest<Full<Bytes>>,
    is_reused: bool,
}

impl Link {
    /// Speaks HTTP over a fresh socket; nothing is sent yet.
    pub(super) async fn over(socket: Socket) -> hyper::Result<Self> {
        let (sender, http) =
            http1::Builder::new().max_buf_size(BUFFER_BYTES_MAX).handshake(TokioIo::new(socket)).await?;
        Ok(Self { http: Some(http), sender, is_reused: false })
    }

    /// Whether hyper takes another request.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.sender.poll_ready(cx).map(|ready| ready.is_ok() && self.http.is_some())
    }

    /// Hands the request to the connection; driving the exchange writes it.
    pub(super) fn send(mut self, request: Request<Full<Bytes>>) -> Exchange {
        let head = Box::pin(self.sender.send_request(request));
        Exchange { link: self, answer: Answer::Head(head) }
    }

    /// Moves bytes both ways as far as the socket goes now. Its errors reach the head or the body that waits for them.
    pub(super) fn poll_drive(&mut self, cx: &mut Context<'_>) {
        if let Some(http) = &mut self.http
            && Pin::new(http).poll(cx).is_ready()
        {
            self.http = None;
        }
    }
}

/// A request under way and its answer.
pub(super) struct Exchange {
    link: Link,
    answer: Answer,
}

enum Answer {
    Head(BoxFuture<'static, hyper::Result<Response<Incoming>>>),
    /// `None` after its end.
    Body(Option<Incoming>),
}

impl Exchange {
    /// Whether the connection had served before, so that the server may have closed it as the request was sent.
    pub(super) fn is_on_reused_connection(&self) -> bool {
        self.link.is_reused
    }

    /// The connection and what was not read of the answer; `None` when the answer has not begun.
    pub(super) fn into_parts(self) -> Option<(Link, Option<Incoming>)> {
        let Self { mut link, answer } = self;
        let Answer::Body(rest) = answer else { return None };
        link.is_reused = true;
        Some((link, rest))
    }

    /// Writes as much of the request as the socket takes now.
    pub(super) async fn begin(&mut self) {
        poll_fn(|cx| {
            self.link.poll_drive(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// The answer's status and headers. Not to be polled after it was ready.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<http::response::Parts>> {
        self.link.poll_drive(cx);
        let Answer::Head(head) = &mut self.answer else { return Poll::Pending };
        head.as_mut().poll(cx).map_ok(|response| {
            let (parts, body) = response.into_parts();
            self.answer = Answer::Body(Some(body));
            parts
        })
    }

    /// The next bytes of the body; `None` at its end.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Bytes>>> {
        let Answer::Body(body) = &mut self.answer else { return Poll::Pending };
        let Some(incoming) = body else { return Poll::Ready(None) };
        self.link.poll_drive(cx);
        let chunk = poll_data(incoming);
        if let Poll::Ready(None) = chunk {
            *body = None;
        }
        chunk
    }
}

/// The next data of a body whose connection was just driven.
///
/// The body moves only when its connection is driven, which is always done first and with the caller's waker. So the
/// body itself needs none, which saves a wake of our own task for each chunk.
pub(super) fn poll_data(body: &mut Incoming) -> Poll<Option<hyper::Result<Bytes>>> {
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match Pin::new(&mut *body).poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => {
                // Trailers say nothing to us.
                if let Ok(data) = frame.into_data() {
                    return Poll::Ready(Some(Ok(data)));
                }
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        }
    }
}
