//! One client's connection, from accept to close: HTTP/1.1 with a bound on every wait and every buffer.
//!
//! The plain HTTP/1 builder on purpose: hyper-util's protocol-guessing one has no timer while it guesses (hyper #3962).

use std::{net::IpAddr, pin::pin, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, time::sleep};
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

/// How long a client has for its first request that had connected when the service stopped accepting.
const FIRST_REQUEST: Duration = Duration::from_millis(500);

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
    /// Cancelled when each reply is to be the last.
    pub(crate) closing: CancellationToken,
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
    let closing = lifecycle.closing.child_token();
    let over = time_to_end(closing.clone(), lifecycle.draining.child_token(), Arc::clone(&input));
    let link = Arc::new(Link { peer, input, closing, ending: lifecycle.ending.child_token() });
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
        () = over => {
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

/// Resolves when the connection should end as soon as it owes no reply.
///
/// One that is serving when the shutdown begins may have told its client by now that it stays open, and ends with that
/// reply. One that is idle stays open for those who are just sending a request (and are told on the reply), until nothing
/// is accepted any more. One that has never asked was accepted a moment ago, and may have its request on the way.
async fn time_to_end(closing: CancellationToken, draining: CancellationToken, input: Arc<Input>) {
    closing.cancelled().await;
    if input.is_serving() {
        return;
    }
    draining.cancelled().await;
    if !input.has_asked() {
        sleep(FIRST_REQUEST).await;
    }
}
