//! The load's side of a connection: as little HTTP/1.1 as the loaded systems speak, so that making load leaves time to
//! spare.
//!
//! A reply is handed on in the pieces it arrives in, without its chunk sizes. Whatever is not understood is an error.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// What one read can bring; a backlog of many tokens should be one read.
const READ_BYTES: usize = 64 << 10;
/// Longer heads come from none of the systems.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// A connection with one request at a time; a server that closes it after a reply, as nginx does after a thousand,
/// gets another one.
pub struct Connection {
    addr: SocketAddr,
    stream: TcpStream,
    is_closing: bool,
    /// Bytes that were read and not understood yet.
    unread: Vec<u8>,
    /// The head of the last reply.
    head: Vec<u8>,
}

struct Head {
    status: u16,
    framing: Framing,
    /// Whether the server ends the connection after this reply.
    is_last: bool,
}

/// How a body ends.
enum Framing {
    Length(usize),
    Chunked(Chunk),
}

/// Where in a chunked body the next byte stands.
enum Chunk {
    Size,
    Data(usize),
    /// The line end after a chunk's data.
    End,
    Trailer,
    Over,
}

impl Connection {
    /// Connects to `addr`.
    ///
    /// # Errors
    ///
    /// When nobody listens there.
    pub async fn open(addr: SocketAddr) -> Result<Self> {
        let stream = connect(addr).await?;
        let unread = Vec::with_capacity(READ_BYTES);
        Ok(Self { addr, stream, is_closing: false, unread, head: Vec::new() })
    }

    /// Sends `request` and gives the reply's body to `take`, piece by piece; returns its status.
    ///
    /// # Errors
    ///
    /// When the connection breaks or what comes is not understood; the connection is then of no more use.
    pub async fn ask(&mut self, request: &[u8], mut take: impl FnMut(&[u8])) -> Result<u16> {
        if self.is_closing {
            self.stream = connect(self.addr).await?;
        }
        self.stream.write_all(request).await.context("cannot send a request")?;
        let Head { status, mut framing, is_last } = loop {
            if let Some((head, length)) = read_head(&self.unread)? {
                self.head.clear();
                self.head.extend(self.unread.drain(..length));
                break head;
            }
            self.read().await?;
        };
        loop {
            let (used, is_over) = framing.decode(&self.unread, &mut take)?;
            self.unread.drain(..used);
            if is_over {
                break;
            }
            self.read().await?;
        }
        if !self.unread.is_empty() {
            bail!("there are bytes after the reply");
        }
        self.is_closing = is_last;
        Ok(status)
    }

    /// A header of the last reply.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = std::str::from_utf8(&self.head).ok()?.split("\r\n");
        let mut headers = lines.filter_map(|line| line.split_once(':'));
        headers.find_map(|(known, value)| known.eq_ignore_ascii_case(name).then_some(value.trim()))
    }

    async fn read(&mut self) -> Result<()> {
        self.unread.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.unread).await.context("the connection broke")? {
            0 => bail!("the connection ended within a reply"),
            _ => Ok(()),
        }
    }
}

/// A request in full: `what` is its method and path, and each of `headers` ends with its line.
#[must_use]
pub fn with_body(addr: SocketAddr, what: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{what} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

async fn connect(addr: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(addr).await.with_context(|| format!("cannot connect to {addr}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A reply's head and its length; `None` until it is whole.
fn read_head(bytes: &[u8]) -> Result<Option<(Head, usize)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        if bytes.len() > HEAD_BYTES_MAX {
            bail!("a reply's head does not end");
        }
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end]).context("a reply's head is no text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("no status in {head:?}"))?;
    let (mut framing, mut is_last) = (None, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            framing = Some(Framing::Length(value.trim().parse().context("a length that is no number")?));
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Some(Framing::Chunked(Chunk::Size));
        } else if name.eq_ignore_ascii_case("connection") {
            is_last = value.trim().eq_ignore_ascii_case("close");
        }
    }
    let framing = framing.with_context(|| format!("no end of the body is announced in {head:?}"))?;
    Ok(Some((Head { status, framing, is_last }, end + 4)))
}

impl Framing {
    /// Hands on what `bytes` hold of the body; returns how many were understood and whether the body is over.
    fn decode(&mut self, bytes: &[u8], take: &mut impl FnMut(&[u8])) -> Result<(usize, bool)> {
        match self {
            Self::Length(left) => {
                let piece = (*left).min(bytes.len());
                take(&bytes[..piece]);
                *left -= piece;
                Ok((piece, *left == 0))
            }
            Self::Chunked(chunk) => {
                let mut used = 0;
                while let Some(step) = chunk.step(&bytes[used..], take)? {
                    used += step;
                }
                Ok((used, matches!(chunk, Chunk::Over)))
            }
        }
    }
}

impl Chunk {
    /// Goes one part further and returns its length; `None` when that takes more bytes or the body is over.
    fn step(&mut self, bytes: &[u8], take: &mut impl FnMut(&[u8])) -> Result<Option<usize>> {
        let line_end = || bytes.iter().position(|byte| *byte == b'\n');
        let (next, used) = match *self {
            Self::Size => {
                let Some(end) = line_end() else { return Ok(None) };
                let digits = std::str::from_utf8(&bytes[..end]).unwrap_or_default();
                let digits = digits.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(digits, 16).context("a chunk without a size")?;
                (if size == 0 { Self::Trailer } else { Self::Data(size) }, end + 1)
            }
            Self::Data(_) if bytes.is_empty() => return Ok(None),
            Self::Data(left) => {
                let piece = left.min(bytes.len());
                take(&bytes[..piece]);
                (if piece == left { Self::End } else { Self::Data(left - piece) }, piece)
            }
            Self::End => {
                let Some(end) = line_end() else { return Ok(None) };
                (Self::Size, end + 1)
            }
            Self::Trailer => {
                let Some(end) = line_end() else { return Ok(None) };
                (if end <= 1 { Self::Over } else { Self::Trailer }, end + 1)
            }
            Self::Over => return Ok(None),
        };
        *self = next;
        Ok(Some(used))
    }
}
