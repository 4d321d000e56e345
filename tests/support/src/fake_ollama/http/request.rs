//! Reading requests, and noticing the peer that leaves while its answer is made.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;

const MAX_HEADERS: usize = 100;
const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_BODY_BYTES: usize = 64 << 20;
/// Bytes of later requests kept while one is answered. A peer that sends more is not watched for leaving.
const MAX_AHEAD_BYTES: usize = 64 << 10;

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: Option<String>,
    /// In the order sent, names as sent.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    /// Whether the connection may serve another.
    pub(crate) keep_alive: bool,
}

impl Request {
    /// The first header of that name, whatever its case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON, `null` if it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// How a body's end is found.
pub(crate) enum BodyFraming {
    Length(usize),
    Chunked,
}

/// The reading side of a connection.
pub(crate) struct Peer {
    stream: Arc<TcpStream>,
    inbox: BytesMut,
}

impl Peer {
    pub(crate) fn new(stream: Arc<TcpStream>) -> Self {
        Self { stream, inbox: BytesMut::new() }
    }

    /// Resolves when the peer closed its side or reset the connection. What it sends ahead is kept.
    pub(crate) async fn left(&mut self) {
        while self.inbox.len() < MAX_AHEAD_BYTES {
            if !matches!(self.read().await, Ok(1..)) {
                return;
            }
        }
        std::future::pending().await
    }

    /// Reads the next request's head; `None` when the peer closed between requests.
    pub(crate) async fn head(&mut self) -> io::Result<Option<(Request, BodyFraming)>> {
        loop {
            if let Some(parsed) = self.parse_head()? {
                return Ok(Some(parsed));
            }
            if self.inbox.len() > MAX_HEAD_BYTES {
                return Err(invalid("request head too long"));
            }
            if self.read().await? == 0 {
                return if self.inbox.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    fn parse_head(&mut self) -> io::Result<Option<(Request, BodyFraming)>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(length) = head.parse(&self.inbox).map_err(invalid)? else {
            return Ok(None);
        };
        let target = head.path.unwrap_or("/");
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let mut request = Request {
            method: head.method.unwrap_or_default().to_owned(),
            path: path.to_owned(),
            query: query.map(str::to_owned),
            headers: head
                .headers
                .iter()
                .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()))
                .collect(),
            body: Bytes::new(),
            keep_alive: head.version == Some(1),
        };
        let says =
            |name, word: &str| request.header(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
        let framing = if says("transfer-encoding", "chunked") {
            BodyFraming::Chunked
        } else {
            BodyFraming::Length(request.header("content-length").map_or(Ok(0), str::parse).map_err(invalid)?)
        };
        request.keep_alive &= !says("connection", "close");
        let _ = self.inbox.split_to(length);
        Ok(Some((request, framing)))
    }

    /// Reads the body that belongs to a head.
    pub(crate) async fn body(&mut self, framing: BodyFraming) -> io::Result<Bytes> {
        match framing {
            BodyFraming::Length(length) => self.take(length).await,
            BodyFraming::Chunked => {
                let mut body = BytesMut::new();
                loop {
                    let length = self.chunk_size().await?;
                    let chunk = self.take(length).await?;
                    // After the last chunk only an empty trailer is understood.
                    self.take(2).await?;
                    if length == 0 {
                        return Ok(body.freeze());
                    }
                    if body.len() + length > MAX_BODY_BYTES {
                        return Err(invalid("request body too long"));
                    }
                    body.extend_from_slice(&chunk);
                }
            }
        }
    }

    async fn chunk_size(&mut self) -> io::Result<usize> {
        loop {
            let parsed =
                httparse::parse_chunk_size(&self.inbox).map_err(|_| invalid("invalid chunk size"))?;
            if let httparse::Status::Complete((head, length)) = parsed {
                let _ = self.inbox.split_to(head);
                return usize::try_from(length).map_err(invalid);
            }
            self.fill().await?;
        }
    }

    async fn take(&mut self, length: usize) -> io::Result<Bytes> {
        if length > MAX_BODY_BYTES {
            return Err(invalid("request body too long"));
        }
        while self.inbox.len() < length {
            self.fill().await?;
        }
        Ok(self.inbox.split_to(length).freeze())
    }

    async fn read(&mut self) -> io::Result<usize> {
        loop {
            self.stream.readable().await?;
            match self.stream.try_read_buf(&mut self.inbox) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.read().await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn invalid(why: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}
