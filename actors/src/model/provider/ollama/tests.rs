//! What only Ollama has: loading, details that only it tells, and its own words. The rest is in [`super::super::contract`].

use std::time::Duration;

use domain::chat::Completion;
use support::fake_ollama::{Config, FakeOllama, Listing, Model, Scenario};

use super::*;
use crate::model::provider::{
    Batch,
    contract::{EMBEDDER, Kind, MODEL, SOON, ask, ask_for, request, texts, timeouts},
};

fn provider_at(url: &str) -> OllamaProvider {
    OllamaProvider::new("test", url, timeouts()).unwrap()
}

async fn with_scenario(scenario: Scenario) -> (FakeOllama, OllamaProvider) {
    let fake =
        FakeOllama::start(Config::with([Model::new(MODEL).tokens(10).scenario(scenario)])).await.unwrap();
    let provider = provider_at(&fake.url());
    (fake, provider)
}

#[tokio::test]
async fn what_a_continued_text_thinks_is_told_apart() {
    let (fake, provider) = Kind::Ollama.playing(Scenario::Thinking).await;
    let chat = ask(&provider).await;
    let request = ChatRequest { completion: Some(Completion { suffix: None, raw: false }), ..request() };
    let generated = ask_for(&provider, &request).await;
    assert_eq!(fake.control().counters().generate_calls, 1);
    assert!(!generated.thinking.is_empty());
    assert_eq!((generated.thinking, generated.content), (chat.thinking, chat.content));
}

#[tokio::test]
async fn a_refusal_to_embed_that_no_caller_can_mend_is_not_told_them() {
    let model = Model::embedding(EMBEDDER)
        .scenario(Scenario::Error { status: 400, message: "do embedding request: EOF" });
    let (_fake, provider) = Kind::Ollama.serving([model]).await;
    let made = provider.as_provider().embed(EMBEDDER, &texts(&["a"])).await;
    assert_eq!(made, Err(UpstreamError::Declined("status 400: do embedding request: EOF".to_owned())));
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
async fn a_stalled_ps_does_not_hide_the_list() {
    let (fake, _) = with_scenario(Scenario::Normal).await;
    let short = Timeouts { list: Duration::from_millis(200), ..timeouts() };
    let provider = OllamaProvider::new("test", &fake.url(), short).unwrap();
    fake.control().set_ps(Listing::Slow(SOON * 6));
    assert_eq!(provider.list().await.unwrap().len(), 1);
    assert_eq!(provider.loaded().await, Err(UpstreamError::FirstByteTimeout(short.list)));
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
