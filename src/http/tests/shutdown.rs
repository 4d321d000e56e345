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
    timeout(PATIENCE, stop(&rig.lifecycle, Instant::now() + PATIENCE * 2, ready(())))
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
    timeout(PATIENCE, stop(&rig.lifecycle, began + grace, ready(()))).await.expect("a bounded stop");
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
    timeout(PATIENCE, stop(&rig.lifecycle, Instant::now(), ready(()))).await.expect("a bounded stop");
    assert_eq!(rig.metrics.connections.get(), 0);
}
