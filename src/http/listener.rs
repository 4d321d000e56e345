//! Accepts connections, within the caps, until draining begins; whoever has connected by then is served.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use super::{
    config::HttpConfig,
    connection::{self, Peer},
    connections::Connections,
    doors::Doors,
    error::ApiError,
    lifecycle::Lifecycle,
    pipeline::Pipeline,
    refusal,
};

/// Accepting fails for want of descriptors or memory; neither announces its return.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Connections that the kernel may have ready when accepting stops: as many as tokio lets it queue.
const BACKLOG: usize = 1_024;

/// How long a refused connection may take to swallow its 503, and how many may do so at once.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
const REFUSALS_AT_ONCE: usize = 256;

pub(crate) struct Listener<S: Doors> {
    pub(crate) pipeline: Arc<Pipeline<S>>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) config: Arc<HttpConfig>,
    pub(crate) lifecycle: Lifecycle,
}

impl<S: Doors> Listener<S> {
    /// Serves until draining begins; connections outlive this future on the tracker.
    pub(crate) async fn run(self, socket: TcpListener) {
        let refusals = Arc::new(tokio::sync::Semaphore::new(REFUSALS_AT_ONCE));
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = self.lifecycle.draining.cancelled() => break,
            };
            match accepted {
                Ok((stream, address)) => self.admit(stream, address, &refusals),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(error = %error, "cannot accept connections");
                    sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
        self.last_call(socket, &refusals);
    }

    /// Admits whoever the kernel has connected already, and closes the door: they would find their connections reset.
    fn last_call(&self, socket: TcpListener, refusals: &Arc<tokio::sync::Semaphore>) {
        // The kernel itself is asked: what the runtime knows of it is a turn old.
        let Ok(socket) = socket.into_std() else { return };
        for _ in 0..BACKLOG {
            match socket.accept().and_then(|(stream, address)| Ok((from_std(stream)?, address))) {
                Ok((stream, address)) => self.admit(stream, address, refusals),
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => return,
            }
        }
    }

    fn admit(&self, stream: TcpStream, address: SocketAddr, refusals: &Arc<tokio::sync::Semaphore>) {
        let ip = address.ip().to_canonical();
        let peer = Peer { ip, is_trusted: self.pipeline.front().terms().config.trusts(ip) };
        match self.connections.take(ip, peer.is_trusted || ip.is_loopback()) {
            Ok(place) => {
                // Tokens are small and must not wait for company; failing to say so costs latency only.
                let _ = stream.set_nodelay(true);
                let serve = connection::serve(
                    stream,
                    peer,
                    Arc::clone(&self.pipeline),
                    Arc::clone(&self.config),
                    self.lifecycle.clone(),
                );
                self.lifecycle.tasks.spawn(async move {
                    serve.await;
                    drop(place);
                });
            }
            Err(refusal) => {
                self.pipeline.metrics().refused(refusal);
                if let Ok(permit) = Arc::clone(refusals).try_acquire_owned() {
                    self.lifecycle.tasks.spawn(async move {
                        let _ = timeout(REFUSAL_TIMEOUT, refuse(stream)).await;
                        drop(permit);
                    });
                }
            }
        }
    }
}

/// Says 503 and waits for the client to have read it: closing over unread input would reset the connection.
async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(&refusal::words(&ApiError::too_many_connections())).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
}

fn from_std(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

/// Whether an accept error says something about that connection only.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
