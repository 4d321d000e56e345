//! A listening port that can be shut and opened again, and whose connections can be cut.
//!
//! A shut door refuses connections, as a dead process does; it comes back on the same port, as a restarted one does.
//! While it is shut another process may take the port: reopening then retries for [`REBIND_PATIENCE`] and fails.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections served at once; more wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 16_384;
/// After a failure to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// How long a port that was ours may stay taken when it is wanted back.
const REBIND_PATIENCE: Duration = Duration::from_secs(5);

type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;
type Serve = Arc<dyn Fn(TcpStream, CancellationToken) -> Serving + Send + Sync>;

/// A port and the tasks that serve it.
pub(crate) struct Door {
    addr: SocketAddr,
    serve: Serve,
    tracker: TaskTracker,
    places: Arc<Semaphore>,
    accepting: Mutex<Option<Accepting>>,
    /// Cancelled to cut every connection of the moment, then replaced.
    cut: Arc<Mutex<CancellationToken>>,
}

struct Accepting {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Door {
    /// Listens on loopback; port 0 takes a free one. `serve` runs once per connection and is dropped when it is cut;
    /// the token it gets is cancelled just before, so that destructors can tell a cut from a peer that left.
    pub(crate) async fn open<F, S>(port: u16, serve: F) -> io::Result<Self>
    where
        F: Fn(TcpStream, CancellationToken) -> S + Send + Sync + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let door = Self {
            addr: listener.local_addr()?,
            serve: Arc::new(move |stream, cut| Box::pin(serve(stream, cut))),
            tracker: TaskTracker::new(),
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            accepting: Mutex::new(None),
            cut: Arc::new(Mutex::new(CancellationToken::new())),
        };
        door.accept_on(listener);
        Ok(door)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends every connection of the moment; new ones are still accepted.
    pub(crate) fn cut(&self) {
        std::mem::take(&mut *self.cut.lock()).cancel();
    }

    /// Refuses new connections from the moment it returns, and ends those that are open.
    pub(crate) async fn shut(&self) {
        let accepting = self.accepting.lock().take();
        if let Some(Accepting { stop, task }) = accepting {
            stop.cancel();
            // The listener is closed when its task has ended; how it ended does not matter.
            let _ = task.await;
        }
        self.cut();
    }

    /// Listens on the same port again; nothing changes if it is open.
    pub(crate) async fn reopen(&self) -> io::Result<()> {
        if self.accepting.lock().is_some() {
            return Ok(());
        }
        let give_up = Instant::now() + REBIND_PATIENCE;
        let listener = loop {
            match TcpListener::bind(self.addr).await {
                Ok(listener) => break listener,
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < give_up => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => return Err(error),
            }
        };
        self.accept_on(listener);
        Ok(())
    }

    /// Stops listening and ends every connection, without waiting for either.
    pub(crate) fn abandon(&self) {
        if let Some(accepting) = self.accepting.lock().take() {
            accepting.stop.cancel();
        }
        self.cut();
    }

    fn accept_on(&self, listener: TcpListener) {
        let stop = CancellationToken::new();
        let task = self.tracker.spawn(accept(
            listener,
            stop.clone(),
            self.cut.clone(),
            self.tracker.clone(),
            self.places.clone(),
            self.serve.clone(),
        ));
        *self.accepting.lock() = Some(Accepting { stop, task });
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.abandon();
    }
}

async fn accept(
    listener: TcpListener,
    stop: CancellationToken,
    cut: Arc<Mutex<CancellationToken>>,
    tracker: TaskTracker,
    places: Arc<Semaphore>,
    serve: Serve,
) {
    loop {
        let (stream, place) = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = async {
                let place = places.clone().acquire_owned().await;
                (listener.accept().await, place)
            } => match accepted {
                (Ok((stream, _)), Ok(place)) => (stream, place),
                // A connection that died in the backlog, or no descriptor left: let others end first.
                _ => {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let cut = cut.lock().clone();
        let serving = serve(stream, cut.clone());
        tracker.spawn(async move {
            let _place = place;
            tokio::select! {
                biased;
                () = cut.cancelled() => {}
                () = serving => {}
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_shut_door_refuses_and_opens_again_on_the_same_port() {
        let door = Door::open(0, |stream, _| async move {
            let _ = stream.readable().await;
        })
        .await
        .unwrap();
        let mut open = TcpStream::connect(door.addr()).await.unwrap();
        door.shut().await;
        assert_eq!(open.read(&mut [0]).await.unwrap_or(0), 0, "open connections end");
        let refused = TcpStream::connect(door.addr()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        door.reopen().await.unwrap();
        TcpStream::connect(door.addr()).await.unwrap();
    }
}
