//! A client of raw bytes: it shows what is on the wire.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// No step of these tests takes longer on a healthy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Sends `bytes` and reads until the server closes.
pub(crate) async fn send(addr: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    rest(&mut stream).await
}

/// One request that asks for the connection to be closed.
pub(crate) async fn ask(addr: SocketAddr, line: &str, headers: &[&str], body: &str) -> Answer {
    let mut text = format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    if !body.is_empty() {
        text += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    }
    for header in headers {
        text += &format!("{header}\r\n");
    }
    send(addr, (text + "\r\n" + body).as_bytes()).await
}

/// What came back on a connection, until its end.
pub(crate) struct Answer {
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.text.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let head = self.text.split("\r\n\r\n").next()?;
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        let (_, body) = self.text.split_once("\r\n\r\n").expect("a head");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text))
    }

    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().expect("an error object").to_owned()
    }
}

/// Reads to the end of the connection; a reset counts as an end without what it swallowed.
pub(crate) async fn rest(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let _ = timeout(PATIENCE, read).await.expect("the server should have closed the connection");
    Answer { text: String::from_utf8_lossy(&bytes).into_owned() }
}

/// Reads until `bytes` holds `end`.
pub(crate) async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let mut piece = [0; 4_096];
    while !text.contains(end) {
        let read = timeout(PATIENCE, stream.read(&mut piece)).await;
        let count = read.unwrap_or_else(|_| panic!("nothing came after {text:?}")).unwrap();
        assert!(count > 0, "the connection ended after {text:?}");
        text += &String::from_utf8_lossy(&piece[..count]);
    }
    text
}
