//! Answers that are refused, break off, fall silent, or that nobody waits for any more.

use domain::reply::FinishReason;
use support::{
    fake_ollama::{Garbage, ToolCalls},
    fault_proxy::FaultProxy,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};

use super::*;

each_kind! {
    async fn answers_that_break_off_say_how_and_keep_their_text(kind) {
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
            let (fake, provider) = kind.playing(scenario).await;
            let answered = ask(&provider).await;
            assert!(is_expected(&answered.end.clone().unwrap_err()), "{scenario:?}: {:?}", answered.end);
            assert!(!has_text || answered.pieces >= 3, "{scenario:?}: {}", answered.content);
            fake.control().set_scenario(MODEL, Scenario::Normal);
            assert!(ask(&provider).await.end.is_ok(), "the next answer after {scenario:?}");
        }
    }

    async fn refusals_before_the_stream_have_their_meaning(kind) {
        let (fake, provider) = kind.playing(Scenario::BusyThenOk { times: 1 }).await;
        assert_eq!(ask(&provider).await.end, Err(UpstreamError::Busy));
        assert!(ask(&provider).await.end.is_ok(), "a busy server is asked again");
        assert_eq!(fake.control().counters().connections, 1, "also after a refusal the connection serves on");
        let error = |status| Scenario::Error { status, message: "no /etc/passwd here" };
        let declined = |status| UpstreamError::Declined(format!("status {status}: no […] here"));
        let cases = [
            (400, UpstreamError::Rejected("no […] here".to_owned())),
            (402, declined(402)),
            (429, if kind == Kind::Ollama { declined(429) } else { UpstreamError::Busy }),
            (500, UpstreamError::Failed("status 500: no […] here".to_owned())),
            (502, UpstreamError::Failed("status 502: no […] here".to_owned())),
            (503, UpstreamError::Busy),
        ];
        for (status, expected) in cases {
            fake.control().set_scenario(MODEL, error(status));
            assert_eq!(ask(&provider).await.end, Err(expected), "{status}");
        }
        fake.control().set_scenario(MODEL, Scenario::SignIn);
        let refused = ask(&provider).await.end.unwrap_err();
        assert!(matches!(&refused, UpstreamError::Declined(text) if !text.contains("sk-")), "{refused:?}");
        fake.control().remove_model(MODEL);
        assert_eq!(ask(&provider).await.end, Err(UpstreamError::NoSuchModel));
    }

    async fn silence_is_bounded_before_and_within_an_answer(kind) {
        let short = Duration::from_millis(120);
        let (fake, provider) = kind.playing(Scenario::Stall { after: 3 }).await;
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
        assert_eq!(ask_for(&provider, &with_tools).await.end.unwrap().reason, FinishReason::ToolCalls);
    }

    async fn headers_alone_are_no_answer_and_what_is_slow_to_begin_has_the_longer_time(kind) {
        let (_fake, provider) = kind.playing(Scenario::Stall { after: 0 }).await;
        let (short, long) = (Duration::from_millis(20), Duration::from_millis(150));
        provider.set_timeouts(Timeouts { idle: short, first_byte: long, ..timeouts() });
        assert_eq!(ask(&provider).await.end, Err(UpstreamError::FirstByteTimeout(long)));
    }

    async fn a_read_that_is_dropped_and_begun_again_does_not_extend_the_silence(kind) {
        let short = Duration::from_millis(150);
        let (_fake, provider) = kind.playing(Scenario::Stall { after: 0 }).await;
        provider.set_timeouts(Timeouts { idle: short, first_byte: short, ..timeouts() });
        let mut stream = provider.as_provider().chat(MODEL, &request()).await.unwrap();
        let (begun, mut batch) = (Instant::now(), Batch::default());
        let error = loop {
            if let Ok(read) = timeout(short / 10, stream.read(&mut batch)).await {
                break read.unwrap_err();
            }
            assert!(begun.elapsed() < SOON, "the silence was never noticed");
        };
        assert_eq!(error, UpstreamError::FirstByteTimeout(short));
    }

    async fn b17_dropping_the_answer_ends_the_request_within_100_ms(kind) {
        for scenario in [Scenario::StallBeforeHeaders, Scenario::Stall { after: 2 }] {
            let (fake, provider) = kind.playing(scenario).await;
            let stream = provider.as_provider().chat(MODEL, &request()).await.unwrap();
            chats(fake.control(), 1).await;
            let left = std::time::Instant::now();
            drop(stream);
            let seen = fake.control().wait_until(|counters| counters.cancellations == 1, SOON).await.unwrap();
            let late = seen.cancelled[0].at.saturating_duration_since(left);
            assert!(late < Duration::from_millis(100), "{scenario:?}: seen after {late:?}");
        }
    }

    async fn an_idle_connection_that_died_is_replaced_unseen(kind) {
        let (fake, _) = kind.playing(Scenario::Normal).await;
        let proxy = FaultProxy::start(fake.addr()).await.unwrap();
        let provider = kind.at(proxy.addr());
        for _ in 0..3 {
            ask(&provider).await.end.unwrap();
            proxy.cut_connections();
        }
        assert_eq!(fake.control().counters().chat_calls, 3);
    }

    async fn a_connection_that_dies_as_the_request_is_sent_is_retried_once_and_only_if_it_was_reused(kind) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = kind.at(listener.local_addr().unwrap());
        let body = if kind == Kind::Ollama { "{\"done\":true}\n" } else { "data: [DONE]\n\n" };
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let server = async {
            let (mut first, _) = listener.accept().await.unwrap();
            read_request(&mut first).await;
            first.write_all(answer.as_bytes()).await.unwrap();
            read_request(&mut first).await;
            drop(first);
            let (mut second, _) = listener.accept().await.unwrap();
            read_request(&mut second).await;
            second.write_all(answer.as_bytes()).await.unwrap();
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
}

/// Reads one request with a body from a client of ours.
async fn read_request(socket: &mut TcpStream) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"true}") && !seen.ends_with(b"true}}") {
        assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0, "the client left");
    }
}
