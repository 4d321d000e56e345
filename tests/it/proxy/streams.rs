//! Event streams through nginx: as fast as the model, and many of them (B16).

use std::{
    io::Read as _,
    net::Ipv4Addr,
    process::{Command, Stdio},
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::json;
use support::{
    clock,
    fake_ollama::{Model, Scenario},
    stats::Spread,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::spawn_blocking,
    time::timeout,
};

use super::{CLIENT, Ground};
use crate::{
    harness::{Call, MODEL, Options, PATIENCE, Session, Store, connect},
    turn::{Streamed, prompt, unstored},
};

/// Streams whose first byte is timed on each way, one after the other.
const TIMED: usize = 11;
/// From the model's first token to the client's.
const FIRST_BYTE: f64 = 0.100;

/// How long ago a stamped token was made.
fn age(content: &str) -> f64 {
    let stamp = content.trim().strip_prefix("t=").and_then(|text| text.split(' ').next()).unwrap();
    let made = Duration::from_nanos(stamp.parse().unwrap());
    clock::now().saturating_sub(made).as_secs_f64()
}

/// The age of the first token as curl gets it: over TLS and HTTP/2.
fn age_at_curl(mut command: Command) -> f64 {
    let mut curl = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = curl.stdout.take().unwrap();
    let (mut seen, mut buffer) = (String::new(), [0; 4096]);
    let age = loop {
        let read = out.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "curl ended: {seen}");
        seen.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        if let Some(content) = seen.split("\"content\":\"").nth(1)
            && content.contains('"')
        {
            break age(content);
        }
    };
    out.read_to_end(&mut Vec::new()).unwrap();
    assert!(curl.wait().unwrap().success());
    age
}

fn stamped(ground: &Ground, session: &Session) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--no-buffer", "--http2", "--cacert"]).arg(ground.proxy.authority());
    command.args(["--header", &format!("Authorization: Bearer {}", session.access)]);
    command.args(["--header", "Content-Type: application/json", "--data"]);
    command.arg(unstored(MODEL, "when").to_string());
    command.arg(format!("https://{}/v1/chat/stream", ground.proxy.tls_addr()));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn b16_the_first_byte_is_at_the_client_within_100_ms_of_the_models() {
    // The next token comes so much later that a buffered first one would be seen.
    let model = Model::new(MODEL).parallel(4).tokens(3).tokens_per_s(4.0).stamp_tokens(true);
    let ground = Ground::lay(Options::on(Store::Postgres).models([model])).await;
    let ada = ground.app.sign_up_and_in("ada@example.org").await;
    let (mut plain, mut tls) = (Vec::new(), Vec::new());
    for _ in 0..TIMED.div_ceil(4) {
        let plainly = join_all((0..2).map(async |_| {
            let call =
                ground.call("POST", "/v1/chat/stream").bearer(&ada.access).json(&unstored(MODEL, "when"));
            let mut stream = Streamed::new(call.open().await.expect_status(200));
            let first = stream.until("chunk").await;
            let age = age(first.data["content"].as_str().unwrap());
            assert_eq!(stream.last().await.event, "done");
            age
        }));
        let by_curl = join_all((0..2).map(async |_| {
            let command = stamped(&ground, &ada);
            spawn_blocking(move || age_at_curl(command)).await.unwrap()
        }));
        let (ones, others) = tokio::join!(plainly, by_curl);
        plain.extend(ones);
        tls.extend(others);
    }
    for (way, ages) in [("HTTP/1", plain), ("HTTP/2 over TLS", tls)] {
        let spread = Spread::of(ages);
        println!("first byte over {way}: {spread:?}");
        assert!(spread.median < FIRST_BYTE, "{way}: {spread:?}");
    }
    ground.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b16_a_stream_that_was_cut_goes_on_as_it_comes() {
    let model = Model::new(MODEL).parallel(4).tokens(80).tokens_per_s(20.0);
    let ground = Ground::lay(Options::on(Store::Postgres).models([model])).await;
    let ada = ground.app.sign_up_and_in("ada@example.org").await;
    let mut body = prompt(MODEL, "a long story");
    body["on_disconnect"] = json!("continue");
    let call = ground.call("POST", "/v1/chat/stream").bearer(&ada.access).json(&body);
    let mut cut = Streamed::new(call.open().await.expect_status(200));
    cut.until("chunk").await;
    let path = format!("/v1/turns/{}/stream", cut.turn_id().as_str().unwrap());
    let position = cut.position().to_owned();
    drop(cut);
    // nginx asks the instances in turn, and one of them has the answer in memory.
    let mut on = None;
    while on.is_none() {
        let call = ground.call("GET", &path).bearer(&ada.access).header("last-event-id", &position);
        on = Some(call.open().await).filter(|opened| opened.status == 200);
    }
    let mut on = Streamed::new(on.unwrap());
    on.until("chunk").await;
    assert_eq!(ground.app.ollama.control().counters().running, 1, "it came while the rest was being made");
    assert_eq!(on.last().await.event, "done");
    ground.finish().await;
}

/// Streams held open, from networks of so many each: what nginx lets one have.
const IDLE: usize = 1_000;
const PER_NETWORK: usize = 250;
/// Streams that begin at once: to begin a thousand is another test's subject.
const AT_ONCE: usize = 50;
/// What nginx may keep for each, and at most for all.
const PER_STREAM_BYTES: u64 = 48 << 10;
/// What a stream says while its model says nothing.
const HEARTBEAT: Duration = Duration::from_secs(2);

struct Idle {
    socket: TcpStream,
    read: Vec<u8>,
}

impl Idle {
    /// Asks for a stream, and returns when it has said something.
    async fn open(ground: &Ground, session: &Session, number: usize) -> Self {
        let network = Ipv4Addr::from_bits(CLIENT.to_bits() + u32::try_from(number / PER_NETWORK).unwrap());
        let mut socket = connect(network, ground.addr()).await;
        let (body, token) = (unstored(MODEL, "wait").to_string(), &session.access);
        let head = format!(
            "POST /v1/chat/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        socket.write_all((head + &body).as_bytes()).await.unwrap();
        let mut idle = Self { socket, read: Vec::new() };
        idle.until("event: chunk").await;
        idle
    }

    /// Reads on until `text` has come.
    async fn until(&mut self, text: &str) {
        let is_there = |read: &[u8]| read.windows(text.len()).any(|part| part == text.as_bytes());
        while !is_there(&self.read) {
            let read = timeout(PATIENCE, self.socket.read_buf(&mut self.read)).await;
            let read = read
                .unwrap_or_else(|_| panic!("no {text:?} in {:?}", String::from_utf8_lossy(&self.read)))
                .unwrap();
            assert_ne!(read, 0, "it ended: {}", String::from_utf8_lossy(&self.read));
        }
        self.read.clear();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b16_a_thousand_idle_streams_live_and_end_with_their_clients_and_cost_little() {
    // Each is four descriptors of this process.
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let model = Model::new(MODEL).parallel(2 * IDLE).scenario(Scenario::Stall { after: 1 });
    let options = Options::on(Store::Postgres)
        .models([model])
        .set("OLLAMA_NUM_PARALLEL", 1_024)
        .set("MODEL_QUEUE_PER_USER", 1_000)
        .set("MODEL_QUEUE_LIMIT", 1_000)
        .tune(|config| config.http.heartbeat = HEARTBEAT);
    let ground = Ground::lay(options).await;
    let ada = ground.app.sign_up_and_in("ada@example.org").await;
    ground.call("GET", "/healthz").send().await.expect_status(200);
    let before = ground.proxy_bytes();

    let mut streams = Vec::new();
    for first in (0..IDLE).step_by(AT_ONCE) {
        let opening = (first..first + AT_ONCE).map(|number| Idle::open(&ground, &ada, number));
        streams.extend(join_all(opening).await);
    }
    let fake = ground.app.ollama.control();
    fake.wait_until(|now| now.in_flight == IDLE as u64, PATIENCE).await.unwrap();
    let grown = ground.proxy_bytes().saturating_sub(before);
    println!("{IDLE} idle streams cost nginx {} bytes each", grown / IDLE as u64);
    assert!(grown < PER_STREAM_BYTES * IDLE as u64, "nginx grew by {grown} bytes");

    // A network that has as many as it may is told so, and the others are not touched.
    let surplus = PER_NETWORK / 20;
    let full = || {
        let body = unstored(MODEL, "one more");
        Call::new(ground.addr(), "POST", "/v1/chat/stream")
            .bearer(&ada.access)
            .json(&body)
            .over(CLIENT)
            .open()
    };
    let mut refused = 0;
    let mut more = Vec::new();
    for _ in 0..surplus {
        let opened = full().await;
        match opened.status {
            200 => more.push(opened),
            _ => {
                opened.whole().await.expect_error(429, "rate_limited");
                refused += 1;
            }
        }
    }
    assert_eq!(more.len(), 256 - PER_NETWORK, "{refused} were refused");
    join_all(streams.iter_mut().map(|stream| stream.until("\n:"))).await;

    drop((streams, more));
    fake.wait_until(|now| now.in_flight == 0, PATIENCE).await.unwrap();
    assert_eq!(fake.counters().models[MODEL].in_flight, 0);
    assert!(ground.app.metrics().await.contains("deepersensor_http_panics_total 0"));
    ground.finish().await;
}
