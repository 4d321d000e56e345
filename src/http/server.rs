//! The running front end: the listener for clients and the one for operators.

use std::{future::ready, io, net::SocketAddr, sync::Arc, time::Duration};

use actors::system::System;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    config::{HttpConfig, OpsDoor},
    connections::{Caps, Connections},
    doors::Doors,
    front::Front,
    lifecycle::Lifecycle,
    listener::Listener,
    metrics::HttpMetrics,
    pipeline::{Hosts, Pipeline},
    route::RouteTable,
};
use crate::{control::Control, router};

/// How long turns that were ended have to be stored and told to their readers.
const WIND_UP: Duration = Duration::from_secs(2);

/// How long connections have to send what they were told last.
const FLUSH: Duration = Duration::from_millis(500);

/// What [`Server::shutdown`] needs at most after its grace.
pub const STOP_AFTER_GRACE: Duration = WIND_UP.saturating_add(FLUSH);

/// Connections operators may open: those of one address leave room for others, should strangers reach that listener.
const OPS_CONNECTIONS: Caps = Caps { all: 64, of_one_address: 16 };

/// A running front end; dropping it does not stop it, [`Server::shutdown`] does.
pub struct Server {
    addr: SocketAddr,
    ops_addr: SocketAddr,
    system: Arc<System>,
    config: Arc<HttpConfig>,
    metrics: Arc<HttpMetrics>,
    clients: Lifecycle,
    operators: Lifecycle,
}

impl Server {
    /// Opens both listeners and serves.
    ///
    /// # Errors
    ///
    /// `AddrInUse` and the like name the address.
    pub async fn start(front: Arc<Front>, system: Arc<System>, control: &Control) -> io::Result<Self> {
        let config = Arc::clone(&front.terms().config);
        let metrics = Arc::new(HttpMetrics::register(&mut system.registry.lock(), &config));
        let socket = bind(config.bind, "APP_PORT or APP_HOST").await?;
        let ops_socket = bind_ops(&config.ops).await?;
        let (addr, ops_addr) = (socket.local_addr()?, ops_socket.local_addr()?);
        let (clients, operators) = (Lifecycle::default(), Lifecycle::default());
        let hosts = if addr.ip().is_loopback() { Hosts::LoopbackOrProxied } else { Hosts::Any };
        let (clients_table, operators_table) =
            (RouteTable::new(router::clients(control))?, RouteTable::new(router::operators())?);
        // Whoever shows a token is no page that was led astray.
        let ops_hosts = if config.ops.token().is_some() { Hosts::Any } else { Hosts::Loopback };
        metrics.expect(clients_table.routes().chain(operators_table.routes()));
        let caps = Caps { all: config.max_connections, of_one_address: config.max_connections_per_address };
        let open = |socket, table, hosts, caps, lifecycle: &Lifecycle| {
            let pipeline =
                Pipeline::new(Arc::clone(&system), table, Arc::clone(&front), hosts, Arc::clone(&metrics));
            start_listener(socket, pipeline, caps, &config, &metrics, lifecycle);
        };
        open(socket, clients_table, hosts, caps, &clients);
        open(ops_socket, operators_table, ops_hosts, OPS_CONNECTIONS, &operators);
        Ok(Self { addr, ops_addr, system, config, metrics, clients, operators })
    }

    /// Where clients connect.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where operators connect.
    pub const fn ops_addr(&self) -> SocketAddr {
        self.ops_addr
    }

    /// Requests between their head and the end of their reply.
    pub fn in_flight(&self) -> usize {
        self.metrics.in_flight()
    }

    /// What [`Server::shutdown`] takes at most.
    pub fn stops_within(&self) -> Duration {
        self.config.drain_grace + STOP_AFTER_GRACE
    }

    /// Stops in phases (D7): not ready at once and every reply its connection's last, accepting a little longer, then
    /// closing what is idle and waiting for what runs; what still runs after the grace is told `server_shutting_down`.
    /// When it returns, nothing of the front end holds the system any more.
    pub async fn shutdown(self) {
        let Self { system, config, clients, operators, .. } = self;
        let grace_ends = Instant::now() + config.drain_grace;
        system.begin_shutdown();
        clients.closing.cancel();
        operators.closing.cancel();
        // Load balancers learn by asking; there is nothing to wait for but their next question.
        sleep(config.drain_accept.min(config.drain_grace)).await;
        // Operators may look on for as long as clients are served, and are no reason to take longer.
        let end_operators = async {
            let _ = timeout_at(grace_ends, clients.tasks.wait()).await;
            stop(&operators, Instant::now(), ready(()), ready(())).await;
        };
        tokio::join!(stop(&clients, grace_ends, system.turns_ended(), system.end_turns()), end_operators);
    }
}

/// Ends a listener: drained until `grace_ends`, or until no reply is owed and `work_done` says that nothing else is under
/// way; then `end_work` ends what replies wait for, so that they end with its words; then those that wait for something
/// else are told; then whoever does not listen is dropped.
pub(crate) async fn stop(
    lifecycle: &Lifecycle,
    grace_ends: Instant,
    work_done: impl Future<Output = ()>,
    end_work: impl Future<Output = ()>,
) {
    lifecycle.closing.cancel();
    lifecycle.draining.cancel();
    lifecycle.tasks.close();
    let at_rest = async {
        lifecycle.tasks.wait().await;
        // Looked at last: only a client can begin something.
        work_done.await;
    };
    if timeout_at(grace_ends, at_rest).await.is_ok() {
        return;
    }
    let all_ended = async { tokio::join!(end_work, lifecycle.tasks.wait()) };
    if timeout(WIND_UP, all_ended).await.is_ok() {
        return;
    }
    lifecycle.ending.cancel();
    if timeout(FLUSH, lifecycle.tasks.wait()).await.is_ok() {
        return;
    }
    lifecycle.ended.cancel();
    lifecycle.tasks.wait().await;
}

pub(crate) fn start_listener<S: Doors>(
    socket: TcpListener,
    pipeline: Arc<Pipeline<S>>,
    caps: Caps,
    config: &Arc<HttpConfig>,
    metrics: &HttpMetrics,
    lifecycle: &Lifecycle,
) {
    let connections = Connections::new(caps, metrics.connections.clone());
    let listener =
        Listener { pipeline, connections, config: Arc::clone(config), lifecycle: lifecycle.clone() };
    lifecycle.tasks.spawn(listener.run(socket));
}

/// `settings` are those that choose another address.
async fn bind(address: SocketAddr, settings: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}: set {settings}"))
    })
}

/// The default gives way to another service on this machine; an address somebody chose does not.
async fn bind_ops(door: &OpsDoor) -> io::Result<TcpListener> {
    const SETTING: &str = "OPS_BIND";
    if let Some(address) = door.chosen() {
        return bind(address, SETTING).await;
    }
    match bind(HttpConfig::OPS_DEFAULT, SETTING).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            bind(SocketAddr::new(HttpConfig::OPS_DEFAULT.ip(), 0), SETTING).await
        }
        outcome => outcome,
    }
}
