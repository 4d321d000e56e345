//! A client's socket with the manners hyper leaves to us: it gives up on a peer that accepts nothing, it reads what a
//! refused client is still sending before it closes, so that the client finds our answer and not a reset, and it says in
//! our words what hyper refuses by itself.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use tokio::time::{Sleep, sleep};

use super::refusal;

/// What a connection and its requests know about each other.
#[derive(Default)]
pub(crate) struct Input {
    /// Bytes came in since the last request was read to its end.
    unread: AtomicBool,
    /// The current request has a body that was not read to its end.
    body_open: AtomicBool,
    /// A request is being served: from its head until the body of its reply was dropped.
    serving: AtomicBool,
    /// A request was read on this connection.
    asked: AtomicBool,
    /// Some of a reply may not have left us. While this is false, whatever hyper writes is a refusal of its own.
    unsent: AtomicBool,
}

/// A request being served, for as long as its reply's body lives.
pub(crate) struct Serving(Arc<Input>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.serving.store(false, Ordering::Relaxed);
    }
}

impl Input {
    /// A request was read; HTTP/1 serves one at a time.
    pub(crate) fn serve(self: &Arc<Self>) -> Serving {
        self.asked.store(true, Ordering::Relaxed);
        self.unsent.store(true, Ordering::Relaxed);
        self.serving.store(true, Ordering::Relaxed);
        Serving(Arc::clone(self))
    }

    /// Whether a request was ever read.
    pub(crate) fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Whether a reply is being made or written.
    pub(crate) fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Relaxed)
    }

    /// Everything written so far was sent.
    fn flushed(&self) {
        if !self.serving.load(Ordering::Relaxed) {
            self.unsent.store(false, Ordering::Relaxed);
        }
    }

    fn has_reply(&self) -> bool {
        self.unsent.load(Ordering::Relaxed)
    }

    pub(crate) fn body_begins(&self) {
        self.body_open.store(true, Ordering::Relaxed);
    }

    pub(crate) fn body_ended(&self) {
        self.body_open.store(false, Ordering::Relaxed);
        self.unread.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_body_open(&self) -> bool {
        self.body_open.load(Ordering::Relaxed)
    }

    fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed) || self.is_body_open()
    }
}

/// How long, and how much, a closing connection still reads (B4).
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 64 << 20;
const LINGER_BUFFER: usize = 16 << 10;

/// See the module.
pub(crate) struct Socket<T> {
    io: T,
    input: Arc<Input>,
    stall_timeout: Duration,
    /// Armed while a write waits.
    stall: Option<Pin<Box<Sleep>>>,
    closing: Option<Closing>,
    /// Our words in place of hyper's, as far as they are not sent.
    refusal: Vec<u8>,
}

struct Closing {
    timer: Pin<Box<Sleep>>,
    discarded: usize,
}

impl<T> Socket<T> {
    pub(crate) fn new(io: T, input: Arc<Input>, stall_timeout: Duration) -> Self {
        Self { io, input, stall_timeout, stall: None, closing: None, refusal: Vec::new() }
    }

    /// Keeps our words for hyper's refusal, to be sent in its place; `false` if this is something else.
    fn reword(&mut self, head: &[u8]) -> bool {
        if self.input.has_reply() || !self.refusal.is_empty() {
            return false;
        }
        self.refusal = refusal::in_place_of(head).unwrap_or_default();
        !self.refusal.is_empty()
    }

    /// Turns progress into a disarmed timer and a wait into an armed one.
    fn watch<R>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let timer = self.stall.get_or_insert_with(|| Box::pin(sleep(self.stall_timeout)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer accepts no bytes")))
    }
}

impl<T: Read + Unpin> Read for Socket<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if read.is_ready() {
            // Set on end of input too: then the linger below sees that end at once.
            self.input.unread.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl<T: Write + Unpin> Socket<T> {
    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.refusal.is_empty() {
            let written = Pin::new(&mut self.io).poll_write(cx, &self.refusal);
            match ready!(self.watch(cx, written))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => drop(self.refusal.drain(..sent)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Read + Write + Unpin> Write for Socket<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.reword(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.first().is_some_and(|head| self.reword(head)) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        ready!(self.watch(cx, flushed))?;
        self.input.flushed();
        Poll::Ready(Ok(()))
    }

    /// Ends our side, then reads on until the peer ends its own, [`LINGER`] is over or [`LINGER_BYTES`] came.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.closing.is_none() {
            ready!(this.poll_refusal(cx))?;
            let done = Pin::new(&mut this.io).poll_shutdown(cx);
            ready!(this.watch(cx, done))?;
            if !this.input.is_unread() {
                return Poll::Ready(Ok(()));
            }
        }
        let closing =
            this.closing.get_or_insert_with(|| Closing { timer: Box::pin(sleep(LINGER)), discarded: 0 });
        let mut buffer = [0; LINGER_BUFFER];
        loop {
            let mut buffer = ReadBuf::new(&mut buffer);
            match Pin::new(&mut this.io).poll_read(cx, buffer.unfilled()) {
                Poll::Pending => return closing.timer.as_mut().poll(cx).map(Ok),
                Poll::Ready(Err(_)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => closing.discarded += buffer.filled().len(),
            }
            if closing.discarded > LINGER_BYTES || closing.timer.is_elapsed() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
