//! The body of a streamed answer: read by the connection itself, so a stream costs no task.
//!
//! Each wake encodes everything the turn's log holds beyond the cursor into one frame. Dropping the body drops the
//! reader, and with it (unless told otherwise) the turn.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use actors::reply::{Event, ReplyReader};
use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::http::{ApiError, Call};

/// Most frames hold one token.
const FRAME_BYTES: usize = 256;

/// Where a stream's events come from: a turn, what the store has of one, or a script in tests.
pub(crate) trait Events: Unpin + Send {
    /// As [`ReplyReader::poll_events`].
    fn poll_events(&mut self, cx: &mut Context<'_>, take: &mut dyn FnMut(Event<'_>)) -> Poll<bool>;
}

impl Events for ReplyReader {
    fn poll_events(&mut self, cx: &mut Context<'_>, take: &mut dyn FnMut(Event<'_>)) -> Poll<bool> {
        ReplyReader::poll_events(self, cx, take)
    }
}

/// How a dialect writes a turn's events.
pub(crate) trait Encode: Unpin + Send {
    /// Appends what its client is told of the event, which may be nothing.
    fn encode(&mut self, event: Event<'_>, out: &mut Vec<u8>);
    /// Appends the words that end a stream for a reason of ours.
    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>);
    /// Appends what keeps idle proxies awake and clients ignore; nothing where clients bear no such thing.
    fn heartbeat(&mut self, out: &mut Vec<u8>);
}

/// See the module.
pub(crate) struct TurnStream<E, C> {
    /// `None` once the last frame was given.
    events: Option<E>,
    encoder: C,
    heartbeat: Duration,
    deadline: Instant,
    /// When the last frame was given.
    said_at: Instant,
    /// Fires no later than the next heartbeat or the deadline. Frames do not move it: setting a timer for each token
    /// would cost more than encoding it.
    timer: Pin<Box<Sleep>>,
    ending: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<E: Events, C: Encode> TurnStream<E, C> {
    /// The reply to `call`.
    pub(crate) fn new(events: E, encoder: C, call: Call) -> Self {
        let now = Instant::now();
        let (heartbeat, deadline) = (call.config.heartbeat, call.deadline);
        Self {
            events: Some(events),
            encoder,
            heartbeat,
            deadline,
            said_at: now,
            timer: Box::pin(sleep_until(deadline.min(now + heartbeat))),
            ending: Box::pin(call.ending.cancelled_owned()),
        }
    }

    /// All that the turn has said since the last frame; empty when it said nothing.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Vec<u8>> {
        let Some(events) = &mut self.events else { return Poll::Ready(Vec::new()) };
        let mut frame = Vec::new();
        let encoder = &mut self.encoder;
        let has_ended = ready!(events.poll_events(cx, &mut |event| {
            if frame.is_empty() {
                frame.reserve(FRAME_BYTES);
            }
            encoder.encode(event, &mut frame);
        }));
        if has_ended {
            self.events = None;
        }
        Poll::Ready(frame)
    }

    /// What we have to say while the turn says nothing: that we end it, or that we are still here.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Vec<u8>> {
        if self.ending.as_mut().poll(cx).is_ready() {
            return Poll::Ready(self.give_up(&ApiError::shutting_down()));
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            if now >= self.deadline {
                return Poll::Ready(self.give_up(&ApiError::deadline()));
            }
            let is_due = now >= self.said_at + self.heartbeat;
            if is_due {
                self.said_at = now;
            }
            self.timer.as_mut().reset(self.deadline.min(self.said_at + self.heartbeat));
            if is_due {
                let mut frame = Vec::new();
                self.encoder.heartbeat(&mut frame);
                if !frame.is_empty() {
                    return Poll::Ready(frame);
                }
            }
        }
    }

    /// The last frame of a stream that ends for a reason of ours; lets the turn go.
    fn give_up(&mut self, why: &ApiError) -> Vec<u8> {
        let mut frame = Vec::with_capacity(FRAME_BYTES);
        self.encoder.fail(why, &mut frame);
        self.events = None;
        frame
    }
}

impl<E: Events, C: Encode> Body for TurnStream<E, C> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let now = Instant::now();
        let mut frame = Vec::new();
        // A turn that never pauses must not outlive its deadline either.
        while frame.is_empty() && this.events.is_some() && now < this.deadline {
            match this.poll_turn(cx) {
                Poll::Ready(said) => frame = said,
                Poll::Pending => break,
            }
        }
        if !frame.is_empty() {
            this.said_at = now;
            return Poll::Ready(Some(Ok(Frame::data(frame.into()))));
        }
        if this.events.is_none() {
            return Poll::Ready(None);
        }
        this.poll_silence(cx).map(|frame| Some(Ok(Frame::data(frame.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.events.is_none()
    }
}

#[cfg(test)]
mod tests;
