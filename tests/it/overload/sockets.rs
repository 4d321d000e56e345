//! The generator's connections: kept open and used again, as a proxy does, and never more than a bound.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use support::client::Connection;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// The most at once: what comes at ten times the capacity within a second and more, if nothing were answered.
const SOCKETS: usize = 1_500;

/// A connection that has rested for longer is given up before the service, which waits 15 s, can close it under a request.
const IDLE_MAX: Duration = Duration::from_secs(5);

pub(super) struct Sockets {
    addr: SocketAddr,
    /// The one that was used last comes last.
    idle: Mutex<Vec<(Instant, Connection)>>,
    room: Arc<Semaphore>,
}

/// A connection in use.
pub(super) struct Socket {
    pub(super) connection: Connection,
    _place: OwnedSemaphorePermit,
}

impl Sockets {
    pub(super) fn to(addr: SocketAddr) -> Arc<Self> {
        let room = Arc::new(Semaphore::new(SOCKETS));
        Arc::new(Self { addr, idle: Mutex::default(), room })
    }

    /// A connection that rests, or a new one.
    ///
    /// # Errors
    ///
    /// When all are in use: an open loop does not wait for one.
    pub(super) async fn take(&self) -> Result<Socket> {
        let room = self.room.clone().try_acquire_owned();
        let place = room.with_context(|| format!("{SOCKETS} requests are unanswered"))?;
        let rested = {
            let mut idle = self.idle.lock();
            if idle.last().is_some_and(|(since, _)| since.elapsed() > IDLE_MAX) {
                // The others have rested for longer.
                idle.clear();
            }
            idle.pop()
        };
        let connection = match rested {
            Some((_, connection)) => connection,
            None => Connection::open(self.addr).await?,
        };
        Ok(Socket { connection, _place: place })
    }

    pub(super) fn give_back(&self, socket: Socket) {
        self.idle.lock().push((Instant::now(), socket.connection));
    }
}
