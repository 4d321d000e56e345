//! What bodies that are not over yet may hold of nginx (B3): of large ones a network has few, of others as many as of requests.

use std::net::Ipv4Addr;

use support::nginx::Proxy;

use super::{CLIENT, recorder::Recorder};
use crate::harness::{Raw, Reply};

/// Large bodies under way that one network may have.
const LARGE: usize = 16;

/// A connection that has sent a head, and what is given of its body.
async fn begun(proxy: &Proxy, from: Ipv4Addr, path: &str, length: &str, body: &str) -> Raw {
    let mut raw = Raw::connect_over(from, proxy.addr()).await;
    raw.send(format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n{length}\r\n{body}"
    ))
    .await;
    raw
}

/// Whether the body is waited for: nginx says so when it begins to read it, after its limits.
async fn is_waited_for(mut raw: Raw) -> Result<Raw, Reply> {
    let reply = raw.reply().await;
    if reply.status == 100 { Ok(raw) } else { Err(reply) }
}

#[tokio::test]
async fn b03_a_network_has_few_large_bodies_under_way_and_others_do_not_notice() {
    let recorder = Recorder::start().await;
    let proxy = Proxy::start(&[recorder.addr()]).await.unwrap();
    let large =
        ["Content-Length: 2097152\r\n", "Content-Length: 100000\r\n", "Transfer-Encoding: chunked\r\n"];
    let paths = ["/v1/chat", "/v1/chat/stream"];
    let mut open = Vec::new();
    for number in 0..LARGE {
        let (path, length) = (paths[number % paths.len()], large[number % large.len()]);
        open.push(is_waited_for(begun(&proxy, CLIENT, path, length, "").await).await.unwrap());
    }
    for path in paths {
        for length in large {
            let refused = is_waited_for(begun(&proxy, CLIENT, path, length, "").await).await.err().unwrap();
            assert_eq!(
                refused.expect_error(429, "rate_limited").header("retry-after"),
                Some("1"),
                "{length}"
            );
        }
        let small = begun(&proxy, CLIENT, path, "Content-Length: 99999\r\n", "").await;
        open.push(is_waited_for(small).await.unwrap());
    }
    let neighbour = Ipv4Addr::from_bits(CLIENT.to_bits() + 1);
    is_waited_for(begun(&proxy, neighbour, "/v1/chat", large[0], "").await).await.unwrap();
    drop(open);
    assert!(recorder.heads().is_empty(), "no instance hears of a body that is not over");
}

#[tokio::test]
async fn b03_bodies_that_are_not_for_a_model_are_never_large_however_they_are_sent() {
    let recorder = Recorder::start().await;
    let proxy = Proxy::start(&[recorder.addr()]).await.unwrap();
    let send = async |length: &str, body: &str| {
        let mut raw = Raw::connect(proxy.addr()).await;
        raw.send(format!("POST /v1/auth/login HTTP/1.1\r\nHost: localhost\r\n{length}\r\n{body}")).await;
        raw.reply().await
    };
    let most = "a".repeat(16 << 10);
    send(&format!("Content-Length: {}\r\n", most.len()), &most).await.expect_status(200);
    let chunked = "Transfer-Encoding: chunked\r\n";
    send(chunked, &format!("{:x}\r\n{most}\r\n0\r\n\r\n", most.len())).await.expect_status(200);
    for (length, body) in
        [("Content-Length: 16385\r\n", String::new()), (chunked, format!("{:x}\r\na", most.len() + 1))]
    {
        send(length, &body).await.expect_error(413, "invalid_request");
    }
}
