//! One client's connection, from accept to close: HTTP/1.1 with a bound on every wait and every buffer.
//!
//! The plain HTTP/1 builder on purpose: hyper-util's protocol-guessing one has no timer while it guesses (hyper #3962).

use std::{net::IpAddr, pin::pin, sync::Arc};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{
    config::HttpConfig,
    doors::Doors,
    lifecycle::Lifecycle,
    pipeline::Pipeline,
    socket::{Input, Socket},
};

/// A whole request head; beyond it hyper answers 431.
const HEAD_BYTES: usize = 16 << 10;
const HEADERS_MAX: usize = 100;

/// Who is at the other end of the socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) ip: IpAddr,
    /// A proxy of ours, whose word about its clients we take.
    pub(crate) is_trusted: bool,
}

/// What the requests of one connection share.
pub(crate) struct Link {
    pub(crate) peer: Peer,
    pub(crate) input: Arc<Input>,
    /// Cancelled when replies must end because the service does.
    pub(crate) ending: CancellationToken,
}

pub(crate) async fn serve<S: Doors>(
    stream: TcpStream,
    peer: Peer,
    pipeline: Arc<Pipeline<S>>,
    config: Arc<HttpConfig>,
    lifecycle: Lifecycle,
) {
    let input = Arc::new(Input::default());
    let socket = Socket::new(TokioIo::new(stream), Arc::clone(&input), config.write_stall_timeout);
    // Tokens are looked at on every wake; children spare the connections a lock they would all share.
    let link = Arc::new(Link { peer, input, ending: lifecycle.ending.child_token() });
    let draining = lifecycle.draining.child_token();
    // Half-closed clients count as gone (hyper's default): their slot matters more than their half.
    let service = service_fn(move |request| Arc::clone(&pipeline).handle(request, Arc::clone(&link)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_read_timeout)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS_MAX)
        .serve_connection(socket, service);
    let mut connection = pin!(connection);
    let outcome = tokio::select! {
        biased;
        outcome = connection.as_mut() => outcome,
        () = draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                outcome = connection => outcome,
                () = lifecycle.ended.cancelled() => return,
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(error = %error, "connection ended early");
    }
}
