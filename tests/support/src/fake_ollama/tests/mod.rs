//! A client on a raw socket, which sees every byte.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

mod behaviour;
mod wire;

const SOON: Duration = Duration::from_secs(5);

async fn send(fake: &FakeOllama, path: &str, body: &Value, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(fake.addr()).await.unwrap();
    ask(&mut stream, path, body, headers).await;
    stream
}

async fn ask(stream: &mut TcpStream, path: &str, body: &Value, headers: &str) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let method = if body.is_empty() { "GET" } else { "POST" };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await.unwrap();
}

/// Everything up to the connection's end, and whether that was a reset.
async fn read_all(mut stream: TcpStream) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let was_reset = stream.read_to_end(&mut bytes).await.is_err();
    (bytes, was_reset)
}

/// The whole reply to one request: head, and body without its chunk framing.
async fn reply(fake: &FakeOllama, path: &str, body: &Value) -> (String, Vec<u8>) {
    let (bytes, _) = read_all(send(fake, path, body, "Connection: close\r\n").await).await;
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8(bytes[..at].to_vec()).unwrap();
    let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    let body = if is_chunked { chunks(&bytes[at..]).concat() } else { bytes[at..].to_vec() };
    (head, body)
}

fn chunks(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    while let Ok(httparse::Status::Complete((head, size))) = httparse::parse_chunk_size(bytes) {
        let size = usize::try_from(size).unwrap();
        if size == 0 || bytes.len() < head + size {
            break;
        }
        chunks.push(bytes[head..head + size].to_vec());
        bytes = &bytes[head + size + 2..];
    }
    chunks
}

fn chat(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "hello there" }] })
}

async fn raw_chat(fake: &FakeOllama, model: &str) -> (String, bool) {
    let (bytes, was_reset) =
        read_all(send(fake, "/api/chat", &chat(model), "Connection: close\r\n").await).await;
    (String::from_utf8_lossy(&bytes).into_owned(), was_reset)
}

async fn lines(fake: &FakeOllama, model: &str) -> Vec<Value> {
    let (_, body) = reply(fake, "/api/chat", &chat(model)).await;
    body.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

async fn fake() -> FakeOllama {
    FakeOllama::start(Config::default()).await.unwrap()
}
