//! An instance that keeps every byte it is sent, and answers 200 to each head: what nginx makes of a request.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

const REPLY: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\nX-Request-Id: recorded\r\n\r\nok";

pub(super) struct Recorder {
    addr: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Recorder {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let mut serving = JoinSet::new();
        let kept = Arc::clone(&heads);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(record(stream, Arc::clone(&kept)));
            }
        });
        Self { addr, heads, _serving: serving }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What was sent on each connection up to the end of its head, and what came along.
    pub(super) fn heads(&self) -> Vec<String> {
        self.heads.lock().clone()
    }

    /// Keeps only the first of them.
    pub(super) fn forget(&self, all_but: usize) {
        self.heads.lock().truncate(all_but);
    }
}

async fn record(mut stream: TcpStream, heads: Arc<Mutex<Vec<String>>>) {
    let mut read = Vec::new();
    while !read.windows(4).any(|four| four == b"\r\n\r\n") {
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    }
    heads.lock().push(String::from_utf8_lossy(&read).into_owned());
    // Whoever hangs up now has been recorded.
    let _ = stream.write_all(REPLY).await;
}

/// The values of a header in a recorded head.
pub(super) fn values<'h>(head: &'h str, name: &str) -> Vec<&'h str> {
    let pairs = head.lines().filter_map(|line| line.split_once(": "));
    pairs.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}
