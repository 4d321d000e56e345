//! Floods of HTTP/2 frames (B15): nginx ends the connection and keeps little of it, and others do not notice.

use std::net::Ipv4Addr;

use support::process::{children_of, memory};

use super::{
    CLIENT, Ground,
    http2::{CONTINUATION, END_HEADERS, END_STREAM, HEADERS, Http2, RST_STREAM, Said, fields, frame},
};
use crate::harness::{Options, Store};

/// Streams opened and reset at once, and frames of one head that never ends.
const RESETS: u32 = 20_000;
const CONTINUATIONS: usize = 20_000;
/// What all of nginx may grow by meanwhile.
const GROWTH_BYTES: u64 = 24 << 20;

impl Ground {
    /// Resident bytes of nginx's workers.
    pub(super) fn proxy_bytes(&self) -> u64 {
        children_of(self.proxy.pid()).into_iter().map(|worker| memory(worker, "VmRSS").unwrap()).sum()
    }
}

/// Sends pieces of a flood until nginx has closed the connection; whether it did.
async fn is_cut_off(mut flood: Http2, pieces: impl Iterator<Item = Vec<u8>>) -> bool {
    for piece in pieces {
        if !flood.send(&piece).await {
            return true;
        }
    }
    loop {
        match flood.said().await {
            Said::Closed | Said::GoAway => return true,
            _ => {}
        }
    }
}

#[tokio::test]
async fn b15_floods_of_resets_and_of_continuations_end_their_own_connection_only() {
    let ground = Ground::lay(Options::on(Store::Postgres)).await;
    let healthy = async || {
        let call = ground.call("GET", "/healthz").over(Ipv4Addr::from_bits(CLIENT.to_bits() + 1));
        call.send().await.expect_status(200);
    };
    healthy().await;
    let before = ground.proxy_bytes();
    let block = fields(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/healthz"),
        (":authority", "localhost"),
    ]);
    let open = || Http2::connect(CLIENT, ground.proxy.http2_addr());

    let resets = (0..RESETS).map(|number| {
        let stream = 2 * number + 1;
        let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block);
        [head, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    assert!(is_cut_off(open().await, resets).await);
    healthy().await;

    let more = fields(&[("x", &"a".repeat(1_000))]);
    let begun = frame(HEADERS, END_STREAM, 1, &block);
    let continuations = (0..CONTINUATIONS).map(|_| frame(CONTINUATION, 0, 1, &more));
    assert!(is_cut_off(open().await, std::iter::once(begun).chain(continuations)).await);
    healthy().await;

    let grown = ground.proxy_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES, "nginx grew by {grown} bytes");
    ground.finish().await;
}
