//! The provider against a scripted Ollama over real sockets.

use std::time::Duration;

use domain::{
    chat::{ChatMessage, Completion, Role},
    model_name::ModelName,
    reply::{Delta, FinishReason, TokenLogprob, UsageSource},
};
use support::{
    fake_ollama::{
        Config, Control, FakeOllama, Framing, Garbage, LastLine, Listing, Model, Scenario, Tokens, ToolCalls,
    },
    fault_proxy::FaultProxy,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

use super::*;
use crate::model::provider::{Batch, Finish};

const MODEL: &str = "qwen3:8b";
const SOON: Duration = Duration::from_secs(10);

fn timeouts() -> Timeouts {
    Timeouts { connect: Duration::from_millis(500), ..Timeouts::default() }
}

fn request() -> ChatRequest {
    ChatRequest::new(
        ModelName::parse(MODEL).unwrap(),
        vec![ChatMessage::text(Role::User, "tell me something")],
    )
}

fn provider_at(url: &str) -> OllamaProvider {
    OllamaProvider::new("test", url, timeouts()).unwrap()
}

async fn fake(model: Model) -> (FakeOllama, OllamaProvider) {
    let fake = FakeOllama::start(Config::with([model])).await.unwrap();
    let provider = provider_at(&fake.url());
    (fake, provider)
}

async fn with_scenario(scenario: Scenario) -> (FakeOllama, OllamaProvider) {
    fake(Model::new(MODEL).tokens(10).scenario(scenario)).await
}

#[derive(Debug)]
struct Answered {
    content: String,
    thinking: String,
    calls: usize,
    logprobs: Vec<TokenLogprob>,
    pieces: u32,
    end: Result<Finish, UpstreamError>,
}

async fn read_all(stream: &mut Box<dyn AnswerStream>) -> Answered {
    let mut answered = Answered {
        content: String::new(),
        thinking: String::new(),
        calls: 0,
        logprobs: Vec::new(),
        pieces: 0,
        end: Err(UpstreamError::Incomplete),
    };
    let mut batch = Batch::default();
    loop {
        let read = timeout(SOON, stream.read(&mut batch)).await.expect("a read is bounded");
        answered.pieces += batch.pieces;
        for delta in batch.deltas.drain(..) {
            match delta {
                Delta::Content(text) => answered.content += &text,
                Delta::Thinking(text) => answered.thinking += &text,
                Delta::ToolCall(_) => answered.calls += 1,
                Delta::Logprobs(tokens) => answered.logprobs.extend(tokens),
            }
        }
        match (read, batch.finish) {
            (Err(error), _) => answered.end = Err(error),
            (Ok(()), Some(finish)) => answered.end = Ok(finish),
            (Ok(()), None) => continue,
        }
        return answered;
    }
}

async fn ask(provider: &OllamaProvider) -> Answered {
    ask_for(provider, &request()).await
}

async fn ask_for(provider: &OllamaProvider, request: &ChatRequest) -> Answered {
    match provider.chat(MODEL, request).await {
        Ok(mut stream) => read_all(&mut stream).await,
        Err(error) => Answered {
            content: String::new(),
            thinking: String::new(),
            calls: 0,
            logprobs: Vec::new(),
            pieces: 0,
            end: Err(error),
        },
    }
}

/// The body of the last request to this path.
fn last_body(control: &Control, path: &str) -> serde_json::Value {
    let sent = control.requests().into_iter().rfind(|request| request.path == path).unwrap();
    serde_json::from_slice(&sent.body).unwrap()
}

async fn chats(control: &Control, expected: u64) {
    control.wait_until(|counters| counters.chat_calls >= expected, SOON).await.unwrap();
}

#[tokio::test]
async fn an_answer_is_read_to_its_end_and_its_connection_serves_the_next() {
    let (fake, provider) = with_scenario(Scenario::Normal).await;
    let first = ask(&provider).await;
    let finish = first.end.unwrap();
    assert_eq!((finish.reason, first.pieces), (FinishReason::Stop, 10));
    assert_eq!(finish.usage.unwrap().completion_tokens, 10);
    let second = ask(&provider).await;
    assert_eq!(second.content, first.content);
    let counters = fake.control().counters();
    assert_eq!((counters.chat_calls, counters.connections, counters.cancellations), (2, 1, 0));
}

#[tokio::test]
async fn nothing_of_the_caller_but_the_typed_request_is_sent() {
    let (fake, provider) = with_scenario(Scenario::Normal).await;
    ask(&provider).await.end.unwrap();
    let sent = fake.control().requests().into_iter().find(|request| request.path == "/api/chat").unwrap();
    let mut headers: Vec<_> = sent.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    headers.sort();
    assert_eq!(headers, ["accept", "content-length", "content-type", "host", "user-agent"]);
    let body: serde_json::Value = serde_json::from_slice(&sent.body).unwrap();
    let keys: Vec<_> = body.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["model", "messages", "stream"]);
    assert_eq!(body["stream"], true);
}

#[tokio::test]
async fn a_text_is_continued_by_generate_with_what_follows_it_and_as_it_stands() {
    let coder = Model::new(MODEL).tokens(5).capabilities(&["completion", "insert"]);
    let (fake, provider) = fake(coder).await;
    let mut request = ChatRequest::new(
        ModelName::parse(MODEL).unwrap(),
        vec![ChatMessage::text(Role::User, "fn main() {")],
    );
    request.completion = Some(Completion { suffix: Some("}".to_owned()), raw: true });
    let answered = ask_for(&provider, &request).await;
    assert_eq!(answered.content, Tokens::new("fn main() {", -1).text(5));
    let finish = answered.end.unwrap();
    assert_eq!(
        (finish.reason, finish.usage.unwrap().completion_tokens, answered.pieces),
        (FinishReason::Stop, 5, 5)
    );
    assert_eq!(
        last_body(fake.control(), "/api/generate"),
        serde_json::json!({"model": MODEL, "prompt": "fn main() {", "suffix": "}", "raw": true, "stream": true})
    );
    let counters = fake.control().counters();
    assert_eq!((counters.generate_calls, counters.chat_calls), (1, 0));
    // On the same connection as chats, and as likely refused.
    ask(&provider).await.end.unwrap();
    assert_eq!(fake.control().counters().connections, 1);
    fake.control().change_model(MODEL, |model| model.capabilities = Some(vec!["completion".to_owned()]));
    let refused = ask_for(&provider, &request).await.end.unwrap_err();
    assert!(matches!(&refused, UpstreamError::Rejected(text) if text.contains("insert")), "{refused:?}");
}

#[tokio::test]
async fn what_a_continued_text_thinks_is_told_apart() {
    let (fake, provider) = with_scenario(Scenario::Thinking).await;
    let chat = ask(&provider).await;
    let request = ChatRequest { completion: Some(Completion { suffix: None, raw: false }), ..request() };
    let generated = ask_for(&provider, &request).await;
    assert_eq!(fake.control().counters().generate_calls, 1);
    assert!(!generated.thinking.is_empty());
    assert_eq!((generated.thinking, generated.content), (chat.thinking, chat.content));
}

#[tokio::test]
async fn the_probabilities_of_tokens_are_told_when_they_are_asked_for() {
    let (fake, provider) = with_scenario(Scenario::Normal).await;
    assert_eq!(ask(&provider).await.logprobs, []);
    for (top, is_completion) in [(0, false), (3, false), (2, true)] {
        let completion = is_completion.then_some(Completion { suffix: None, raw: false });
        let request = ChatRequest { logprobs: Some(top), completion, ..request() };
        let answered = ask_for(&provider, &request).await;
        let told: String = answered.logprobs.iter().map(|token| token.token.as_str()).collect();
        assert_eq!((answered.logprobs.len(), told), (10, answered.content), "{top}");
        for token in &answered.logprobs {
            assert_eq!((token.logprob, token.top_logprobs.len()), (-0.25, usize::from(top)));
            assert_eq!(token.bytes.as_deref(), Some(token.token.as_bytes()));
        }
        let sent = last_body(fake.control(), if is_completion { "/api/generate" } else { "/api/chat" });
        let asked = if top == 0 { None } else { Some(u64::from(top)) };
        assert_eq!((&sent["logprobs"], sent["top_logprobs"].as_u64()), (&serde_json::json!(true), asked));
    }
}

const EMBEDDER: &str = "embedder:latest";

fn texts(inputs: &[&str]) -> EmbedRequest {
    EmbedRequest {
        model: ModelName::parse("client/spelling").unwrap(),
        inputs: inputs.iter().map(|text| (*text).to_owned()).collect(),
        dimensions: None,
        truncate: true,
    }
}

#[tokio::test]
async fn texts_become_vectors_in_their_order_and_are_counted_by_the_server() {
    let (fake, provider) = fake(Model::embedding(EMBEDDER)).await;
    let made = provider.embed(EMBEDDER, &texts(&["one", "two words", "one"])).await.unwrap();
    assert_eq!(made.vectors.len(), 3);
    assert!(made.vectors[0] == made.vectors[2] && made.vectors[0] != made.vectors[1]);
    assert!(made.vectors.iter().all(|vector| vector.len() == 8));
    let usage = made.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.source), (4, 0, UsageSource::Reported));
    assert_eq!(
        last_body(fake.control(), "/api/embed"),
        serde_json::json!({"model": EMBEDDER, "input": ["one", "two words", "one"], "truncate": true})
    );
    let short = EmbedRequest { dimensions: Some(3), truncate: false, ..texts(&["one"]) };
    assert_eq!(provider.embed(EMBEDDER, &short).await.unwrap().vectors[0].len(), 3);
    let sent = last_body(fake.control(), "/api/embed");
    assert_eq!((&sent["dimensions"], &sent["truncate"]), (&serde_json::json!(3), &serde_json::json!(false)));
}

#[tokio::test]
async fn refusals_to_embed_have_their_meaning() {
    let mut model = Model::embedding(EMBEDDER);
    model.details.context_length = Some(2);
    let (fake, provider) = fake(model).await;
    let long = EmbedRequest { truncate: false, ..texts(&["one two three"]) };
    let too_long = "the input length exceeds the context length".to_owned();
    assert_eq!(provider.embed(EMBEDDER, &long).await, Err(UpstreamError::Rejected(too_long)));
    let cases = [
        (Scenario::BusyThenOk { times: 1 }, UpstreamError::Busy),
        (
            Scenario::Error { status: 400, message: "do embedding request: EOF" },
            UpstreamError::Declined("status 400: do embedding request: EOF".to_owned()),
        ),
        (
            Scenario::Error { status: 500, message: "boom" },
            UpstreamError::Failed("status 500: boom".to_owned()),
        ),
    ];
    for (scenario, expected) in cases {
        fake.control().set_scenario(EMBEDDER, scenario);
        assert_eq!(provider.embed(EMBEDDER, &texts(&["a"])).await, Err(expected));
    }
    assert_eq!(provider.embed("missing", &texts(&["a"])).await, Err(UpstreamError::NoSuchModel));
}

#[tokio::test]
async fn b17_an_embedding_is_bounded_in_time_and_ends_at_the_server_when_nobody_waits_for_it() {
    let (fake, provider) = fake(Model::embedding(EMBEDDER).scenario(Scenario::StallBeforeHeaders)).await;
    let short = Duration::from_millis(120);
    provider.set_timeouts(Timeouts { first_byte: short, ..timeouts() });
    let made = provider.embed(EMBEDDER, &texts(&["a"])).await;
    assert_eq!(made, Err(UpstreamError::FirstByteTimeout(short)));
    provider.set_timeouts(timeouts());
    let request = texts(&["a"]);
    let mut waiting = provider.embed(EMBEDDER, &request);
    tokio::select! {
        made = &mut waiting => panic!("{made:?}"),
        asked = fake.control().wait_until(|counters| counters.embed_calls == 2, SOON) => asked.unwrap(),
    };
    drop(waiting);
    let left = fake.control().wait_until(|counters| counters.cancellations == 2, SOON).await.unwrap();
    assert_eq!(left.in_flight, 0);
}

#[tokio::test]
async fn odd_but_legal_answers_are_understood() {
    for scenario in [
        Scenario::HalfLines { pause: Duration::from_millis(2) },
        Scenario::LinesPerChunk { lines: 7 },
        Scenario::ByteChunks,
        Scenario::Utf8Split,
        Scenario::EscapeSplit,
        Scenario::HugeContext { bytes: 2 << 20 },
        Scenario::HugeLine { bytes: 9 << 20 },
        Scenario::LastLine(LastLine::WithContent),
        Scenario::LastLine(LastLine::UnknownReason),
        Scenario::LastLine(LastLine::NoMetrics),
        Scenario::Thinking,
        Scenario::ToolCalls(ToolCalls::LastLine),
        Scenario::ToolCalls(ToolCalls::Two),
        Scenario::Logprobs,
        Scenario::Garbage(Garbage::CrLf),
        Scenario::Garbage(Garbage::BlankLine),
        Scenario::Garbage(Garbage::Bom),
        Scenario::Garbage(Garbage::DoubleDone),
        Scenario::Garbage(Garbage::AfterDone),
        Scenario::Framing(Framing::ContentLength),
        Scenario::Framing(Framing::CloseDelimited),
        Scenario::Framing(Framing::ChunkExtensions),
        Scenario::Framing(Framing::LowerCase),
        Scenario::Framing(Framing::Informational),
    ] {
        let (_fake, provider) = with_scenario(scenario).await;
        for _ in 0..2 {
            let answered = ask(&provider).await;
            assert!(answered.end.is_ok() && answered.pieces > 0, "{scenario:?}: {:?}", answered.end);
            let Scenario::ToolCalls(_) = scenario else { continue };
            assert!(answered.calls > 0 && answered.end.unwrap().reason == FinishReason::ToolCalls);
        }
    }
}

#[tokio::test]
async fn answers_that_break_off_say_how_and_keep_their_text() {
    type Expected = fn(&UpstreamError) -> bool;
    let failed: Expected = |error| matches!(error, UpstreamError::Failed(_));
    let incomplete: Expected = |error| *error == UpstreamError::Incomplete;
    let garbage: Expected = |error| matches!(error, UpstreamError::Garbage(_));
    let cases = [
        (Scenario::ErrorLine { after: 3 }, true, failed),
        (Scenario::NoDone { after: 3 }, true, incomplete),
        (Scenario::Fin { after: 3, half_line: false }, true, incomplete),
        (Scenario::Fin { after: 3, half_line: true }, true, incomplete),
        // What was in flight when a reset came may be lost with it.
        (Scenario::Reset { after: 3, half_line: true }, false, incomplete),
        (Scenario::Garbage(Garbage::InvalidJson), false, garbage),
        (Scenario::Garbage(Garbage::HtmlOk), false, garbage),
        (Scenario::Garbage(Garbage::HtmlBadGateway), false, failed),
        (Scenario::EndlessLine, false, garbage),
    ];
    for (scenario, has_text, is_expected) in cases {
        let (fake, provider) = with_scenario(scenario).await;
        let answered = ask(&provider).await;
        assert!(is_expected(&answered.end.clone().unwrap_err()), "{scenario:?}: {:?}", answered.end);
        assert!(!has_text || answered.pieces >= 3, "{scenario:?}: {}", answered.content);
        fake.control().set_scenario(MODEL, Scenario::Normal);
        assert!(ask(&provider).await.end.is_ok(), "the next answer after {scenario:?}");
    }
}

#[tokio::test]
async fn refusals_before_the_stream_have_their_meaning() {
    let (fake, provider) = with_scenario(Scenario::BusyThenOk { times: 1 }).await;
    assert_eq!(ask(&provider).await.end, Err(UpstreamError::Busy));
    assert!(ask(&provider).await.end.is_ok(), "a busy server is asked again");
    assert_eq!(fake.control().counters().connections, 1, "also after a refusal the connection serves on");
    fake.control().set_scenario(MODEL, Scenario::Error { status: 400, message: "no /etc/passwd here" });
    assert_eq!(ask(&provider).await.end, Err(UpstreamError::Rejected("no […] here".to_owned())));
    fake.control().set_scenario(MODEL, Scenario::SignIn);
    assert!(matches!(ask(&provider).await.end, Err(UpstreamError::Declined(_))));
    fake.control().remove_model(MODEL);
    assert_eq!(ask(&provider).await.end, Err(UpstreamError::NoSuchModel));
}

#[tokio::test]
async fn silence_is_bounded_before_and_within_an_answer() {
    let short = Duration::from_millis(120);
    let (fake, provider) = with_scenario(Scenario::Stall { after: 3 }).await;
    let short_times = Timeouts { idle: short, first_byte: short, idle_long: SOON * 6, ..timeouts() };
    provider.set_timeouts(short_times);
    let answered = ask(&provider).await;
    assert_eq!((answered.end, answered.pieces), (Err(UpstreamError::IdleTimeout(short)), 3));
    fake.control().set_scenario(MODEL, Scenario::StallBeforeHeaders);
    assert_eq!(ask(&provider).await.end, Err(UpstreamError::FirstByteTimeout(short)));
    // Both are ended at the server, too.
    fake.control()
        .wait_until(|counters| counters.cancellations == 2 && counters.in_flight == 0, SOON)
        .await
        .unwrap();
    // A request that may pause is given the longer time.
    fake.control().set_scenario(MODEL, Scenario::ToolCalls(ToolCalls::AfterSilence(short * 3)));
    let with_tools = ChatRequest {
        tools: vec![serde_json::json!({"type": "function", "function": {"name": "f"}})],
        ..request()
    };
    provider.set_timeouts(Timeouts { first_byte: SOON, ..short_times });
    let mut stream = provider.chat(MODEL, &with_tools).await.unwrap();
    assert_eq!(read_all(&mut stream).await.end.unwrap().reason, FinishReason::ToolCalls);
}

#[tokio::test]
async fn a_read_that_is_dropped_and_begun_again_does_not_extend_the_silence() {
    let short = Duration::from_millis(150);
    let (_fake, provider) = with_scenario(Scenario::Stall { after: 0 }).await;
    provider.set_timeouts(Timeouts { idle: short, first_byte: short, ..timeouts() });
    let mut stream = provider.chat(MODEL, &request()).await.unwrap();
    let (begun, mut batch) = (Instant::now(), Batch::default());
    let error = loop {
        if let Ok(read) = timeout(short / 10, stream.read(&mut batch)).await {
            break read.unwrap_err();
        }
        assert!(begun.elapsed() < SOON, "the silence was never noticed");
    };
    assert!(matches!(error, UpstreamError::FirstByteTimeout(_) | UpstreamError::IdleTimeout(_)), "{error:?}");
}

#[tokio::test]
async fn b17_dropping_the_answer_ends_the_request_within_100_ms() {
    for scenario in [Scenario::StallBeforeHeaders, Scenario::Stall { after: 2 }] {
        let (fake, provider) = with_scenario(scenario).await;
        let stream = provider.chat(MODEL, &request()).await.unwrap();
        chats(fake.control(), 1).await;
        let left = std::time::Instant::now();
        drop(stream);
        let seen = fake.control().wait_until(|counters| counters.cancellations == 1, SOON).await.unwrap();
        let late = seen.cancelled[0].at.saturating_duration_since(left);
        assert!(late < Duration::from_millis(100), "{scenario:?}: seen after {late:?}");
    }
}

#[tokio::test]
async fn an_idle_connection_that_died_is_replaced_unseen() {
    let (fake, _) = with_scenario(Scenario::Normal).await;
    let proxy = FaultProxy::start(fake.addr()).await.unwrap();
    let provider = provider_at(&format!("http://{}", proxy.addr()));
    for _ in 0..3 {
        ask(&provider).await.end.unwrap();
        proxy.cut_connections();
    }
    assert_eq!(fake.control().counters().chat_calls, 3);
}

/// Reads one request with a body from a client of ours.
async fn read_request(socket: &mut TcpStream) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"true}") {
        assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0, "the client left");
    }
}

const WHOLE_ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ncontent-length: 14\r\n\r\n{\"done\":true}\n";

#[tokio::test]
async fn a_connection_that_dies_as_the_request_is_sent_is_retried_once_and_only_if_it_was_reused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let provider = provider_at(&format!("http://{}", listener.local_addr().unwrap()));
    let server = async {
        let (mut first, _) = listener.accept().await.unwrap();
        read_request(&mut first).await;
        first.write_all(WHOLE_ANSWER).await.unwrap();
        read_request(&mut first).await;
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        read_request(&mut second).await;
        second.write_all(WHOLE_ANSWER).await.unwrap();
        read_request(&mut second).await;
        drop(second);
        let (mut third, _) = listener.accept().await.unwrap();
        read_request(&mut third).await;
    };
    let client = async {
        ask(&provider).await.end.unwrap();
        ask(&provider).await.end.expect("the retry is not seen");
        ask(&provider).await.end
    };
    let ((), end) = timeout(SOON, async { tokio::join!(server, client) }).await.unwrap();
    assert_eq!(end, Err(UpstreamError::Failed("the connection was closed before an answer".to_owned())));
}

#[tokio::test]
async fn a_server_that_is_not_there_cannot_be_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let provider = provider_at(&url);
    assert!(matches!(ask(&provider).await.end, Err(UpstreamError::Connect(_))));
    assert!(matches!(provider.list().await, Err(UpstreamError::Connect(_))));
}

#[tokio::test]
async fn one_read_brings_all_that_is_there_and_a_pace_makes_reads_rare() {
    let (fake, provider) = fake(Model::new(MODEL).tokens(200).tokens_per_s(2_000.0)).await;
    let pace = Duration::from_millis(20);
    let mut stream = provider.chat(MODEL, &request()).await.unwrap();
    stream.pace(Some(pace));
    let (begun, mut reads, mut batch) = (Instant::now(), 0, Batch::default());
    while batch.finish.is_none() {
        stream.read(&mut batch).await.unwrap();
        reads += 1;
    }
    let most = begun.elapsed().as_millis() / pace.as_millis() + 2;
    assert!(reads <= most, "{reads} reads, at most {most} at this pace");
    assert_eq!(fake.control().counters().cancellations, 0);
}

#[tokio::test]
async fn the_list_tells_what_models_can_do_also_where_only_show_knows() {
    let mut old = Model::new("old:1b");
    old.capabilities = None;
    old.details.context_length = None;
    old.details.families = None;
    old.modified_at = "2026-08-20T09:14:03.12+05:30".to_owned();
    let fake = FakeOllama::start(Config::with([Model::new(MODEL), old])).await.unwrap();
    let provider = provider_at(&fake.url());
    for _ in 0..2 {
        let mut cards = provider.list().await.unwrap();
        cards.sort_by(|a, b| a.name.cmp(&b.name));
        let names: Vec<_> = cards.iter().map(|card| card.name.as_str()).collect();
        assert_eq!(names, ["old:1b", MODEL]);
        assert!(cards.iter().all(|card| card.capabilities.contains(&"completion".to_owned())), "{cards:?}");
        assert_eq!(cards[0].modified_at.unwrap().to_rfc3339(), "2026-08-20T03:44:03.120+00:00");
    }
    assert_eq!(fake.control().counters().show_calls, 1, "each digest is asked about once");
}

#[tokio::test]
async fn a_list_that_fails_is_an_error_and_a_stalled_ps_is_not() {
    let (fake, _) = with_scenario(Scenario::Normal).await;
    let short = Timeouts { list: Duration::from_millis(200), ..timeouts() };
    let provider = OllamaProvider::new("test", &fake.url(), short).unwrap();
    fake.control().set_ps(Listing::Slow(SOON * 6));
    assert_eq!(provider.list().await.unwrap().len(), 1);
    assert_eq!(provider.loaded().await, Err(UpstreamError::FirstByteTimeout(short.list)));
    fake.control().set_tags(Listing::Slow(SOON * 6));
    assert_eq!(provider.list().await, Err(UpstreamError::FirstByteTimeout(short.list)));
}

#[tokio::test]
async fn loading_and_unloading_work_for_models_of_either_kind() {
    let embedder = Model::embedding("embedder:latest");
    let chat = Model::new(MODEL).load(Duration::from_millis(50));
    let fake = FakeOllama::start(Config::with([chat, embedder])).await.unwrap();
    let provider = provider_at(&fake.url());
    provider.preload(MODEL).await.unwrap();
    assert_eq!(provider.loaded().await, Ok(vec![MODEL.to_owned()]));
    provider.preload("embedder:latest").await.unwrap();
    let counters = fake.control().counters();
    assert_eq!((counters.loads, counters.embed_calls), (2, 1));
    for model in [MODEL, "embedder:latest"] {
        provider.unload(model).await.unwrap();
    }
    assert_eq!(provider.loaded().await, Ok(Vec::new()));
    assert_eq!(fake.control().counters().unloads, 2);
    for missing in [provider.preload("missing").await, provider.unload("missing").await] {
        assert_eq!(missing, Err(UpstreamError::NoSuchModel));
    }
}

#[tokio::test]
async fn a_model_that_somebody_else_uses_is_not_unloaded() {
    let (_fake, provider) = with_scenario(Scenario::Stall { after: 1 }).await;
    let short = Timeouts { unload: Duration::from_millis(200), ..timeouts() };
    provider.set_timeouts(short);
    let mut theirs = provider.chat(MODEL, &request()).await.unwrap();
    theirs.read(&mut Batch::default()).await.unwrap();
    assert_eq!(provider.unload(MODEL).await, Err(UpstreamError::Busy));
    drop(theirs);
    provider.unload(MODEL).await.unwrap();
}

#[tokio::test]
async fn a_probe_is_answered_as_long_as_the_server_is_there() {
    let (fake, provider) = with_scenario(Scenario::OutOfMemory).await;
    assert_eq!(provider.probe().await, Ok(()));
    fake.control().close().await;
    let away = provider.probe().await.unwrap_err();
    assert!(away.is_the_servers_own(), "{away:?}");
}

#[test]
fn only_a_version_known_to_be_older_is_called_old() {
    for (version, expected) in [
        ("0.17.0", true),
        ("0.5.13-rc1", true),
        ("0.17.1", false),
        ("0.32.15", false),
        ("1.0", false),
        ("dev", false),
    ] {
        assert_eq!(is_older(version, SAFE_VERSION), expected, "{version}");
    }
}
