//! Answers that come well, in every legal form.

use domain::{
    chat::{Completion, Format},
    reply::{FinishReason, UsageSource},
};
use serde_json::json;
use support::fake_ollama::{Framing, Garbage, LastLine, Tokens, ToolCalls};
use tokio::time::Instant;

use super::*;
use crate::model::provider::demo::NAME;

each_kind! {
    async fn an_answer_is_read_to_its_end_and_its_connection_serves_the_next(kind) {
        let (fake, provider) = kind.playing(Scenario::Normal).await;
        let first = ask(&provider).await;
        assert_eq!(first.content, Tokens::new("tell me something", -1).text(10));
        let finish = first.end.unwrap();
        assert_eq!((finish.reason, first.pieces), (FinishReason::Stop, 10));
        let usage = finish.usage.unwrap();
        assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.source), (3, 10, UsageSource::Reported));
        let second = ask(&provider).await;
        assert_eq!(second.content, first.content);
        let counters = fake.control().counters();
        assert_eq!((counters.chat_calls, counters.connections, counters.cancellations), (2, 1, 0));
    }

    async fn an_answer_that_was_bounded_says_so(kind) {
        let (_fake, provider) = kind.playing(Scenario::Normal).await;
        let mut request = request();
        request.sampling.num_predict = Some(4);
        let answered = ask_for(&provider, &request).await;
        assert_eq!((answered.pieces, answered.end.unwrap().reason), (4, FinishReason::Length));
    }

    async fn thinking_is_told_apart(kind) {
        let (_fake, provider) = kind.playing(Scenario::Thinking).await;
        let answered = ask(&provider).await;
        let tokens = Tokens::new("tell me something", -1);
        assert_eq!(answered.thinking, tokens.text(5) + " so");
        assert_eq!(answered.content, (5..11).map(|index| tokens.token(index)).collect::<String>());
    }

    async fn calls_of_tools_come_whole_with_an_id_and_are_the_reason_of_the_end(kind) {
        for (style, names) in [
            (ToolCalls::LastLine, &["get_weather"][..]),
            (ToolCalls::MidLine, &["get_weather"]),
            (ToolCalls::Two, &["get_weather", "get_tides"]),
        ] {
            let (_fake, provider) = kind.playing(Scenario::ToolCalls(style)).await;
            let answered = ask(&provider).await;
            assert_eq!(answered.calls.iter().map(|call| &*call.name).collect::<Vec<_>>(), names, "{style:?}");
            for call in &answered.calls {
                assert_eq!(call.arguments.to_string(), r#"{"city":"Oslo","days":2}"#);
                assert!(call.id.starts_with("call_"), "{call:?}");
            }
            assert_eq!(answered.end.unwrap().reason, FinishReason::ToolCalls, "{style:?}");
        }
    }

    async fn the_probabilities_of_tokens_are_told_when_they_are_asked_for(kind) {
        let (_fake, provider) = kind.playing(Scenario::Normal).await;
        assert_eq!(ask(&provider).await.logprobs, []);
        for (top, is_completion) in [(0, false), (3, false), (2, true)] {
            let completion = is_completion.then_some(Completion { suffix: None, raw: true });
            let request = ChatRequest { logprobs: Some(top), completion, ..request() };
            let answered = ask_for(&provider, &request).await;
            let told: String = answered.logprobs.iter().map(|token| token.token.as_str()).collect();
            assert_eq!((answered.logprobs.len(), told), (10, answered.content), "{top}");
            for token in &answered.logprobs {
                assert_eq!(token.logprob, -0.25);
                // In a continued text the same token is not told twice.
                assert!(token.top_logprobs.len() == usize::from(top) || is_completion, "{token:?}");
                assert_eq!(token.bytes.as_deref(), Some(token.token.as_bytes()));
            }
        }
    }

    async fn a_text_is_continued_as_it_stands_on_the_connection_of_the_chats(kind) {
        let coder = Model::new(MODEL).tokens(5).capabilities(&["completion", "insert"]);
        let (fake, provider) = kind.serving([coder]).await;
        let mut request = request();
        request.messages[0].content = "fn main() {".to_owned();
        request.completion = Some(Completion { suffix: Some("}".to_owned()), raw: true });
        let answered = ask_for(&provider, &request).await;
        assert_eq!(answered.content, Tokens::new("fn main() {", -1).text(5));
        let finish = answered.end.unwrap();
        assert_eq!(
            (finish.reason, finish.usage.unwrap().completion_tokens, answered.pieces),
            (FinishReason::Stop, 5, 5)
        );
        let body = last_request(fake.control(), kind.paths()[1]).json();
        assert_eq!((&body["prompt"], &body["suffix"]), (&json!("fn main() {"), &json!("}")));
        ask(&provider).await.end.unwrap();
        let counters = fake.control().counters();
        assert_eq!((counters.generate_calls, counters.chat_calls, counters.connections), (1, 1, 1));
        fake.control().change_model(MODEL, |model| model.capabilities = Some(vec!["completion".to_owned()]));
        let refused = ask_for(&provider, &request).await.end.unwrap_err();
        assert!(matches!(&refused, UpstreamError::Rejected(text) if text.contains("insert")), "{refused:?}");
    }

    async fn odd_but_legal_answers_are_understood(kind) {
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
            Scenario::LastLine(LastLine::NoReason),
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
            let (_fake, provider) = kind.playing(scenario).await;
            for _ in 0..2 {
                let answered = ask(&provider).await;
                assert!(answered.end.is_ok() && answered.pieces > 0, "{scenario:?}: {:?}", answered.end);
            }
        }
    }

    async fn one_read_brings_all_that_is_there_and_a_pace_makes_reads_rare(kind) {
        let (fake, provider) = kind.serving([Model::new(MODEL).tokens(200).tokens_per_s(2_000.0)]).await;
        let pace = Duration::from_millis(20);
        let mut stream = provider.as_provider().chat(MODEL, &request()).await.unwrap();
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

    async fn images_and_a_schema_reach_the_server_in_its_own_words(kind) {
        let (fake, provider) = kind.playing(Scenario::Normal).await;
        let mut request = request();
        request.messages[0].images.push("iVBORw0KGgo=".to_owned());
        request.format = Some(Format::Schema(json!({"type": "object"})));
        ask_for(&provider, &request).await.end.unwrap();
        let body = last_request(fake.control(), kind.paths()[0]).json();
        let (image, schema) = match kind {
            Kind::Ollama => (&body["messages"][0]["images"][0], &body["format"]),
            Kind::OpenAi => (
                &body["messages"][0]["content"][1]["image_url"]["url"],
                &body["response_format"]["json_schema"]["schema"],
            ),
        };
        assert!(image.as_str().unwrap().ends_with("iVBORw0KGgo="), "{body}");
        assert_eq!(schema, &json!({"type": "object"}));
    }
}

#[tokio::test]
async fn the_built_in_model_does_what_servers_do() {
    let provider =
        AnyProvider::from_config(&UpstreamConfig::new("demo", UpstreamKind::Demo), &timeouts()).unwrap();
    let demo = provider.as_provider();
    assert_eq!(demo.probe().await, Ok(()));
    let cards = demo.list().await.unwrap();
    assert_eq!(cards.iter().map(|card| card.name.as_str()).collect::<Vec<_>>(), [NAME]);
    let mut request = request();
    request.sampling.num_predict = Some(3);
    let answered = read_all(&mut demo.chat(NAME, &request).await.unwrap()).await;
    let finish = answered.end.unwrap();
    assert_eq!(
        (answered.pieces, finish.reason, answered.content.is_empty()),
        (3, FinishReason::Length, false)
    );
    assert_eq!(finish.usage.unwrap().completion_tokens, 3);
    let made = demo.embed(NAME, &texts(&["one", "two", "one"])).await.unwrap().vectors;
    assert!(made.len() == 3 && made[0] == made[2] && made[0] != made[1]);
    assert_eq!(ask_for(&provider, &request).await.end, Err(UpstreamError::NoSuchModel));
    assert_eq!(demo.embed("missing", &texts(&["a"])).await, Err(UpstreamError::NoSuchModel));
}
