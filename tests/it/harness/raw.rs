//! A connection on which every byte is ours, for requests that no client library would send.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{PATIENCE, Reply, connect, http};

pub(crate) struct Raw {
    stream: TcpStream,
    /// What was read and belongs to no reply yet.
    read: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self::connect_over(Ipv4Addr::UNSPECIFIED, addr).await
    }

    /// The same from this address of the machine itself.
    pub(crate) async fn connect_over(socket: Ipv4Addr, addr: SocketAddr) -> Self {
        Self { stream: connect(socket, addr).await, read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.expect("it is read").unwrap();
    }

    /// Sends on a connection that the peer may have closed; `false` if it is known to.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.expect("it is read").is_ok()
    }

    /// Reads one reply, which has a `Content-Length`.
    pub(crate) async fn reply(&mut self) -> Reply {
        self.reply_or_end().await.expect("closed without a reply")
    }

    /// The same; `None` when the peer closes the connection in place of one.
    pub(crate) async fn reply_or_end(&mut self) -> Option<Reply> {
        let head_end = loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if !self.more().await {
                assert!(
                    self.read.is_empty(),
                    "closed within a head: {:?}",
                    String::from_utf8_lossy(&self.read)
                );
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..head_end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().unwrap();
        let status = status_line.split(' ').nth(1).unwrap().parse().unwrap();
        let headers = http::headers(&lines.collect::<Vec<_>>());
        let length =
            headers.get("content-length").map_or(0, |value| value.to_str().unwrap().parse().unwrap());
        while self.read.len() < length {
            assert!(self.more().await, "closed within a reply: {head}");
        }
        let body = self.read.drain(..length).collect::<Vec<_>>().into();
        Some(Reply::new(status_line.to_owned(), status, headers, body))
    }

    /// What comes before the peer closes the connection.
    pub(crate) async fn until_closed(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.read)
    }

    async fn more(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
        // A reset ends a connection as well as a close does; what matters is what came before it.
        read.expect("the peer says something or closes").unwrap_or(0) > 0
    }
}
