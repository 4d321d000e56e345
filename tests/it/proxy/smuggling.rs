//! Requests that two readers could frame differently (B6), to the service itself and through nginx: one reply each, and
//! never a second request parsed from a body.
//!
//! What would be smuggled asks for the description; nobody else does here, and the service counts requests by route. After
//! the reply a sentinel is sent on the same connection: a second reply that is not the sentinel's would be a smuggled one.

use std::net::SocketAddr;

use futures_util::future::join_all;

use super::Ground;
use crate::harness::{Options, Raw, Store};

const SMUGGLED: &str = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
const SENTINEL: &str = "GET /sentinel HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A request whose length is told by `lines`, and what follows its head.
fn post(lines: &str, body: &str) -> String {
    format!(
        "POST /v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{lines}\r\n{body}"
    )
}

/// One request each, whichever of its lengths is believed.
fn corpus() -> Vec<(String, String)> {
    let mut cases = Vec::new();
    let mut case = |name: &str, bytes: String| cases.push((name.to_owned(), bytes));
    let length = |body: &str| format!("Content-Length: {}\r\n", body.len());

    // Chunked says that the body is over, the length that it is not.
    let ended = format!("0\r\n\r\n{SMUGGLED}");
    for coding in [
        "Transfer-Encoding: chunked",
        "transfer-encoding: CHUNKED",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding: chunked\x0b",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: \r\nTransfer-Encoding: chunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        "Transfer-Encoding:\r\n chunked",
        " Transfer-Encoding: chunked",
        "Transfer_Encoding: chunked",
        "Transfer-Encoding\0: chunked",
        "X: x\nTransfer-Encoding: chunked",
        "X: x\rTransfer-Encoding: chunked",
        "Connection: Content-Length\r\nTransfer-Encoding: chunked",
        "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    ] {
        case(coding, post(&format!("{}{coding}\r\n", length(&ended)), &ended));
        case(
            &format!("{coding}, before the length"),
            post(&format!("{coding}\r\n{}", length(&ended)), &ended),
        );
    }
    // The length says that the body is over, chunked that it is not.
    let chunk = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    for coding in ["Transfer-Encoding: chunked", "Transfer-Encoding: Chunked"] {
        case("TE.CL", post(&format!("Content-Length: 4\r\n{coding}\r\n"), &chunk));
        case("TE.0", post(&format!("Content-Length: 0\r\n{coding}\r\n"), &chunk));
    }
    case("a request in a chunk", post("Transfer-Encoding: chunked\r\n", &chunk));

    // Lengths that are none, or two.
    let whole = SMUGGLED.len();
    for lines in [
        format!("Content-Length: {whole}\r\nContent-Length: 0\r\n"),
        format!("Content-Length: 0\r\nContent-Length: {whole}\r\n"),
        format!("Content-Length: {whole}\r\nContent-Length: {whole}\r\n"),
        format!("Content-Length: {whole}, 0\r\n"),
        format!("Content-Length: {whole}, {whole}\r\n"),
        format!("Content-Length: +{whole}\r\n"),
        format!("Content-Length: -{whole}\r\n"),
        format!("Content-Length: 0x{whole:x}\r\n"),
        format!("Content-Length: {whole} {whole}\r\n"),
        format!("Content-Length: {whole}.0\r\n"),
        "Content-Length: 18446744073709551616\r\n".to_owned(),
        "Content-Length: \r\n".to_owned(),
        format!("Content-Length : {whole}\r\n"),
        format!("Content-Length:\r\n {whole}\r\n"),
        format!("Content-Length:\t{whole}\r\n"),
        format!("Content-Length: {whole}\r\nConnection: Content-Length\r\n"),
        format!("Content-Length: {whole}\r\nExpect: 100-continue\r\n"),
    ] {
        case(lines.trim_end(), post(&lines, SMUGGLED));
    }

    // Chunks whose size can be read in several ways.
    for size in [
        "ffffffffffffffff1",
        "-1",
        "0x0",
        "+0",
        "",
        " 0 ",
        "0;",
        "0;a=\"\r\n",
        "00000000000000000000",
        "0_",
        "g",
    ] {
        case(
            &format!("chunk size {size:?}"),
            post("Transfer-Encoding: chunked\r\nConnection: close\r\n", &format!("{size}\r\n\r\n{SMUGGLED}")),
        );
    }
    for body in [
        "2;a=b;c=\"d\"\r\n{}\r\n0\r\n\r\n",
        "2\n{}\n0\n\n",
        "2;\n{}\r\n0\r\n\r\n",
        "2\r\n{}0\r\n\r\n",
        "1\r\n{}\r\n0\r\n\r\n",
        "2\r\n{}\r\n0\r\nContent-Length: 5\r\nHost: other\r\n\r\n",
    ] {
        case(&format!("chunks {body:?}"), post("Transfer-Encoding: chunked\r\n", body));
    }

    // Line ends, hosts and targets.
    let bare = |head: &str| head.replace("\r\n", "\n");
    case("bare LF", bare(&post(&length(SMUGGLED), "")) + SMUGGLED);
    case("bare CR", post(&length(SMUGGLED), "").replace("\r\nHost", "\rHost") + SMUGGLED);
    case(
        "a body of GET",
        format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{}\r\n{SMUGGLED}", length(SMUGGLED)),
    );
    case(
        "a body of an unknown path",
        format!("POST /no HTTP/1.1\r\nHost: localhost\r\n{}\r\n{SMUGGLED}", length(SMUGGLED)),
    );
    case(
        "HTTP/1.0",
        post("Transfer-Encoding: chunked\r\n", &ended).replace("HTTP/1.1\r\nHost", "HTTP/1.0\r\nHost"),
    );
    for start in [
        "GET http://localhost/healthz HTTP/1.1",
        "GET http://evil.example/healthz HTTP/1.1",
        "GET  /healthz HTTP/1.1",
        "GET\t/healthz\tHTTP/1.1",
        "GET /healthz HTTP/1.1 ",
        "GET /healthz HTTP/1.1\r\nHost: other",
        "GET /healthz HTTP/2.0",
        "GET /healthz\x00 HTTP/1.1",
        "\r\nGET /healthz HTTP/1.1",
        "GET /healthz HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "CONNECT localhost:80 HTTP/1.1",
        "PRI * HTTP/2.0",
    ] {
        case(&format!("{start:?}"), format!("{start}\r\nHost: localhost\r\n\r\n"));
    }
    cases
}

/// Sends one request that may be odd, and says what is wrong with the replies.
async fn try_one(addr: SocketAddr, name: &str, bytes: &str) -> Result<(), String> {
    let mut raw = Raw::connect(addr).await;
    raw.send(bytes).await;
    let mut first = raw.reply_or_end().await;
    while first.as_ref().is_some_and(|reply| reply.status == 100) {
        first = raw.reply_or_end().await;
    }
    let Some(first) = first else { return Err(format!("{name}: no reply")) };
    if !matches!(first.status, 200 | 400 | 401 | 404 | 405 | 413 | 415 | 501 | 505) {
        return Err(format!("{name}: {first:?}"));
    }
    if raw.try_send(SENTINEL).await {
        match raw.reply_or_end().await {
            None => return Ok(()),
            // What is smuggled would be answered by 200.
            Some(reply) if reply.status == 404 => {}
            Some(reply) => return Err(format!("{name}: {first:?}, and then {reply:?}")),
        }
    }
    let rest = raw.until_closed().await;
    if rest.is_empty() {
        Ok(())
    } else {
        Err(format!("{name}: {first:?}, and then {}", String::from_utf8_lossy(&rest)))
    }
}

#[tokio::test]
async fn b06_no_request_is_parsed_from_the_body_of_another_neither_by_the_service_nor_by_nginx() {
    let options =
        Options::on(Store::Postgres).set("LOG_IN_PER_MINUTE", 1_000_000).set("LOG_IN_BURST", 1_000_000);
    let ground = Ground::lay(options).await;
    let cases = corpus();
    for (what, addr) in [("directly", ground.app.addr()), ("through nginx", ground.addr())] {
        let tried = join_all(cases.iter().map(|(name, bytes)| try_one(addr, name, bytes))).await;
        let wrong: Vec<_> = tried.into_iter().filter_map(Result::err).collect();
        assert!(wrong.is_empty(), "{what}: {wrong:#?}");
    }
    for address in [ground.app.ops_addr(), ground.twin.ops_addr()] {
        let metrics = crate::harness::Call::new(address, "GET", "/metrics").send().await.text();
        assert!(
            metrics.contains("deepersensor_http_requests_total{route=\"none\""),
            "the sentinels are counted"
        );
        let smuggled = "deepersensor_http_requests_total{route=\"/openapi.json\"";
        let mut counts = metrics.lines().filter(|line| line.starts_with(smuggled));
        assert!(counts.all(|line| line.ends_with(" 0")), "smuggled: {metrics}");
    }
    let log = ground.proxy.access_log();
    assert!(log.contains("/sentinel") && !log.contains("/openapi.json"), "{log}");
    ground.finish().await;
}

#[tokio::test]
async fn b06_requests_that_are_sent_at_once_are_answered_in_order() {
    let ground = Ground::lay(Options::on(Store::Postgres)).await;
    for addr in [ground.app.addr(), ground.addr()] {
        let mut raw = Raw::connect(addr).await;
        raw.send(post("Content-Length: 2\r\n", "{}") + SMUGGLED + SENTINEL).await;
        for status in [400, 200, 404] {
            raw.reply().await.expect_status(status);
        }
        assert!(raw.until_closed().await.is_empty());
    }
    ground.finish().await;
}
