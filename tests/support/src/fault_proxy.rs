//! A TCP proxy that breaks the network between two parties, on purpose and reversibly.
//!
//! ```text
//! client ──▶ door ──▶ two pumps per connection, one buffer each ──▶ upstream
//! ```
//!
//! Frozen, it is a network that drops every packet; cut, one that answers with a refusal. What was in a pump's buffer
//! when it was frozen goes on when it is healed; what was in one when it was cut is lost.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use crate::door::Door;

/// Bytes a direction of a connection holds at most, besides the kernel's buffers.
const BUFFER_BYTES: usize = 16 << 10;

/// A proxy on a port of its own. Dropping it ends its connections.
pub struct FaultProxy {
    door: Door,
    weather: watch::Sender<Weather>,
    open: Arc<AtomicUsize>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    is_frozen: bool,
    latency: Duration,
}

impl FaultProxy {
    /// Forwards every connection to `upstream`.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    pub async fn start(upstream: SocketAddr) -> Result<Self> {
        let weather = watch::Sender::new(Weather::default());
        let open = Arc::new(AtomicUsize::new(0));
        let (watched, counted) = (weather.clone(), open.clone());
        let door = Door::open(0, move |client, _| {
            let weather = watched.subscribe();
            let counted = Open::begin(counted.clone());
            async move {
                let _counted = counted;
                // How a connection ends is what its peers see; there is nobody else to tell.
                let _ = forward(client, upstream, weather).await;
            }
        })
        .await
        .context("no free port for a fault proxy")?;
        Ok(Self { door, weather, open })
    }

    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.door.addr()
    }

    /// Connections open through it.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Ends every connection and refuses new ones.
    pub async fn cut(&self) {
        self.door.shut().await;
    }

    /// Ends every connection; new ones are served.
    pub fn cut_connections(&self) {
        self.door.cut();
    }

    /// Accepts connections and moves no byte.
    pub fn freeze(&self) {
        self.weather.send_modify(|weather| weather.is_frozen = true);
    }

    /// Delays what is read from now on, in each direction, by `latency` per read.
    pub fn latency(&self, latency: Duration) {
        self.weather.send_modify(|weather| weather.latency = latency);
    }

    /// Undoes every fault.
    ///
    /// # Errors
    ///
    /// When another process took the port while it was cut.
    pub async fn heal(&self) -> Result<()> {
        self.weather.send_replace(Weather::default());
        self.door.reopen().await.context("the proxy's port is taken")
    }
}

struct Open(Arc<AtomicUsize>);

impl Open {
    fn begin(open: Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Relaxed);
        Self(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

async fn forward(
    client: TcpStream,
    upstream: SocketAddr,
    mut weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    thaw(&mut weather).await;
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // A failure of one direction ends both.
    tokio::try_join!(pump(from_client, to_server, weather.clone()), pump(from_server, to_client, weather))?;
    Ok(())
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        thaw(&mut weather).await;
        let length = from.read(&mut buffer).await?;
        let latency = weather.borrow().latency;
        // Even no sleep at all would last until the timer's next millisecond.
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        thaw(&mut weather).await;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}

async fn thaw(weather: &mut watch::Receiver<Weather>) {
    // An error means that the proxy is gone, and its connections with it.
    let _ = weather.wait_for(|weather| !weather.is_frozen).await;
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    /// A proxy before a server that sends back what it gets.
    async fn echo() -> (FaultProxy, Door) {
        let echo = |stream: TcpStream, _| async move {
            let (mut read, mut write) = stream.into_split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        };
        let server = Door::open(0, echo).await.unwrap();
        (FaultProxy::start(server.addr()).await.unwrap(), server)
    }

    async fn ping(stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(b"ping").await?;
        stream.read_exact(&mut [0; 4]).await.map(drop)
    }

    #[tokio::test]
    async fn what_is_cut_is_refused_until_it_is_healed() {
        let (proxy, _server) = echo().await;
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        ping(&mut stream).await.unwrap();
        assert_eq!(proxy.open_connections(), 1);
        proxy.cut().await;
        assert!(ping(&mut stream).await.is_err());
        assert_eq!(
            TcpStream::connect(proxy.addr()).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        proxy.heal().await.unwrap();
        ping(&mut TcpStream::connect(proxy.addr()).await.unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_frozen_goes_on_when_it_is_healed() {
        let (proxy, _server) = echo().await;
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        ping(&mut stream).await.unwrap();
        proxy.freeze();
        stream.write_all(b"ping").await.unwrap();
        let mut new = TcpStream::connect(proxy.addr()).await.unwrap();
        new.write_all(b"ping").await.unwrap();
        let mut reply = [0; 4];
        assert!(timeout(Duration::from_millis(50), stream.read_exact(&mut reply)).await.is_err());
        assert!(timeout(Duration::from_millis(50), new.read_exact(&mut reply)).await.is_err());
        proxy.heal().await.unwrap();
        stream.read_exact(&mut reply).await.unwrap();
        new.read_exact(&mut reply).await.unwrap();
    }

    #[tokio::test]
    async fn latency_is_added_in_both_directions() {
        let (proxy, _server) = echo().await;
        proxy.latency(Duration::from_millis(30));
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        let begun = Instant::now();
        ping(&mut stream).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(60));
    }

    #[tokio::test]
    async fn a_half_closed_connection_still_answers() {
        let (proxy, _server) = echo().await;
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        stream.write_all(b"last words").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await.unwrap();
        assert_eq!(reply, b"last words");
    }
}
