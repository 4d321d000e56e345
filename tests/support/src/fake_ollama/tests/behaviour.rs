//! What the server does and counts.

use std::time::Instant;

use super::*;

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let fake = fake().await;
    let mut stream = TcpStream::connect(fake.addr()).await.unwrap();
    for served in 1..=3 {
        ask(&mut stream, "/api/version", &Value::Null, "").await;
        let mut buffer = vec![0; 1024];
        let length = stream.read(&mut buffer).await.unwrap();
        assert!(String::from_utf8_lossy(&buffer[..length]).ends_with(r#"{"version":"0.32.15"}"#));
        assert_eq!((fake.control().counters().requests, fake.control().counters().connections), (served, 1));
    }
    fake.control().close_idle_connections();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn the_catalogue_lists_shows_and_lies_on_demand() {
    let fake = fake().await;
    let tags =
        async || serde_json::from_slice::<Value>(&reply(&fake, "/api/tags", &Value::Null).await.1).unwrap();
    let listed = tags().await;
    assert_eq!(listed["models"][0]["name"], "qwen3:8b");
    assert_eq!(listed["models"][0]["digest"].as_str().unwrap().len(), 64);
    fake.control().change_model("qwen3:8b", |model| {
        model.details.families = None;
        model.capabilities = None;
    });
    let listed = tags().await;
    assert!(listed["models"][0]["details"]["families"].is_null());
    assert!(listed["models"][0].get("capabilities").is_none());
    let (_, shown) = reply(&fake, "/api/show", &json!({ "model": "qwen3:8b" })).await;
    let shown = String::from_utf8(shown).unwrap();
    assert!(
        shown.contains(r#""qwen3.context_length":40960"#) && shown.contains("\\u003c|im_end|\\u003e"),
        "{shown}"
    );
    fake.control().set_tags(Listing::Fails(500));
    assert!(reply(&fake, "/api/tags", &Value::Null).await.0.starts_with("HTTP/1.1 500"));
    fake.control().set_tags(Listing::Normal);
    fake.control().remove_model("qwen3:8b");
    assert_eq!(tags().await, json!({ "models": [] }));
}

#[tokio::test]
async fn every_scenario_that_ends_keeps_the_books_straight() {
    let fake = FakeOllama::start(Config::with(Model::every_scenario())).await.unwrap();
    let endless = ["slow-headers", "stall", "stall-headers", "endless-line", "tools-silence", "half-lines"];
    for (name, _) in Scenario::CATALOGUE.iter().filter(|(name, _)| !endless.contains(name)) {
        let answered = tokio::time::timeout(SOON, raw_chat(&fake, &format!("fake-{name}"))).await;
        assert!(answered.unwrap().0.starts_with("HTTP/1."), "{name}");
    }
    let counters = fake.control().counters();
    assert_eq!((counters.in_flight, counters.running, counters.cancellations), (0, 0, 0));
}

#[tokio::test]
async fn a_peer_that_leaves_is_noticed_at_once_wherever_it_waits() {
    let model = Model::new("slow").parallel(1).tokens_per_s(1.0);
    let fake = FakeOllama::start(Config::with([model])).await.unwrap();
    let control = fake.control();
    let mut sent = 0;
    for (index, (model, tokens)) in
        [("fake-stall", 3), ("fake-stall-headers", 0), ("slow", 1)].into_iter().enumerate()
    {
        let stream = send(&fake, "/api/chat", &chat(model), "").await;
        sent += tokens;
        control.wait_until(|now| now.running == 1 && now.tokens == sent, SOON).await.unwrap();
        let left_at = Instant::now();
        drop(stream);
        let counters = control.wait_until(|now| now.cancelled.len() > index, SOON).await.unwrap();
        let cancelled = &counters.cancelled[index];
        assert!(cancelled.at.duration_since(left_at) < Duration::from_millis(100), "{model}");
        assert!(cancelled.model.starts_with(model) && cancelled.token_index == tokens, "{cancelled:?}");
        assert_eq!((counters.in_flight, counters.running), (0, 0));
    }
}

#[tokio::test]
async fn slots_are_kept_and_the_rest_wait_in_line() {
    let model = Model::new("m").parallel(2).tokens(3).tokens_per_s(200.0);
    let fake = FakeOllama::start(Config::with([model])).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..6 {
        waiting.push(send(&fake, "/api/chat", &chat("m"), "Connection: close\r\n").await);
    }
    fake.control().wait_until(|now| now.in_flight >= 4 && now.running == 2, SOON).await.unwrap();
    for stream in waiting {
        read_all(stream).await;
    }
    let counters = fake.control().counters();
    assert_eq!(
        (counters.max_running, counters.models["m:latest"].max_running, counters.in_flight),
        (2, 2, 0)
    );
    assert!(counters.max_in_flight > 2);
}

#[tokio::test]
async fn loads_are_serial_and_belong_to_the_first_waiter() {
    let load = Duration::from_millis(80);
    let models = [Model::new("a").load(load), Model::new("b").load(load)];
    let fake = FakeOllama::start(Config { max_queue: 3, ..Config::with(models) }).await.unwrap();
    let begun = Instant::now();
    let owner = send(&fake, "/api/chat", &chat("a"), "").await;
    fake.control().wait_until(|now| now.in_flight == 1, SOON).await.unwrap();
    let second = send(&fake, "/api/chat", &chat("a"), "Connection: close\r\n").await;
    fake.control().wait_until(|now| now.in_flight == 2, SOON).await.unwrap();
    let other = send(&fake, "/api/chat", &chat("b"), "Connection: close\r\n").await;
    fake.control().wait_until(|now| now.in_flight == 3, SOON).await.unwrap();
    let (refused, _) = raw_chat(&fake, "b").await;
    assert!(
        refused.starts_with("HTTP/1.1 503") && refused.contains("try again.  maximum pending"),
        "{refused}"
    );
    drop(owner);
    assert!(read_all(second).await.0.starts_with(b"HTTP/1.1 200"));
    assert!(read_all(other).await.0.starts_with(b"HTTP/1.1 200"));
    assert!(begun.elapsed() >= load * 2, "the lost load began anew, and b waited for a");
    let counters = fake.control().counters();
    assert_eq!((counters.loads, counters.cancellations, counters.busy), (2, 1, 1));
}

#[tokio::test]
async fn other_runner_options_reload_and_keep_alive_0_unloads() {
    let fake = fake().await;
    let with = |num_ctx: u32| {
        let mut body = chat("qwen3:8b");
        body["options"] = json!({ "num_ctx": num_ctx });
        body
    };
    for num_ctx in [4096, 4096, 8192] {
        reply(&fake, "/api/chat", &with(num_ctx)).await;
    }
    let counters = fake.control().counters();
    assert_eq!((counters.loads, counters.unloads, counters.max_loaded), (2, 1, 1));
    let (_, line) = reply(&fake, "/api/generate", &json!({ "model": "qwen3:8b", "keep_alive": 0 })).await;
    assert_eq!(serde_json::from_slice::<Value>(&line).unwrap()["done_reason"], "unload");
    assert!(fake.control().loaded().is_empty());
    let (_, line) = reply(&fake, "/api/generate", &json!({ "model": "qwen3:8b", "stream": false })).await;
    assert_eq!(serde_json::from_slice::<Value>(&line).unwrap()["done_reason"], "load");
    assert_eq!(fake.control().loaded(), ["qwen3:8b"]);
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_measured() {
    let fake = FakeOllama::start(Config::with([Model::new("m").tokens(200_000)])).await.unwrap();
    let stream = send(&fake, "/api/chat", &chat("m"), "").await;
    let control = fake.control();
    control.wait_until(|now| now.tokens > 1_000, SOON).await.unwrap();
    // Until the kernel's buffers are full, which takes as long as the machine is busy; a block is told when it is over.
    let mut before = 0;
    while control.counters().tokens != before {
        before = control.counters().tokens;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    drop(stream);
    let counters = control.wait_until(|now| now.cancellations == 1, SOON).await.unwrap();
    assert!(counters.longest_write_block_ms >= 50, "{counters:?}");
}

#[tokio::test]
async fn a_frozen_server_accepts_and_says_nothing_until_it_thaws() {
    let fake = fake().await;
    fake.control().freeze();
    let mut stream = send(&fake, "/api/version", &Value::Null, "").await;
    fake.control().wait_until(|now| now.requests == 1, SOON).await.unwrap();
    let mut byte = [0];
    assert!(tokio::time::timeout(Duration::from_millis(50), stream.read(&mut byte)).await.is_err());
    fake.control().unfreeze();
    assert_eq!(stream.read(&mut byte).await.unwrap(), 1);
}

#[tokio::test]
async fn a_closed_server_refuses_and_comes_back_on_its_port() {
    let fake = fake().await;
    let mut stalled = send(&fake, "/api/chat", &chat("fake-stall-headers"), "").await;
    fake.control().wait_until(|now| now.running == 1, SOON).await.unwrap();
    fake.control().close().await;
    assert_eq!(stalled.read(&mut [0]).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(fake.addr()).await.is_err());
    fake.control().accept_and_close().await.unwrap();
    assert_eq!(TcpStream::connect(fake.addr()).await.unwrap().read(&mut [0]).await.unwrap_or(0), 0);
    fake.control().reopen().await.unwrap();
    let (head, _) = reply(&fake, "/api/version", &Value::Null).await;
    assert!(head.starts_with("HTTP/1.1 200"));
    assert_eq!(fake.control().counters().cancellations, 0, "the server left, not the peer");
}

#[tokio::test]
async fn requests_are_kept_as_they_came() {
    let fake = fake().await;
    let body = json!({ "model": "qwen3:8b", "prompt": "hi" });
    read_all(send(&fake, "/api/generate?x=1", &body, "X-Odd: yes\r\nConnection: close\r\n").await).await;
    let request = fake.control().requests().pop().unwrap();
    assert_eq!(
        (request.method.as_str(), request.path.as_str(), request.query.as_deref()),
        ("POST", "/api/generate", Some("x=1"))
    );
    assert_eq!((request.header("x-odd"), request.json()), (Some("yes"), body));
}
