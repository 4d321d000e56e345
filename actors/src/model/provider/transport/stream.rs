//! One streamed answer, from the request on the wire to its last words.
//!
//! ```text
//! Unsent ─connect─▶ Head ──200──▶ Body ──last words─▶ Over (connection given back)
//!    ▲                │ └─other─▶ Refused ───────────▶ Over (error with the server's words)
//!    └─ once, when a reused connection turns out to be dead before any byte of an answer
//! ```
//!
//! All progress lives in the stream, none in the future of a read, so a read may be dropped at any await.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::{StatusCode, header::CONTENT_TYPE};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Client, Prompt, link::Exchange, words::sanitise};
use crate::model::{
    Timeouts,
    provider::{AnswerStream, Batch, UpstreamError},
};

/// The most bytes one read decodes before it returns, so that a fast server cannot keep a worker from its other duties.
const READ_BYTES_MAX: usize = 256 << 10;

/// The most we read of an error answer.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// How long the formal end of an answer is waited for when all that it says has come.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// A protocol's way to say an answer: its bytes in, deltas and the last words out.
pub(in crate::model::provider) trait Decode: Send + 'static {
    /// Whether bytes of this type may be an answer.
    fn is_spoken_in(&self, content_type: &[u8]) -> bool;

    /// Decodes all that `bytes` completes into `batch`. After the last words of an answer, bytes are ignored.
    ///
    /// # Errors
    ///
    /// What the server failed of, or [`UpstreamError::Garbage`]. Both are terminal: drop the connection. What was decoded before
    /// is in `batch`.
    fn feed(&mut self, bytes: &[u8], batch: &mut Batch) -> Result<(), UpstreamError>;

    /// The bytes are over: decodes what lacks its own end.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Incomplete`] when the last words never came, or what the server said it failed of.
    fn end(&mut self, batch: &mut Batch) -> Result<(), UpstreamError>;

    /// Whether nothing but the formal end is missing.
    fn lacks_only_its_end(&self) -> bool {
        false
    }

    /// The meaning of an answer whose status is not 200.
    fn refused(&self, status: StatusCode, words: &[u8]) -> UpstreamError;
}

/// An answer being received.
pub(in crate::model::provider) struct AnswerBytes<D> {
    client: Arc<Client>,
    /// Kept until the head came, for the one retry.
    prompt: Option<Prompt>,
    stage: Stage,
    decoder: D,
    first_byte: Duration,
    idle: Duration,
    sent_at: Instant,
    heard_at: Instant,
    /// Set to some earlier deadline or the current one; moved only when it fires, not on every read.
    timer: Pin<Box<Sleep>>,
    pace: Option<Duration>,
    /// When the last read of text returned; what [`Self::pace`] counts from.
    last_read: Option<Instant>,
    /// Whether anything of the answer came. Some servers send their headers long before they begin.
    has_begun: bool,
}

enum Stage {
    Unsent,
    Head(Exchange),
    Body(Exchange),
    Refused { exchange: Exchange, status: StatusCode, words: Vec<u8> },
    Over,
}

enum Step {
    Read,
    SendAgain,
}

impl<D: Decode> AnswerBytes<D> {
    /// Sends the request on an idle connection or a new one.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Connect`].
    pub(in crate::model::provider) async fn open(
        client: Arc<Client>,
        prompt: Prompt,
        decoder: D,
        timeouts: &Timeouts,
        may_pause: bool,
    ) -> Result<Self, UpstreamError> {
        let link = match client.take_idle().await {
            Some(link) => link,
            None => client.connect().await?,
        };
        let mut exchange = link.send(client.request(prompt.clone()));
        exchange.begin().await;
        let now = Instant::now();
        Ok(Self {
            client,
            prompt: Some(prompt),
            stage: Stage::Head(exchange),
            decoder,
            first_byte: timeouts.first_byte,
            idle: if may_pause { timeouts.idle_long } else { timeouts.idle },
            sent_at: now,
            heard_at: now,
            timer: Box::pin(sleep_until(now + timeouts.first_byte)),
            pace: None,
            last_read: None,
            has_begun: false,
        })
    }

    async fn next(&mut self, batch: &mut Batch) -> Result<(), UpstreamError> {
        if let (Some(pace), Some(last_read)) = (self.pace, self.last_read) {
            let due = last_read + pace;
            if Instant::now() < due {
                sleep_until(due).await;
            }
        }
        loop {
            if matches!(self.stage, Stage::Unsent) {
                // Always a new connection: the other idle ones may be as dead as the first.
                let prompt = self.prompt.clone().ok_or(UpstreamError::Incomplete)?;
                let link = self.client.connect().await?;
                self.stage = Stage::Head(link.send(self.client.request(prompt)));
            }
            match poll_fn(|cx| self.poll_step(cx, batch)).await? {
                Step::Read => return Ok(()),
                Step::SendAgain => {}
            }
        }
    }

    /// Takes everything that is there now; pending only when that was nothing worth returning for.
    fn poll_step(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<Step, UpstreamError>> {
        let mut taken = 0;
        loop {
            match &mut self.stage {
                Stage::Head(exchange) => match exchange.poll_head(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(head)) => self.answered(&head)?,
                    Poll::Ready(Err(error)) if exchange.is_on_reused_connection() && !error.is_parse() => {
                        self.stage = Stage::Unsent;
                        return Poll::Ready(Ok(Step::SendAgain));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(before_answer(&error))),
                },
                Stage::Body(exchange) => match exchange.poll_chunk(cx) {
                    Poll::Ready(Some(Ok(chunk))) => {
                        taken += chunk.len();
                        self.decoder.feed(&chunk, batch)?;
                        if batch.finish.is_some() {
                            self.recycle();
                        }
                        if batch.finish.is_some() || taken >= READ_BYTES_MAX {
                            break;
                        }
                    }
                    Poll::Ready(Some(Err(error))) if is_malformed(&error) => {
                        return Poll::Ready(Err(UpstreamError::Garbage(error.to_string())));
                    }
                    // Cut or ended: either way the last words may be there without a line feed.
                    Poll::Ready(Some(Err(_)) | None) => {
                        self.decoder.end(batch)?;
                        self.recycle();
                        break;
                    }
                    Poll::Pending => break,
                },
                Stage::Refused { exchange, status, words } => match exchange.poll_chunk(cx) {
                    Poll::Ready(Some(Ok(chunk))) if words.len() < ERROR_BYTES_MAX => {
                        taken += chunk.len();
                        let room = ERROR_BYTES_MAX - words.len();
                        words.extend_from_slice(&chunk[..chunk.len().min(room)]);
                    }
                    Poll::Ready(end) => {
                        let error = self.decoder.refused(*status, words);
                        if end.is_none() {
                            self.recycle();
                        }
                        return Poll::Ready(Err(error));
                    }
                    Poll::Pending => break,
                },
                Stage::Unsent | Stage::Over => return Poll::Ready(Err(UpstreamError::Incomplete)),
            }
        }
        if taken > 0 {
            self.heard_at = Instant::now();
        }
        if batch.finish.is_some() || !batch.deltas.is_empty() || taken >= READ_BYTES_MAX {
            self.last_read = Some(self.heard_at);
            self.has_begun = true;
            return Poll::Ready(Ok(Step::Read));
        }
        let silence = ready!(self.poll_silence(cx));
        // All that it had to say was said.
        if self.decoder.lacks_only_its_end() {
            self.decoder.end(batch)?;
            self.stage = Stage::Over;
            return Poll::Ready(Ok(Step::Read));
        }
        Poll::Ready(Err(silence))
    }

    fn answered(&mut self, head: &http::response::Parts) -> Result<(), UpstreamError> {
        self.heard_at = Instant::now();
        self.prompt = None;
        let Stage::Head(exchange) = std::mem::replace(&mut self.stage, Stage::Over) else { return Ok(()) };
        let content_type = head.headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        if head.status != StatusCode::OK {
            self.stage = Stage::Refused { exchange, status: head.status, words: Vec::new() };
        } else if !self.decoder.is_spoken_in(&content_type.to_ascii_lowercase()) {
            let what = sanitise(&String::from_utf8_lossy(content_type));
            return Err(UpstreamError::Garbage(format!("{what} for an answer")));
        } else {
            self.stage = Stage::Body(exchange);
        }
        Ok(())
    }

    fn recycle(&mut self) {
        if let Stage::Body(exchange) | Stage::Refused { exchange, .. } =
            std::mem::replace(&mut self.stage, Stage::Over)
        {
            self.client.give_back(exchange);
        }
    }

    fn first_byte_deadline(&self) -> (Instant, UpstreamError) {
        (self.sent_at + self.first_byte, UpstreamError::FirstByteTimeout(self.first_byte))
    }

    /// Ready when the server has been silent for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<UpstreamError> {
        loop {
            let (deadline, error) = match self.stage {
                Stage::Head(_) | Stage::Unsent => self.first_byte_deadline(),
                Stage::Body(_) if self.decoder.lacks_only_its_end() => {
                    (self.heard_at + END_PATIENCE.min(self.idle), UpstreamError::IdleTimeout(END_PATIENCE))
                }
                Stage::Body(_) if !self.has_begun => self.first_byte_deadline(),
                Stage::Body(_) | Stage::Refused { .. } | Stage::Over => {
                    (self.heard_at + self.idle, UpstreamError::IdleTimeout(self.idle))
                }
            };
            if self.timer.deadline() > deadline {
                self.timer.as_mut().reset(deadline);
            }
            ready!(self.timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(error);
            }
            self.timer.as_mut().reset(deadline);
        }
    }
}

impl<D: Decode> AnswerStream for AnswerBytes<D> {
    fn read<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), UpstreamError>> {
        Box::pin(async move {
            batch.clear();
            let read = self.next(batch).await;
            if read.is_err() {
                // Closes the connection now, not when the caller gets round to dropping the stream.
                self.stage = Stage::Over;
            }
            read
        })
    }

    fn pace(&mut self, pace: Option<Duration>) {
        self.pace = pace;
    }
}

fn before_answer(error: &hyper::Error) -> UpstreamError {
    if error.is_parse() {
        UpstreamError::Garbage(error.to_string())
    } else {
        UpstreamError::Failed("the connection was closed before an answer".to_owned())
    }
}

/// Whether the body's framing was wrong, as opposed to the connection being cut.
fn is_malformed(error: &hyper::Error) -> bool {
    use std::{error::Error, io};
    error.is_parse()
        || error.source().and_then(|source| source.downcast_ref::<io::Error>()).is_some_and(|error| {
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
        })
}
