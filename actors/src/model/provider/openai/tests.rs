//! What only OpenAI's dialect has: a key, an end in three parts, and its own ways to ask. The rest is in
//! [`super::super::contract`].

use std::time::Duration;

use domain::chat::{ChatMessage, Completion, Role};
use serde_json::json;
use support::{
    fake_ollama::{Config, Model, Scenario},
    fake_openai::FakeOpenAi,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

use super::*;
use crate::model::provider::contract::{
    EMBEDDER, KEY, Kind, MODEL, SOON, ask_for, last_request, read_all, request, texts, timeouts,
};

fn provider_at(url: &str, key: Option<&str>) -> OpenAiProvider {
    let key = key.map(|key| Secret::new(key.to_owned()));
    OpenAiProvider::new(url, key.as_ref(), timeouts()).unwrap()
}

#[tokio::test]
async fn the_key_goes_with_every_request_and_a_wrong_one_is_the_operators_affair() {
    let models = || [Model::new(MODEL).tokens(3), Model::embedding(EMBEDDER)];
    let fake = FakeOpenAi::start(Config::with(models()), Some(KEY)).await.unwrap();
    let good = provider_at(&fake.url(), Some(KEY));
    good.probe().await.unwrap();
    good.embed(EMBEDDER, &texts(&["a"])).await.unwrap();
    read_all(&mut good.chat(MODEL, &request()).await.unwrap()).await.end.unwrap();
    let requests = fake.control().requests();
    let bearer = format!("Bearer {KEY}");
    assert!(
        requests.len() == 3
            && requests.iter().all(|request| request.header("authorization") == Some(&bearer))
    );
    for (key, why) in
        [(Some("sk-canary-wrong"), "it refuses our key"), (None, "it wants a key, and has none")]
    {
        let bad = provider_at(&fake.url(), key);
        let refused = UpstreamError::Declined(format!("status 401: {why}"));
        assert_eq!(bad.list().await, Err(refused.clone()));
        assert_eq!(bad.embed(EMBEDDER, &texts(&["a"])).await, Err(refused.clone()));
        assert_eq!(read_all(&mut bad.chat(MODEL, &request()).await.unwrap()).await.end, Err(refused.clone()));
        assert!(!refused.is_the_servers_own(), "it is no reason to give the server up");
    }
    let without = FakeOpenAi::start(Config::with(models()), None).await.unwrap();
    provider_at(&without.url(), None).probe().await.unwrap();
    assert_eq!(without.control().requests()[0].header("authorization"), None);
}

#[test]
fn a_key_that_no_header_can_carry_is_told_without_it() {
    let key = Secret::new("canary\n".to_owned());
    let refused = OpenAiProvider::new("http://127.0.0.1:1/v1", Some(&key), timeouts()).err().unwrap();
    assert_eq!(refused.problem, "has a key that no header can carry");
    assert!(!format!("{refused:?}").contains("canary"));
}

#[tokio::test]
async fn a_text_that_wants_the_models_template_is_a_chat_of_one_message() {
    let (fake, provider) = Kind::OpenAi.playing(Scenario::Normal).await;
    let mut request = request();
    request.messages.insert(0, ChatMessage::text(Role::System, "be brief"));
    request.completion = Some(Completion::default());
    ask_for(&provider, &request).await.end.unwrap();
    let body = last_request(fake.control(), "/v1/chat/completions").json();
    assert_eq!(
        body["messages"],
        json!([{"role": "system", "content": "be brief"}, {"role": "user", "content": "tell me something"}])
    );
}

/// Serves one connection that reads a request, says this, and then what `then` does with it.
async fn saying(
    words: &'static str,
    then: impl AsyncFnOnce(TcpStream),
) -> (Instant, Result<(), UpstreamError>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let provider = provider_at(&format!("http://{}/v1", listener.local_addr().unwrap()), None);
    let server = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"true}}") {
            assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0, "the client left");
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunk = format!("{head}{:x}\r\n{words}\r\n", words.len());
        socket.write_all(chunk.as_bytes()).await.unwrap();
        then(socket).await;
    };
    let begun = Instant::now();
    let client = async {
        let answered = read_all(&mut provider.chat(MODEL, &request()).await.unwrap()).await;
        assert_eq!(answered.content, "a");
        answered.end.map(drop)
    };
    let end = timeout(SOON, async {
        tokio::select! {
            end = client => end,
            () = async { server.await; std::future::pending().await } => unreachable!(),
        }
    });
    (begun, end.await.unwrap())
}

const ALL_BUT_ITS_END: &str =
    "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n";

#[tokio::test]
async fn an_answer_that_said_why_it_ends_is_whole_though_its_connection_is_cut_or_falls_silent() {
    let (_, cut) = saying(ALL_BUT_ITS_END, async |socket| drop(socket)).await;
    assert_eq!(cut, Ok(()));
    let (begun, silent) = saying(ALL_BUT_ITS_END, async |socket| {
        std::future::pending::<()>().await;
        drop(socket);
    })
    .await;
    assert_eq!(silent, Ok(()));
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "the formal end is not worth the time of a real silence"
    );
    let half = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    let (_, cut) = saying(half, async |socket| drop(socket)).await;
    assert_eq!(cut, Err(UpstreamError::Incomplete));
}

#[tokio::test]
async fn what_is_one_piece_of_json_is_no_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let provider = provider_at(&format!("http://{}/v1", listener.local_addr().unwrap()), None);
    let server = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"true}}") {
            assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0, "the client left");
        }
        let whole = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        socket.write_all(whole.as_bytes()).await.unwrap();
    };
    let client = async { read_all(&mut provider.chat(MODEL, &request()).await.unwrap()).await.end };
    let ((), end) = timeout(SOON, async { tokio::join!(server, client) }).await.unwrap();
    assert_eq!(end, Err(UpstreamError::Garbage("application/json for an answer".to_owned())));
}

#[test]
fn a_model_is_described_as_far_as_its_server_tells() {
    let read = |text: &str| card(serde_json::from_str(text).unwrap());
    let vllm = read(
        r#"{"id":"meta-llama/L","object":"model","created":1787306441,"owned_by":"vllm","max_model_len":8192}"#,
    );
    assert_eq!((vllm.name.as_str(), vllm.context_length), ("meta-llama/L", Some(8_192)));
    assert_eq!(vllm.modified_at.unwrap().timestamp(), 1_787_306_441);
    let llama = read(r#"{"id":"m","meta":{"n_ctx_train":4096,"n_embd":2048,"size":123,"n_params":9}}"#);
    assert_eq!(
        (llama.context_length, llama.embedding_length, llama.size_bytes),
        (Some(4_096), Some(2_048), 123)
    );
    let bare = read(r#"{"id":"m","created":null,"meta":null}"#);
    assert_eq!(bare, ModelCard { name: "m".to_owned(), ..ModelCard::default() });
}
