//! Writing replies, byte by byte as the scenario wants them.
//!
//! The head waits for the first body bytes and leaves in the same write, as Go's server does it: a client that sees
//! headers knows that the first line exists.

use std::io::{self, Write as _};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::clock;
use crate::fake_ollama::counters::{Blocked, Stats};

pub(crate) const EVENTS: &str = "text/event-stream";
pub(crate) const NDJSON: &str = "application/x-ndjson";
pub(crate) const JSON: &str = "application/json; charset=utf-8";
/// What an error has, unlike other JSON.
pub(crate) const ERROR_JSON: &str = "application/json";
pub(crate) const TEXT: &str = "text/plain";
/// Go sends a length for bodies up to its buffer, and chunks above.
const MAX_KNOWN_LENGTH: usize = 2048;
/// Writes between two looks at the rest of the world; a stream at full speed never waits for its own sake.
const WRITES_PER_TURN: u32 = 32;

/// How a reply's end is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Chunked,
    Known(usize),
    /// HTTP/1.0, to the end of the connection.
    Close,
}

/// A reply's head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) length: Length,
    pub(crate) lower_case: bool,
}

impl Head {
    pub(crate) fn stream(content_type: &'static str) -> Self {
        Self { status: 200, content_type, length: Length::Chunked, lower_case: false }
    }
}

/// The writing side of a connection.
pub(crate) struct Wire<'s> {
    stream: Arc<TcpStream>,
    stats: &'s Stats,
    frozen: watch::Receiver<bool>,
    /// Bytes of the head that wait for the body.
    buffer: Vec<u8>,
    length: Length,
    writes: u32,
    /// Whether the present request was a `HEAD`.
    pub(crate) head_only: bool,
    /// Whether another request may follow on this connection.
    pub(crate) keep_alive: bool,
}

impl<'s> Wire<'s> {
    pub(crate) fn new(stream: Arc<TcpStream>, stats: &'s Stats, frozen: watch::Receiver<bool>) -> Self {
        Self {
            stream,
            stats,
            frozen,
            buffer: Vec::new(),
            length: Length::Chunked,
            writes: 0,
            head_only: false,
            keep_alive: true,
        }
    }

    /// Begins a reply; nothing is sent yet.
    pub(crate) fn begin(&mut self, head: &Head) {
        let version = if head.length == Length::Close { "1.0" } else { "1.1" };
        let date = http_date();
        let mut text = format!(
            "HTTP/{version} {} {}\r\nContent-Type: {}\r\nDate: {date}\r\n",
            head.status,
            reason(head.status),
            head.content_type
        );
        match head.length {
            Length::Chunked => text.push_str("Transfer-Encoding: chunked\r\n"),
            Length::Known(length) => text.push_str(&format!("Content-Length: {length}\r\n")),
            Length::Close => self.keep_alive = false,
        }
        if !self.keep_alive {
            text.push_str("Connection: close\r\n");
        }
        if head.lower_case {
            text = lower_case_names(&text);
        }
        text.push_str("\r\n");
        self.buffer.extend_from_slice(text.as_bytes());
        self.length = head.length;
    }

    /// Sends body bytes in one chunk, if the reply is chunked, and one write.
    pub(crate) async fn body(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.frame(bytes);
        self.flush().await
    }

    /// Ends the body.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        if self.length == Length::Chunked {
            self.buffer.extend_from_slice(b"0\r\n\r\n");
        }
        self.flush().await
    }

    /// Sends the last bytes and the body's end in one write.
    pub(crate) async fn end_with(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.frame(bytes);
        self.end().await
    }

    fn frame(&mut self, bytes: &[u8]) {
        if self.length == Length::Chunked {
            // Writing into a vector cannot fail.
            let _ = write!(self.buffer, "{:x}\r\n", bytes.len());
            self.buffer.extend_from_slice(bytes);
            self.buffer.extend_from_slice(b"\r\n");
        } else {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Sends a whole reply.
    pub(crate) async fn reply(
        &mut self,
        status: u16,
        content_type: &'static str,
        body: &str,
    ) -> io::Result<()> {
        let length = if body.len() <= MAX_KNOWN_LENGTH { Length::Known(body.len()) } else { Length::Chunked };
        self.begin(&Head { status, content_type, length, lower_case: false });
        if self.head_only {
            return self.flush().await;
        }
        match length {
            Length::Chunked => self.end_with(body.as_bytes()).await,
            Length::Known(_) | Length::Close => self.body(body.as_bytes()).await,
        }
    }

    /// Sends bytes as they are.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        self.flush().await
    }

    /// Sends a head without waiting for a body.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        if *self.frozen.borrow() {
            // An error means that the server is gone, and then this task is about to be.
            let _ = self.frozen.wait_for(|frozen| !frozen).await;
        }
        let mut sent = 0;
        while sent < self.buffer.len() {
            match self.stream.try_write(&self.buffer[sent..]) {
                Ok(written) => sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let _blocked = Blocked::begin(self.stats);
                    self.stream.writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        self.buffer.clear();
        self.writes += 1;
        if self.writes.is_multiple_of(WRITES_PER_TURN) {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Makes the connection's end a reset.
    pub(crate) fn reset(&mut self) -> io::Result<()> {
        self.keep_alive = false;
        self.stream.set_zero_linger()
    }
}

fn lower_case_names(head: &str) -> String {
    let lines = head.split_inclusive("\r\n").enumerate().map(|(index, line)| match line.split_once(':') {
        Some((name, value)) if index > 0 => format!("{}:{value}", name.to_ascii_lowercase()),
        _ => line.to_owned(),
    });
    lines.collect()
}

fn http_date() -> String {
    let seconds = i64::try_from(clock::now().as_secs()).unwrap_or_default();
    let date = chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default();
    date.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Go's text for a status; one it does not know is named by its number.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        405 => "Method Not Allowed",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "status code",
    }
}
