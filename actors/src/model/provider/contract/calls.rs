//! Listing, probing and turning texts into vectors.

use domain::reply::UsageSource;
use serde_json::json;
use support::fake_ollama::Listing;

use super::*;

fn embedder(scenario: Scenario) -> [Model; 1] {
    [Model::embedding(EMBEDDER).scenario(scenario)]
}

each_kind! {
    async fn the_list_names_models_as_the_server_wants_to_hear_them(kind) {
        let (_fake, provider) = kind.serving([Model::new(MODEL), Model::new("meta-llama/Llama-3.1:8B")]).await;
        let mut cards = provider.as_provider().list().await.unwrap();
        cards.sort_by(|a, b| a.name.cmp(&b.name));
        let named: Vec<_> = cards.iter().map(|card| (card.name.as_str(), card.context_length)).collect();
        assert_eq!(named, [("meta-llama/Llama-3.1:8B", Some(40_960)), (MODEL, Some(40_960))]);
        assert!(cards.iter().all(|card| card.modified_at.is_some() && !card.is_remote));
    }

    async fn a_list_that_fails_is_an_error(kind) {
        let (fake, provider) = kind.playing(Scenario::Normal).await;
        let short = Timeouts { list: Duration::from_millis(200), ..timeouts() };
        provider.set_timeouts(short);
        fake.control().set_tags(Listing::Empty);
        assert_eq!(provider.as_provider().list().await, Ok(Vec::new()));
        fake.control().set_tags(Listing::Fails(500));
        assert!(matches!(provider.as_provider().list().await, Err(UpstreamError::Failed(_))));
        fake.control().set_tags(Listing::Slow(SOON * 6));
        assert_eq!(provider.as_provider().list().await, Err(UpstreamError::FirstByteTimeout(short.list)));
    }

    async fn a_probe_is_answered_as_long_as_the_server_is_there(kind) {
        let (fake, provider) = kind.playing(Scenario::OutOfMemory).await;
        assert_eq!(provider.as_provider().probe().await, Ok(()));
        fake.control().close().await;
        let away = provider.as_provider().probe().await.unwrap_err();
        assert!(away.is_the_servers_own(), "{away:?}");
    }

    async fn texts_become_vectors_in_their_order_and_are_counted_by_the_server(kind) {
        let (fake, provider) = kind.serving(embedder(Scenario::Normal)).await;
        let provider = provider.as_provider();
        let made = provider.embed(EMBEDDER, &texts(&["one", "two words", "one"])).await.unwrap();
        assert_eq!(made.vectors.len(), 3);
        assert!(made.vectors[0] == made.vectors[2] && made.vectors[0] != made.vectors[1]);
        let alone = provider.embed(EMBEDDER, &texts(&["two words"])).await.unwrap();
        assert_eq!(made.vectors[1], alone.vectors[0]);
        assert!(made.vectors.iter().all(|vector| vector.len() == 8));
        let usage = made.usage.unwrap();
        assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.source), (4, 0, UsageSource::Reported));
        let short = EmbedRequest { dimensions: Some(3), truncate: false, ..texts(&["one"]) };
        assert_eq!(provider.embed(EMBEDDER, &short).await.unwrap().vectors[0].len(), 3);
        let sent = fake.control().requests().pop().unwrap().json();
        assert_eq!((&sent["model"], &sent["dimensions"]), (&json!(EMBEDDER), &json!(3)));
    }

    async fn refusals_to_embed_have_their_meaning(kind) {
        let mut model = Model::embedding(EMBEDDER);
        model.details.context_length = Some(2);
        let (fake, provider) = kind.serving([model]).await;
        let provider = provider.as_provider();
        let long = EmbedRequest { truncate: false, ..texts(&["one two three"]) };
        let too_long = "the input length exceeds the context length".to_owned();
        assert_eq!(provider.embed(EMBEDDER, &long).await, Err(UpstreamError::Rejected(too_long)));
        let cases = [
            (Scenario::BusyThenOk { times: 1 }, UpstreamError::Busy),
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

    async fn b17_an_embedding_is_bounded_in_time_and_ends_at_the_server_when_nobody_waits_for_it(kind) {
        let (fake, provider) = kind.serving(embedder(Scenario::StallBeforeHeaders)).await;
        let short = Duration::from_millis(120);
        provider.set_timeouts(Timeouts { first_byte: short, ..timeouts() });
        let made = provider.as_provider().embed(EMBEDDER, &texts(&["a"])).await;
        assert_eq!(made, Err(UpstreamError::FirstByteTimeout(short)));
        provider.set_timeouts(timeouts());
        let request = texts(&["a"]);
        let mut waiting = provider.as_provider().embed(EMBEDDER, &request);
        tokio::select! {
            made = &mut waiting => panic!("{made:?}"),
            asked = fake.control().wait_until(|counters| counters.embed_calls == 2, SOON) => asked.unwrap(),
        };
        drop(waiting);
        let left = fake.control().wait_until(|counters| counters.cancellations == 2, SOON).await.unwrap();
        assert_eq!(left.in_flight, 0);
    }

    async fn a_server_that_is_not_there_cannot_be_connected_to(kind) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        let provider = kind.at(addr);
        assert!(matches!(ask(&provider).await.end, Err(UpstreamError::Connect(_))));
        assert!(matches!(provider.as_provider().list().await, Err(UpstreamError::Connect(_))));
    }
}
