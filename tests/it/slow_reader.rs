//! Clients that read slowly, or not at all: nobody but them pays.

use std::time::Duration;

use serde_json::{Value, json};
use support::fake_ollama::{Counters, Model, Scenario};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{Instant, interval, timeout},
};

use crate::{
    harness::{MODEL, PATIENCE, Session, Store, TestApp, until},
    turn::{answer, prompt, service, service_with, unstored},
};

const OTHER: &str = "llama3.2:latest";

/// Small, so that the reader's own kernel takes little off it, and not so small that catching up takes minutes.
const RECEIVE_BUFFER_BYTES: u32 = 32 << 10;

/// A stream asked for on a socket whose reading is up to the test.
async fn slow_stream(app: &TestApp, session: &Session, body: &Value) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).unwrap();
    let mut stream = socket.connect(app.addr()).await.unwrap();
    let (body, token) = (body.to_string(), &session.access);
    let head = format!(
        "POST /v1/chat/stream HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    stream
}

/// The events in the bytes of a chunked reply.
fn events(bytes: &[u8]) -> Vec<(String, Value)> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let (mut rest, mut body) = (&bytes[head..], Vec::new());
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 2 + size + 2..];
    }
    let text = String::from_utf8(body).unwrap();
    let frame = |frame: &str| {
        let field = |name: &str| frame.lines().find_map(|line| Some(line.strip_prefix(name)?.to_owned()));
        Some((field("event: ")?, serde_json::from_str(&field("data: ")?).unwrap()))
    };
    text.split_terminator("\n\n").filter_map(frame).collect()
}

/// Whether [`MODEL`] makes an answer.
fn is_running(counters: &Counters) -> bool {
    counters.models.get(MODEL).is_some_and(|model| model.running > 0)
}

fn text(events: &[(String, Value)]) -> String {
    let chunks = events.iter().filter(|(event, _)| event == "chunk");
    chunks.filter_map(|(_, data)| data["content"].as_str()).collect()
}

#[tokio::test]
async fn a_reader_of_a_kilobyte_a_second_slows_neither_the_model_nor_anybody_else() {
    const TOKENS: u64 = 40_000;
    let fast = |name| Model::new(name).tokens(TOKENS).tokens_per_s(20_000.0).batch_lines(20);
    let app = service(Store::Sqlite, [MODEL, OTHER].map(fast)).await;
    let (ada, bob) =
        (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("bob@example.org").await);
    app.ollama.control().change_model(OTHER, |model| model.tokens = 200);
    let began = Instant::now();
    let mut slow = slow_stream(&app, &ada, &prompt(MODEL, "a long story")).await;
    let mut got = Vec::new();
    let reads = async {
        let mut pace = interval(Duration::from_secs(1));
        loop {
            pace.tick().await;
            let mut sip = [0; 1 << 10];
            let read = slow.read(&mut sip).await.unwrap();
            got.extend_from_slice(&sip[..read]);
        }
    };
    let others = async {
        let fake = app.ollama.control();
        fake.wait_until(is_running, PATIENCE).await.unwrap();
        let mut neighbour = app.ask(&bob, &unstored(OTHER, "a short one")).await;
        assert_eq!(neighbour.last().await.event, "done");
        assert!(is_running(&fake.counters()), "the neighbour did not wait for the slow one");
        fake.wait_until(|counters| !is_running(counters), PATIENCE).await.unwrap();
    };
    tokio::select! {
        () = reads => {}
        () = others => {}
    }
    assert!(began.elapsed() < PATIENCE / 2, "two seconds of answer took {:?}", began.elapsed());
    assert!(got.len() < 20 << 10, "the reader was slow");
    let counters = app.ollama.control().counters();
    assert_eq!(counters.write_blocked_ms, 0, "{counters:#?}");

    // What it has not read yet is still there for it, in order and whole.
    timeout(PATIENCE, slow.read_to_end(&mut got)).await.unwrap().unwrap();
    let events = events(&got);
    assert_eq!(text(&events), answer("a long story", TOKENS));
    assert_eq!(events.last().unwrap().0, "done");
    app.finish().await;
}

#[tokio::test]
async fn an_answer_beyond_its_bound_is_ended_with_its_text_kept() {
    const BYTES_MAX: usize = 16 << 10;
    let endless = Model::new(MODEL).tokens(10_000_000).tokens_per_s(20_000.0).batch_lines(20);
    let app = service_with(Store::Sqlite, [endless], |config| {
        config.system.model.reply_bytes_max = BYTES_MAX;
    })
    .await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    // Nobody reads it: the bound is on what is kept for readers, not on what they took.
    let mut unread = slow_stream(&app, &ada, &prompt(MODEL, "for ever")).await;
    app.ollama.control().wait_until(|counters| counters.cancellations == 1, PATIENCE).await.unwrap();
    let mut got = Vec::new();
    timeout(PATIENCE, unread.read_to_end(&mut got)).await.unwrap().unwrap();
    let events = events(&got);
    let (event, data) = events.last().unwrap();
    assert_eq!([event.as_str(), data["error"]["code"].as_str().unwrap()], ["error", "reply_too_large"]);
    let said = text(&events);
    assert!(said.len() <= BYTES_MAX && said.len() > BYTES_MAX - (4 << 10), "{} bytes", said.len());
    assert!(answer("for ever", 10_000).starts_with(&said));
    let conversation = app.only_conversation(&ada).await;
    let kept = app.settled(&ada, &conversation).await;
    assert_eq!([&kept["status"], &kept["content"]], [&json!("failed"), &json!(said)]);
    assert_eq!(app.ollama.control().counters().write_blocked_ms, 0);
    app.finish().await;
}

#[tokio::test]
async fn a_reader_that_accepts_no_byte_is_dropped_after_the_write_timeout() {
    const STALL: Duration = Duration::from_millis(500);
    // More than the kernel takes for a peer that does not read.
    const BYTES: usize = 8 << 20;
    let model = Model::new(MODEL).scenario(Scenario::HugeLine { bytes: BYTES });
    let app = service_with(Store::Sqlite, [model], |config| {
        config.http.write_stall_timeout = STALL;
        config.system.model.reply_bytes_max = 2 * BYTES;
    })
    .await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let mut silent = slow_stream(&app, &ada, &prompt(MODEL, "not listening")).await;
    until("the answer to be made", async || app.ollama.control().counters().tokens == 1).await;
    let made = Instant::now();
    app.quiet().await;
    let took = made.elapsed();
    assert!(took < PATIENCE / 4, "the connection was kept for {took:?}");

    let mut got = Vec::new();
    // A reset is an end too: what matters is how much came before it.
    let _ = timeout(PATIENCE, silent.read_to_end(&mut got)).await.unwrap();
    assert!(got.len() < BYTES, "{} bytes came", got.len());
    let conversation = app.only_conversation(&ada).await;
    let kept = app.settled(&ada, &conversation).await;
    assert_eq!(kept["content"].as_str().unwrap().len(), BYTES, "the answer itself was complete");
    app.finish().await;
}
