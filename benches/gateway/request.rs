//! What is asked of each system, and what a good reply to it holds.
//!
//! The plain systems are asked in Ollama's words, the gateway in its own; the prompt and the length are the same.

use std::{borrow::Cow, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use support::{
    client::{Connection, with_body},
    fake_ollama::Tokens,
};

pub const MODEL: &str = "qwen3:8b";
const PROMPT: &str = "Why is the sky blue?";
/// What the fake server takes a request without a seed for.
const NO_SEED: i64 = -1;
/// The last frame or line of a stream is shorter.
const TAIL_BYTES: usize = 2 << 10;
/// How much of a bad reply is shown.
const EXCERPT_BYTES: usize = 600;

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// The model server itself, or a plain proxy before it.
    Ollama,
    Gateway,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Whole,
    /// Whole, and kept in the gateway's store.
    Stored,
    Stream,
    /// A stream whose tokens are their send times.
    StampedStream,
    /// The same, kept in the gateway's store.
    StampedStored,
}

impl Kind {
    pub fn is_stamped(self) -> bool {
        matches!(self, Self::StampedStream | Self::StampedStored)
    }

    fn is_stream(self) -> bool {
        self == Self::Stream || self.is_stamped()
    }

    fn is_stored(self) -> bool {
        matches!(self, Self::Stored | Self::StampedStored)
    }
}

/// A request in bytes, and how to tell a good reply.
pub struct Request {
    dialect: Dialect,
    kind: Kind,
    pub tokens: u64,
    bytes: Vec<u8>,
    /// What the end of every good reply holds.
    marks: Vec<Finder<'static>>,
}

impl Request {
    /// Asks `addr` for `tokens` tokens; `access_token` is the gateway's.
    pub fn new(dialect: Dialect, kind: Kind, tokens: u64, addr: SocketAddr, access_token: &str) -> Self {
        let is_stream = kind.is_stream();
        let mut body = json!({
            "model": MODEL,
            "messages": [{ "role": "user", "content": PROMPT }],
            "options": { "num_predict": tokens },
        });
        let (path, credentials) = match dialect {
            Dialect::Ollama => {
                body["stream"] = json!(is_stream);
                ("/api/chat", String::new())
            }
            Dialect::Gateway => {
                body["store"] = json!(kind.is_stored());
                let path = if is_stream { "/v1/chat/stream" } else { "/v1/chat" };
                (path, format!("Authorization: Bearer {access_token}\r\n"))
            }
        };
        let text = with_body(addr, &format!("POST {path}"), &credentials, &body.to_string());
        let mut request = Self { dialect, kind, tokens, bytes: text.into_bytes(), marks: Vec::new() };
        request.mark(match dialect {
            Dialect::Ollama => format!("\"eval_count\":{tokens},"),
            Dialect::Gateway => format!("\"completion_tokens\":{tokens},"),
        });
        if dialect == Dialect::Gateway && is_stream {
            request.mark("event: done\n".to_owned());
        }
        if kind.is_stored() {
            request.mark("\"stored\":true".to_owned());
        }
        request
    }

    /// Asks the gateway at `addr` for something that is no chat (`GET /path`), of which every good reply holds `mark`.
    pub fn other(addr: SocketAddr, what: &str, headers: &str, body: &str, mark: &str) -> Self {
        let bytes = with_body(addr, what, headers, body).into_bytes();
        let mut request =
            Self { dialect: Dialect::Gateway, kind: Kind::Whole, tokens: 0, bytes, marks: Vec::new() };
        request.mark(mark.to_owned());
        request
    }

    fn mark(&mut self, text: String) {
        self.marks.push(Finder::new(&text).into_owned());
    }

    /// Reads one reply completely and compares its text with what the model says; later replies must end like it.
    /// Not for stamped streams, whose text is never the same.
    pub async fn verify(&mut self, connection: &mut Connection) -> Result<()> {
        let mut body = Vec::new();
        let status = connection.ask(&self.bytes, |piece| body.extend_from_slice(piece)).await?;
        ensure!(status == 200, "{:?} replied {status}: {}", self.dialect, excerpt(&body));
        let body = std::str::from_utf8(&body).context("a reply that is no text")?;
        let text = match (self.kind, self.dialect) {
            (Kind::Whole | Kind::Stored, _) => {
                let reply: Whole = serde_json::from_str(body).with_context(|| body.to_owned())?;
                self.mark(reply.message.content.get().to_owned());
                serde_json::from_str(reply.message.content.get())?
            }
            (_, Dialect::Ollama) => joined(body.lines(), |line: Line| line.message.content)?,
            (_, Dialect::Gateway) => joined(data_of(body, "chunk"), |chunk: ChunkFrame| chunk.content)?,
        };
        let expected = Tokens::new(PROMPT, NO_SEED).text(self.tokens);
        ensure!(text == expected, "the text is not what the model said:\n{text:?}\n{expected:?}");
        if self.kind == Kind::Stream && self.dialect == Dialect::Gateway {
            // The last frame's id is the position in the text that the stream got to.
            self.mark(format!("event: done\nid: {}\n", text.len()));
        }
        Ok(())
    }

    /// Sends it and checks the reply; `see` gets the body as it comes.
    pub async fn send(&self, connection: &mut Connection, see: impl FnMut(&[u8])) -> Result<()> {
        let is_answered = self.send_unless_full(connection, see).await?;
        ensure!(is_answered, "{:?} had no room", self.dialect);
        Ok(())
    }

    /// The same; `false` says that it was refused for want of room (503).
    pub async fn send_unless_full(
        &self,
        connection: &mut Connection,
        mut see: impl FnMut(&[u8]),
    ) -> Result<bool> {
        let mut tail = Tail(Vec::with_capacity(2 * TAIL_BYTES));
        let status = connection.ask(&self.bytes, |piece| {
            see(piece);
            tail.push(piece);
        });
        let status = status.await?;
        if status == 503 {
            return Ok(false);
        }
        let is_good = status == 200 && self.marks.iter().all(|mark| mark.find(&tail.0).is_some());
        ensure!(is_good, "{:?} gave a bad reply, status {status}: {}", self.dialect, excerpt(&tail.0));
        Ok(true)
    }
}

/// The last bytes of a body; all of them if it is small.
struct Tail(Vec<u8>);

impl Tail {
    fn push(&mut self, piece: &[u8]) {
        let piece = &piece[piece.len().saturating_sub(TAIL_BYTES)..];
        if self.0.len() + piece.len() > 2 * TAIL_BYTES {
            let keep = self.0.len().min(TAIL_BYTES);
            self.0.drain(..self.0.len() - keep);
        }
        self.0.extend_from_slice(piece);
    }
}

fn excerpt(body: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&body[body.len().saturating_sub(EXCERPT_BYTES)..])
}

#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow)]
    message: RawMessage<'a>,
}

#[derive(Deserialize)]
struct RawMessage<'a> {
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Deserialize)]
struct Line {
    message: LineMessage,
}

#[derive(Deserialize)]
struct LineMessage {
    content: String,
}

#[derive(Deserialize)]
struct ChunkFrame {
    content: String,
}

/// The texts of JSON documents, joined.
fn joined<'a, T: Deserialize<'a>>(
    documents: impl Iterator<Item = &'a str>,
    text: impl Fn(T) -> String,
) -> Result<String> {
    documents.map(|document| Ok(text(serde_json::from_str(document)?))).collect()
}

/// The data of the server-sent events of one kind.
fn data_of<'a>(body: &'a str, event: &'a str) -> impl Iterator<Item = &'a str> {
    let frames = body.split("\n\n").filter(move |frame| {
        frame.lines().next().and_then(|line| line.strip_prefix("event: ")) == Some(event)
    });
    frames.filter_map(|frame| frame.lines().find_map(|line| line.strip_prefix("data: ")))
}
