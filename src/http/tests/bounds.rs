//! Every size and every wait has an end.

use std::time::Instant;

use super::*;

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn b01_connections_that_do_not_finish_a_head_are_closed_whatever_they_sent() {
    let rig = Rig::start(|config| config.header_read_timeout = SHORT).await;
    for said in ["", "G", "PRI * HTTP/2.0\r\n", "GET /hello HTTP/1.1\r\nhost: localhost\r\n"] {
        let began = Instant::now();
        let mut stream = rig.connect().await;
        stream.write_all(said.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.text.is_empty() || answer.status() >= 400, "{said:?} was answered {:?}", answer.text);
        assert!(began.elapsed() < PATIENCE, "{said:?}");
    }
}

#[tokio::test]
async fn b01_an_idle_connection_is_closed_after_its_last_reply() {
    let rig = Rig::start(|config| config.header_read_timeout = SHORT).await;
    let mut stream = rig.connect().await;
    for _ in 0..2 {
        stream.write_all(b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        until(&mut stream, "\"hello\"").await;
    }
    assert_eq!(rest(&mut stream).await.text, "");
}

#[tokio::test]
async fn b03_a_body_that_stops_coming_is_answered_408() {
    let rig = Rig::start(|config| config.body_progress_timeout = SHORT).await;
    let head = "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    let answer = rig.send(head).await;
    assert_eq!((answer.status(), answer.header("connection")), (408, Some("close")));
    assert_eq!(answer.code(), "deadline_exceeded");
}

#[tokio::test]
async fn b03_a_body_that_trickles_is_answered_408_when_its_whole_time_is_over() {
    let rig = Rig::start(|config| config.body_timeout = SHORT).await;
    let mut stream = rig.connect().await;
    let head = "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let trickle = async {
        let mut tick = tokio::time::interval(SHORT / 10);
        loop {
            tick.tick().await;
            if writing.write_all(b" ").await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut bytes = [0; 512];
    let count = tokio::select! {
        () = trickle => unreachable!(),
        count = timeout(PATIENCE, reading.read(&mut bytes)) => count.unwrap().unwrap(),
    };
    assert!(bytes[..count].starts_with(b"HTTP/1.1 408 "));
}

#[tokio::test]
async fn b03_a_peer_that_accepts_no_bytes_loses_its_connection_and_its_place() {
    let mut rig = Rig::start(|config| config.write_stall_timeout = SHORT).await;
    let mut stream = rig.connect().await;
    stream.write_all(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    timeout(PATIENCE, rig.dropped.recv()).await.expect("the body should have been dropped");
    rig.lifecycle.draining.cancel();
    rig.lifecycle.tasks.close();
    timeout(PATIENCE, rig.lifecycle.tasks.wait()).await.expect("the connection should have ended");
    assert_eq!((rig.metrics.in_flight(), rig.metrics.connections.get()), (0, 0));
}

#[tokio::test]
async fn b04_heads_that_are_too_large_are_refused_and_the_refusal_can_be_read() {
    let rig = Rig::start(|_| {}).await;
    let large = format!("GET /hello HTTP/1.1\r\nhost: localhost\r\nx-pad: {}\r\n\r\n", "x".repeat(200 << 10));
    assert_eq!(rig.send(large).await.status(), 431);
    let many = format!("GET /hello HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "a: b\r\n".repeat(120));
    assert_eq!(rig.send(many).await.status(), 431);
    let long = rig.ask(&format!("GET /hello?{}", "x".repeat(9 << 10)), &[], "").await;
    assert_eq!((long.status(), long.code().as_str()), (414, "invalid_request"));
}

#[tokio::test]
async fn b04_a_body_announced_too_large_is_refused_before_a_byte_of_it_is_asked_for() {
    let rig = Rig::start(|_| {}).await;
    let head = "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nexpect: 100-continue\r\n\
                content-length: 10737418240\r\n\r\n";
    let mut stream = rig.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let text = until(&mut stream, "\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
    assert!(text.to_ascii_lowercase().contains("connection: close"));
}

#[tokio::test]
async fn b04_a_chunked_body_is_counted_and_its_sender_reads_the_answer_rather_than_a_reset() {
    let rig = Rig::start(|_| {}).await;
    let mut stream = rig.connect().await;
    let head = "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "[".repeat(0x10000));
    for _ in 0..100 {
        stream.write_all(chunk.as_bytes()).await.expect("the server should go on reading");
    }
    stream.shutdown().await.unwrap();
    let answer = rest(&mut stream).await;
    assert_eq!((answer.status(), answer.code().as_str()), (413, "invalid_request"));
}

/// Begins a body of `length` with `piece`, and returns once the service waits for the rest of it.
async fn begin_body(rig: &Rig, length: usize, piece: &str) -> TcpStream {
    let mut stream = rig.connect().await;
    let head = format!(
        "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nexpect: 100-continue\r\n\
         content-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    until(&mut stream, "100 Continue").await;
    stream.write_all(piece.as_bytes()).await.unwrap();
    stream
}

fn object(length: usize) -> String {
    format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8))
}

#[tokio::test]
async fn b04_all_bodies_together_have_a_budget_which_keeps_nobody_from_signing_in() {
    let rig = Rig::start(|config| config.body_budget_bytes = 100).await;
    assert_eq!(rig.ask("POST /echo", &[], &object(100)).await.status(), 200);
    let mut held = begin_body(&rig, 60, "{").await;
    // The first byte takes for all that may come with it; it is on its way.
    let refused = loop {
        let answer = rig.ask("POST /echo", &[], &object(60)).await;
        if answer.status() != 200 {
            break answer;
        }
    };
    assert_eq!((refused.status(), refused.code().as_str()), (503, "overloaded"));
    assert_eq!(rig.ask("POST /log-in", &[], &object(90)).await.status(), 200);
    held.write_all(&object(60).as_bytes()[1..]).await.unwrap();
    until(&mut held, "200 OK").await;
    assert_eq!(rig.ask("POST /echo", &[], &object(100)).await.status(), 200);
}

#[tokio::test]
async fn b04_a_body_takes_memory_as_it_arrives_and_not_for_being_announced() {
    let rig = Rig::start(|config| {
        config.max_request_bytes = 1 << 20;
        config.body_budget_bytes = 1 << 20;
    })
    .await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(begin_body(&rig, 1 << 20, "").await);
    }
    assert_eq!(rig.ask("POST /echo", &[], &object(512 << 10)).await.status(), 200);
}

#[tokio::test]
async fn b04_b05_bodies_that_are_encoded_mistyped_deep_or_broken_are_refused() {
    let rig = Rig::start(|_| {}).await;
    assert_eq!(rig.ask("POST /echo", &["content-encoding: gzip"], "{}").await.status(), 415);
    assert_eq!(rig.ask("POST /echo", &["content-type: text/plain"], "{}").await.status(), 415);
    assert_eq!(rig.ask("POST /echo", &[], &"{\"a\":".repeat(65)).await.status(), 400);
    assert_eq!(rig.ask("POST /echo", &[], "{\"a\":}").await.status(), 400);
    assert_eq!(rig.send(b"POST /echo HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 7\r\n\r\n{\"\xff\":1}").await.status(), 400);
    assert_eq!(rig.ask("POST /echo", &[], " \n{\"a\":[1]}").await.json()["echo"], json!({"a": [1]}));
}

#[tokio::test]
async fn b05_a_body_is_an_object_and_not_a_list_of_its_fields() {
    let rig = Rig::start(|_| {}).await;
    for body in ["[\"ada@example.org\",\"seven quiet herons\"]", " [{}]", "1", "null"] {
        for path in ["/echo", "/log-in"] {
            let answer = rig.ask(&format!("POST {path}"), &[], body).await;
            assert_eq!((answer.status(), answer.code().as_str()), (400, "invalid_request"), "{body}");
        }
    }
}

#[tokio::test]
async fn b08_a_connection_above_the_cap_is_told_so() {
    let rig = Rig::start(|config| config.max_connections = 1).await;
    let mut first = rig.connect().await;
    first.write_all(b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    until(&mut first, "\"hello\"").await;
    let refused = rig.send("").await;
    assert_eq!((refused.status(), refused.code().as_str()), (503, "overloaded"));
    assert!(refused.header("retry-after").is_some());
}

#[tokio::test]
async fn b17_a_client_that_hangs_up_ends_its_handler_and_frees_its_place() {
    let mut rig = Rig::start(|_| {}).await;
    let mut stream = rig.connect().await;
    stream.write_all(b"GET /never HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    // The handler holds the tell only once it runs; the address bucket is asked just before.
    while rig.script.asked.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.metrics.in_flight(), 1);
    drop(stream);
    timeout(PATIENCE, rig.dropped.recv()).await.expect("the handler should have been dropped");
}
