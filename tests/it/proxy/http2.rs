//! HTTP/2 frames by hand, for what no library would send: header fields that become lines of HTTP/1 (B6, B15).

use std::net::{Ipv4Addr, SocketAddr};

use support::nginx::Proxy;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::recorder::{Recorder, values};
use crate::harness::{PATIENCE, connect};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// A frame of less than 16 MiB.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Header fields as HPACK literals, neither indexed nor compressed.
pub(super) fn fields(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in pairs {
        block.push(0);
        for text in [name, value] {
            let length = text.len();
            if length < 127 {
                block.push(u8::try_from(length).unwrap());
            } else {
                // An integer with a prefix of seven bits.
                let rest = length - 127;
                block.push(127);
                let low = u8::try_from(rest % 128).unwrap();
                if rest < 128 {
                    block.push(low)
                } else {
                    block.extend([low | 128, u8::try_from(rest / 128).unwrap()])
                }
            }
            block.extend(text.as_bytes());
        }
    }
    block
}

/// What a server said on a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The first byte of a reply's header block; `0x88` is 200.
    Reply {
        stream: u32,
        status: u8,
    },
    Reset {
        stream: u32,
    },
    GoAway,
    Closed,
}

pub(super) struct Http2 {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Http2 {
    pub(super) async fn connect(from: Ipv4Addr, to: SocketAddr) -> Self {
        let mut http2 = Self { stream: connect(from, to).await, read: Vec::new() };
        http2.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        http2
    }

    /// `false` when the peer has closed the connection.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> bool {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("it is read").is_ok()
    }

    /// The next thing that matters to a request.
    pub(super) async fn said(&mut self) -> Said {
        loop {
            while self.read.len() < 9 || self.read.len() < 9 + self.length() {
                let more = timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
                if more.expect("the server says something or closes").unwrap_or(0) == 0 {
                    return Said::Closed;
                }
            }
            let frame: Vec<u8> = self.read.drain(..9 + self.length()).collect();
            let stream = u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]);
            match frame[3] {
                HEADERS => return Said::Reply { stream, status: frame[9] },
                RST_STREAM => return Said::Reset { stream },
                GOAWAY => return Said::GoAway,
                _ => {}
            }
        }
    }

    fn length(&self) -> usize {
        u32::from_be_bytes([0, self.read[0], self.read[1], self.read[2]]) as usize
    }
}

const OK: u8 = 0x88;

/// The fields of a request, of which one is another and some are added.
fn request<'a>(change: (&'a str, &'a str)) -> Vec<(&'a str, &'a str)> {
    let mut pairs =
        vec![(":method", "GET"), (":scheme", "https"), (":path", "/healthz"), (":authority", "localhost")];
    match pairs.iter_mut().find(|(name, _)| *name == change.0) {
        Some(pair) => pair.1 = change.1,
        None => pairs.push(change),
    }
    pairs
}

#[tokio::test]
async fn b06_no_field_of_http_2_becomes_a_second_line_or_request_of_http_1() {
    let recorder = Recorder::start().await;
    let proxy = Proxy::start(&[recorder.addr()]).await.unwrap();
    let ask = async |pairs: &[(&str, &str)], body: Option<&[u8]>| {
        let mut http2 = Http2::connect(Ipv4Addr::LOCALHOST, proxy.http2_addr()).await;
        let end = if body.is_some() { 0 } else { END_STREAM };
        http2.send(&frame(HEADERS, END_HEADERS | end, 1, &fields(pairs))).await;
        if let Some(body) = body {
            http2.send(&frame(DATA, END_STREAM, 1, body)).await;
        }
        http2.said().await
    };
    assert_eq!(ask(&request(("x", "y")), None).await, Said::Reply { stream: 1, status: OK });
    let clean = recorder.heads().len();

    for change in [
        (":path", "/healthz HTTP/1.1\r\nHost: evil\r\n\r\nGET /smuggled"),
        (":path", "/healthz\nX-Smuggled: yes"),
        (":path", "/healthz smuggled"),
        (":method", "GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\nGET"),
        (":method", "get"),
        (":authority", "localhost\r\nX-Smuggled: yes"),
        (":authority", ""),
        (":scheme", "https://smuggled/\r\n"),
        ("x-a", "b\r\nX-Smuggled: yes"),
        ("x-a", "b\nX-Smuggled: yes"),
        ("x-a", "b\0c"),
        ("x-a\r\nx-smuggled", "yes"),
        ("x-a: yes\r\nx-smuggled", "yes"),
        ("x smuggled", "yes"),
        ("X-Smuggled", "yes"),
        ("host", "smuggled"),
        ("transfer-encoding", "chunked"),
        ("connection", "x-forwarded-for"),
        ("content-length", "5"),
        ("content-length", "0\r\n\r\nGET /smuggled HTTP/1.1"),
        (":smuggled", "yes"),
    ] {
        let said = ask(&request(change), None).await;
        let new = recorder.heads().split_off(clean);
        // Refused, or passed on as one request without what was smuggled.
        for head in &new {
            assert!(said == Said::Reply { stream: 1, status: OK }, "{change:?}: {said:?} {head}");
            assert!(!head.to_lowercase().contains("smuggled"), "{change:?}: {head}");
            assert_eq!(head.matches(" HTTP/1.").count(), 1, "{change:?}: {head}");
            assert!(values(head, "transfer-encoding").is_empty(), "{change:?}: {head}");
            assert!(values(head, "connection").is_empty() && values(head, "host").len() <= 1, "{head}");
        }
        recorder.forget(clean);
    }

    // A body that is longer or shorter than it says never lends bytes to the next request.
    for (announced, body) in [("2", "{}GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n"), ("50", "{}")] {
        let mut pairs = request((":method", "POST"));
        pairs.push(("content-length", announced));
        let said = ask(&pairs, Some(body.as_bytes())).await;
        assert_ne!(said, Said::Reply { stream: 1, status: OK }, "{announced}");
        assert_eq!(recorder.heads().len(), clean, "{:?}", recorder.heads());
    }
}
