//! What the server says, to the byte.

use super::*;

#[tokio::test]
async fn a_normal_stream_says_the_deterministic_tokens_and_ends_with_metrics() {
    let fake = fake().await;
    let lines = lines(&fake, "QWEN3:8B").await;
    let text: String = lines.iter().map(|line| line["message"]["content"].as_str().unwrap()).collect();
    assert_eq!(text, Tokens::new("hello there", -1).text(32));
    let last = lines.last().unwrap();
    assert_eq!((&last["done"], &last["done_reason"]), (&json!(true), &json!("stop")));
    assert_eq!((&last["eval_count"], &last["prompt_eval_count"]), (&json!(32), &json!(2)));
    assert_eq!(last["model"], "QWEN3:8B", "the request's spelling comes back");
    let counters = fake.control().counters();
    assert_eq!((counters.chat_calls, counters.tokens, counters.in_flight, counters.loads), (1, 32, 0, 1));
}

#[tokio::test]
async fn a_stream_is_framed_as_ollama_frames_it() {
    let fake = fake().await;
    let (text, _) = raw_chat(&fake, "qwen3:8b").await;
    let names: Vec<_> = text.lines().take(5).map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(names, ["HTTP/1.1 200 OK", "Content-Type", "Date", "Transfer-Encoding", "Connection"]);
    assert!(text.contains("Content-Type: application/x-ndjson\r\n"));
    assert!(text.ends_with("}\n\r\n0\r\n\r\n"));
    assert_eq!(chunks(text.split_once("\r\n\r\n").unwrap().1.as_bytes()).len(), 33, "a chunk per line");
}

#[tokio::test]
async fn num_predict_and_seed_shape_the_answer() {
    let fake = fake().await;
    let body = json!({ "model": "qwen3:8b", "prompt": "hi", "stream": false, "options": { "num_predict": 5, "seed": 7 } });
    let (head, reply) = reply(&fake, "/api/generate", &body).await;
    assert!(head.contains("application/json; charset=utf-8") && head.contains("Content-Length"), "{head}");
    let reply: Value = serde_json::from_slice(&reply).unwrap();
    assert_eq!(reply["response"], Tokens::new("hi", 7).text(5));
    assert_eq!((&reply["done_reason"], reply["context"].as_array().unwrap().len()), (&json!("length"), 5));
}

#[tokio::test]
async fn refusals_speak_as_ollama_does() {
    let mut embedding = Model::embedding("nomic-embed-text");
    embedding.tokens = 1;
    let fake = FakeOllama::start(Config::with([Model::new("qwen3:8b"), embedding])).await.unwrap();
    let cases = [
        ("/api/chat", chat("gone"), "404 Not Found", "model 'gone' not found"),
        ("/api/generate", json!({ "prompt": "x" }), "404 Not Found", "model '' not found"),
        (
            "/api/chat",
            chat("nomic-embed-text"),
            "400 Bad Request",
            "\"nomic-embed-text\" does not support chat",
        ),
        (
            "/api/embed",
            json!({ "model": "gone" }),
            "404 Not Found",
            "model \"gone\" not found, try pulling it first",
        ),
        ("/api/show", json!({ "model": "Gone" }), "404 Not Found", "model 'gone:latest' not found"),
        (
            "/api/embed",
            json!({ "model": "nomic-embed-text", "input": [1, 2] }),
            "400 Bad Request",
            "invalid input type",
        ),
    ];
    for (path, body, status, message) in cases {
        let (head, reply) = reply(&fake, path, &body).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {head}");
        assert!(head.contains("Content-Type: application/json\r\n"), "{head}");
        assert_eq!(serde_json::from_slice::<Value>(&reply).unwrap(), json!({ "error": message }));
    }
    let (head, body) = reply(&fake, "/api/chat", &Value::Null).await;
    assert!(head.starts_with("HTTP/1.1 405") && body == b"405 method not allowed");
    let (head, body) = reply(&fake, "/debug", &Value::Null).await;
    assert!(head.starts_with("HTTP/1.1 404") && body == b"404 page not found");
    for header in ["Origin: https://evil.example\r\n", "Host: evil.example\r\n"] {
        let mut stream = TcpStream::connect(fake.addr()).await.unwrap();
        stream
            .write_all(format!("GET /api/tags HTTP/1.1\r\n{header}Connection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        assert!(String::from_utf8(read_all(stream).await.0).unwrap().starts_with("HTTP/1.1 403"), "{header}");
    }
}

#[tokio::test]
async fn streams_that_break_off_break_off_as_named() {
    let fake = fake().await;
    let (text, was_reset) = raw_chat(&fake, "fake-fin").await;
    assert!(text.ends_with("\"done\":false}\n\r\n") && !was_reset, "{text}");
    let (text, was_reset) = raw_chat(&fake, "fake-reset-half").await;
    assert!(!text.trim_end().ends_with('}') && was_reset, "{text}");
    let (text, _) = raw_chat(&fake, "fake-no-done").await;
    assert!(text.ends_with("\r\n0\r\n\r\n") && !text.contains("\"done\":true"), "{text}");
    let (text, _) = raw_chat(&fake, "fake-error-line").await;
    assert!(text.ends_with("11\r\n{\"error\":\"boom\"}\n\r\n0\r\n\r\n"), "{text}");
    assert_eq!(fake.control().counters().cancellations, 0, "the server's own endings are no cancellations");
}

#[tokio::test]
async fn lines_are_torn_as_named() {
    let fake = fake().await;
    let raw = async |model: &str| {
        let (bytes, _) =
            read_all(send(&fake, "/api/chat", &chat(model), "Connection: close\r\n").await).await;
        let at = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        chunks(&bytes[at..])
    };
    let split = raw("fake-utf8-split").await;
    assert!(split[0].ends_with(b"face \xf0\x9f") && split[1].starts_with(b"\x98\x80 !"));
    let split = raw("fake-escape-split").await;
    assert!(split[0].ends_with(br"face \ud83d") && split[1].starts_with(br"\ude00 !"));
    assert_eq!(raw("fake-lines-per-chunk").await[0].iter().filter(|byte| **byte == b'\n').count(), 20);
    assert!(raw("fake-byte-chunks").await.iter().all(|chunk| chunk.len() == 1));
    for name in ["utf8-split", "escape-split", "lines-per-chunk", "byte-chunks", "content-length"] {
        let lines = lines(&fake, &format!("fake-{name}")).await;
        assert_eq!(lines.last().unwrap()["done"], true, "{name}");
    }
}

#[tokio::test]
async fn unusual_framings_are_framed_as_named() {
    let fake = fake().await;
    let (text, _) = raw_chat(&fake, "fake-content-length").await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    let (text, _) = raw_chat(&fake, "fake-http10").await;
    assert!(
        text.starts_with("HTTP/1.0 200 OK") && !text.contains("Transfer-Encoding") && text.ends_with("}\n")
    );
    let (text, _) = raw_chat(&fake, "fake-chunk-extensions").await;
    assert!(text.contains(";speed=fast;note=\"a;b\"\r\n{") && text.ends_with("0\r\n\r\n"));
    let (text, _) = raw_chat(&fake, "fake-lower-case").await;
    assert!(text.contains("\r\ncontent-type: application/x-ndjson\r\n"), "{text}");
    let (text, _) = raw_chat(&fake, "fake-informational").await;
    assert!(text.starts_with("HTTP/1.1 103 Early Hints\r\n") && text.contains("\r\n\r\nHTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn odd_lines_are_odd_as_named() {
    let fake = fake().await;
    let thinking = lines(&fake, "fake-thinking").await;
    assert!(thinking[5]["message"]["thinking"].is_string() && thinking[5]["message"]["content"] != "");
    let tools = lines(&fake, "fake-tools-last").await;
    assert_eq!(tools.last().unwrap()["message"]["tool_calls"][0]["function"]["arguments"]["city"], "Oslo");
    assert_eq!(lines(&fake, "fake-tools-two").await[0]["message"]["tool_calls"][1]["function"]["index"], 1);
    assert!(lines(&fake, "fake-no-metrics").await.last().unwrap().get("eval_count").is_none());
    assert_eq!(lines(&fake, "fake-odd-reason").await.last().unwrap()["done_reason"], "mystery");
    assert_ne!(lines(&fake, "fake-last-content").await.last().unwrap()["message"]["content"], "");
    let huge = lines(&fake, "fake-line-9m").await;
    assert_eq!(huge[0]["message"]["content"].as_str().unwrap().len(), 9 << 20);
    let body = json!({ "model": "fake-context-2m", "prompt": "x" });
    assert!(reply(&fake, "/api/generate", &body).await.1.len() > 2_000_000);
    let (text, _) = raw_chat(&fake, "fake-bom").await;
    assert!(text.contains("\u{feff}\r\n"));
    let (text, _) = raw_chat(&fake, "fake-html-502").await;
    assert!(text.starts_with("HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\n"));
}

#[tokio::test]
async fn errors_before_the_stream_carry_their_status() {
    let fake = fake().await;
    let (head, body) = reply(&fake, "/api/chat", &chat("fake-nested-error")).await;
    let outer: Value = serde_json::from_slice(&body).unwrap();
    let inner: Value = serde_json::from_str(outer["error"].as_str().unwrap()).unwrap();
    assert!(head.starts_with("HTTP/1.1 400") && inner["error"]["type"] == "exceed_context_size_error");
    assert!(reply(&fake, "/api/chat", &chat("fake-sign-in")).await.0.starts_with("HTTP/1.1 401"));
    assert!(reply(&fake, "/api/chat", &chat("fake-canceled")).await.0.starts_with("HTTP/1.1 499"));
    fake.control().set_scenario("qwen3:8b", Scenario::BusyThenOk { times: 2 });
    for status in ["503", "503", "200"] {
        assert!(reply(&fake, "/api/chat", &chat("qwen3:8b")).await.0.contains(&format!(" {status} ")));
    }
    assert_eq!(fake.control().loaded(), ["qwen3:8b"]);
    fake.control().set_scenario("qwen3:8b", Scenario::OutOfMemory);
    assert!(reply(&fake, "/api/chat", &chat("qwen3:8b")).await.0.starts_with("HTTP/1.1 500"));
    assert!(fake.control().loaded().is_empty());
}

#[tokio::test]
async fn embeddings_have_length_one_and_an_empty_input_only_loads() {
    let fake = FakeOllama::start(Config::with([Model::embedding("e")])).await.unwrap();
    let (_, body) = reply(&fake, "/api/embed", &json!({ "model": "e", "input": ["a b", "c"] })).await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    let norm: f64 =
        body["embeddings"][1].as_array().unwrap().iter().map(|x| x.as_f64().unwrap().powi(2)).sum();
    assert!((norm - 1.0).abs() < 1e-3 && body["prompt_eval_count"] == 3, "{body}");
    let (_, body) = reply(&fake, "/api/embed", &json!({ "model": "e", "input": [] })).await;
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["embeddings"], json!([]));
}

#[tokio::test]
async fn an_embedding_is_refused_when_it_does_not_fit_and_as_its_scenario_says() {
    let mut model = Model::embedding("e");
    model.details.context_length = Some(2);
    let fake = FakeOllama::start(Config::with([model])).await.unwrap();
    let ask = async |body: Value| {
        let (head, body) = reply(&fake, "/api/embed", &body).await;
        (head.lines().next().unwrap().to_owned(), serde_json::from_slice::<Value>(&body).unwrap())
    };
    let long = |truncate| json!({ "model": "e", "input": ["a b c"], "truncate": truncate });
    assert_eq!(ask(long(true)).await.1["embeddings"][0].as_array().unwrap().len(), 8);
    let (status, body) = ask(long(false)).await;
    assert_eq!(status, "HTTP/1.1 400 Bad Request");
    assert_eq!(body, json!({ "error": "the input length exceeds the context length" }));
    fake.control().set_scenario("e", Scenario::BusyThenOk { times: 1 });
    assert!(ask(long(true)).await.0.contains("503"));
    assert!(ask(long(true)).await.0.contains("200"));
}

#[tokio::test]
async fn a_text_is_continued_as_generate_knows_it_and_its_tokens_tell_how_probable_they_are() {
    let coder = Model::new("coder").tokens(2).capabilities(&["completion", "insert"]);
    let fake = FakeOllama::start(Config::with([Model::new("m"), coder])).await.unwrap();
    let ask = async |body: Value| {
        let (_, body) = reply(&fake, "/api/generate", &body).await;
        let first = body.split(|byte| *byte == b'\n').next().unwrap();
        serde_json::from_slice::<Value>(first).unwrap()
    };
    let refused = ask(json!({ "model": "m", "prompt": "a", "suffix": "b" })).await;
    assert_eq!(refused["error"], "registry.ollama.ai/library/m:latest does not support insert");
    let refused = ask(json!({ "model": "m", "prompt": "a", "raw": true, "system": "s" })).await;
    assert_eq!(refused["error"], "raw mode does not support template, system, or context");
    let body = json!({ "model": "coder", "prompt": "a", "suffix": "b", "stream": false, "raw": true });
    let whole = ask(body).await;
    assert_eq!(
        (whole["response"].as_str(), whole.get("context")),
        (Some(&*Tokens::new("a", -1).text(2)), None)
    );
    let told = ask(json!({ "model": "m", "prompt": "a", "logprobs": true, "top_logprobs": 2 })).await;
    assert_eq!(told["logprobs"][0]["token"], told["response"]);
    assert_eq!(told["logprobs"][0]["top_logprobs"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn tokens_carry_their_send_time_when_asked_to() {
    let fake = FakeOllama::start(Config::with([Model::new("m").tokens(4).stamp_tokens(true)])).await.unwrap();
    let times: Vec<u128> = lines(&fake, "m").await[..4]
        .iter()
        .map(|line| {
            line["message"]["content"].as_str().unwrap().trim().strip_prefix("t=").unwrap().parse().unwrap()
        })
        .collect();
    assert!(times.is_sorted() && times[0].abs_diff(crate::clock::now().as_nanos()) < 10_000_000_000);
}
