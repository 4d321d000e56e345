//! How a listener ends (D7).

use std::future::ready;

use tokio::time::Instant;

use super::*;
use crate::http::server::stop;

#[tokio::test]
async fn d07_idle_connections_close_at_once_and_nothing_more_is_accepted() {
    let rig = Rig::start(|_| {}).await;
    let mut idle = rig.connect().await;
    idle.write_all(b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    until(&mut idle, "\"hello\"").await;
    let fresh = rig.connect().await;
    // The fresh connection was accepted once the server counts it.
    while rig.metrics.connections.get() < 2 {
        tokio::task::yield_now().await;
    }
    timeout(PATIENCE, stop(&rig.lifecycle, Instant::now() + PATIENCE * 2, ready(()), ready(())))
        .await
        .expect("nothing to wait for");
    assert_eq!(rest(&mut idle).await.text, "");
    drop(fresh);
    assert!(TcpStream::connect(rig.addr).await.is_err());
}

#[tokio::test]
async fn d07_what_still_runs_after_the_grace_is_told_why_it_ends() {
    let rig = Rig::start(|_| {}).await;
    let mut busy = rig.connect().await;
    busy.write_all(b"GET /never HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    while rig.script.asked.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    let grace = Duration::from_millis(200);
    timeout(PATIENCE, stop(&rig.lifecycle, began + grace, ready(()), ready(())))
        .await
        .expect("a bounded stop");
    assert!(began.elapsed() >= grace);
    let answer = rest(&mut busy).await;
    assert_eq!((answer.status(), answer.code().as_str()), (503, "server_shutting_down"));
    assert_eq!(rig.metrics.in_flight(), 0);
}

#[tokio::test]
async fn d07_a_connection_that_does_not_listen_cannot_hold_up_the_end() {
    let rig = Rig::start(|_| {}).await;
    let mut deaf = rig.connect().await;
    deaf.write_all(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    until(&mut deaf, "xxxx").await;
    timeout(PATIENCE, stop(&rig.lifecycle, Instant::now(), ready(()), ready(())))
        .await
        .expect("a bounded stop");
    assert_eq!(rig.metrics.connections.get(), 0);
}

/// A request and its reply, on a connection that stays open unless the reply says otherwise.
async fn hello(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    until(stream, "\"hello\"").await
}

#[tokio::test]
async fn d07_from_the_signal_on_every_reply_is_its_connections_last() {
    let rig = Rig::start(|_| {}).await;
    let mut idle = rig.connect().await;
    assert!(!hello(&mut idle).await.contains("connection: close"));
    rig.lifecycle.closing.cancel();
    // Still accepting: a new connection is served, and told the same.
    for stream in [&mut idle, &mut rig.connect().await] {
        assert!(hello(stream).await.contains("connection: close\r\n"));
        assert_eq!(rest(stream).await.text, "");
    }
}

#[tokio::test]
async fn d07_a_connection_whose_reply_began_before_the_signal_ends_with_it() {
    let mut rig = Rig::start(|_| {}).await;
    let mut busy = rig.connect().await;
    busy.write_all(b"GET /thrice HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert!(!until(&mut busy, "xxxx").await.contains("connection: close"));
    rig.lifecycle.closing.cancel();
    let text = rest(&mut busy).await.text;
    assert!(text.ends_with("0\r\n\r\n"), "ends whole: {text:?}");
    assert_eq!(timeout(PATIENCE, rig.dropped.recv()).await.unwrap(), Some(()));
}

#[tokio::test]
async fn d07_whoever_has_connected_when_accepting_stops_is_served() {
    use std::io::Write as _;
    let rig = Rig::start(|_| {}).await;
    // While this blocks, nobody accepts: the kernel connects them, and keeps what they say.
    let connected: Vec<_> = (0..40)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(rig.addr).unwrap();
            stream.write_all(b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
            stream.set_nonblocking(true).unwrap();
            TcpStream::from_std(stream).unwrap()
        })
        .collect();
    let served = async {
        for mut stream in connected {
            let answer = rest(&mut stream).await;
            assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
        }
    };
    let stopped = stop(&rig.lifecycle, Instant::now() + PATIENCE * 2, ready(()), ready(()));
    timeout(PATIENCE, async { tokio::join!(stopped, served) }).await.expect("nothing to wait for");
    assert!(TcpStream::connect(rig.addr).await.is_err());
}

#[tokio::test]
async fn d07_a_stop_waits_for_work_that_no_client_watches_and_ends_it_after_the_grace() {
    let rig = Rig::start(|_| {}).await;
    let (began, grace) = (Instant::now(), Duration::from_millis(100));
    let ended = std::cell::Cell::new(false);
    let end_work = async { ended.set(true) };
    timeout(PATIENCE, stop(&rig.lifecycle, began + grace, std::future::pending(), end_work)).await.unwrap();
    assert!(began.elapsed() >= grace && ended.get());
}
