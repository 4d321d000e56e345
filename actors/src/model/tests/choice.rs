//! Which models callers may ask, what else they are called, and who stands in for one that is away.

use domain::{
    embedding::EmbedRequest,
    model_access::{ModelPatterns, RoleModels},
    model_alias::Aliases,
    model_name::CanonicalName,
};

use super::*;
use crate::rate_limit::TurnSize;

fn list(texts: &[&str]) -> ModelPatterns {
    ModelPatterns::of(texts.iter().copied()).unwrap()
}

fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

fn canonical(text: &str) -> CanonicalName {
    name(text).canonical()
}

fn called(aliases: &str) -> ModelConfig {
    ModelConfig { aliases: Aliases::parse(aliases).unwrap(), ..ModelConfig::default() }
}

impl House {
    async fn asked(&self, principal: &Principal, model: &str) -> Result<StartedTurn, ModelError> {
        let request = ChatRequest { model: name(model), ..ask("hello") };
        self.models.start_turn(principal, request, STORED, TokenReserve::none()).await
    }

    /// Asks, and says which model served it by the server's name for it.
    async fn served(&self, principal: &Principal, model: &str) -> String {
        let mut turn = self.asked(principal, model).await.unwrap();
        finished(&mut turn).await;
        self.script.prompts().pop().unwrap().0
    }

    fn offered(&self, principal: &Principal) -> Vec<String> {
        self.models.models_for(principal).into_iter().map(|model| model.display_name).collect()
    }

    /// Asks all servers what they have.
    async fn refresh(&self) {
        let routing = &self.models.0.routing;
        let _only_one = routing.refreshing.lock().await;
        routing.refresh().await;
    }
}

#[tokio::test]
async fn a_model_that_may_not_be_asked_is_like_one_that_is_not_there() {
    let script = Script::new(&["open:1b", "secret:8b", "llama3.2:latest"], answer("fine"));
    let house = House::open(script, ModelConfig::default()).await;
    let somebody = house.somebody().await;
    let ada = Principal { models: Some(list(&["open:*", "llama3.2"])), ..somebody.clone() };
    assert_eq!(house.offered(&somebody), ["llama3.2:latest", "open:1b", "secret:8b"]);
    assert_eq!(house.offered(&ada), ["llama3.2:latest", "open:1b"]);
    for unknown in
        ["secret:8b", "SECRET:8B", "library/secret:8b", "registry.ollama.ai/library/secret:8b", "no-such"]
    {
        assert!(
            !house.models.offers(&ada, &name(unknown)) && house.models.model(&ada, &name(unknown)).is_none()
        );
        let refused = house.asked(&ada, unknown).await.err();
        assert_eq!(refused, Some(ModelError::UnknownModel(unknown.to_owned())));
        let size = TurnSize { prompt_tokens: 1, answer_tokens: None };
        assert_eq!(house.models.counted_as(&ada, &name(unknown), size), (canonical(unknown), size));
    }
    for spelling in
        ["llama3.2", "LLAMA3.2:local", "library/llama3.2", "registry.ollama.ai/library/llama3.2:latest"]
    {
        assert!(
            house.models.offers(&ada, &name(spelling)) && house.models.model(&ada, &name(spelling)).is_some()
        );
        assert_eq!(house.served(&ada, spelling).await, "llama3.2:latest", "{spelling}");
    }
    let key = |models| Credential::Key {
        id: fresh_id(),
        scopes: Default::default(),
        limits: Limits::default(),
        models: Some(models),
    };
    let by_key = Principal { credential: key(list(&["*:1b", "secret:8b"])), ..ada.clone() };
    assert_eq!(house.offered(&by_key), ["open:1b"], "a key opens nothing that its user may not ask");
    assert_eq!(house.served(&by_key, "open:1b").await, "open:1b");
    house.close().await;
}

#[tokio::test]
async fn a_roles_list_and_aliases_are_in_force_with_the_settings_that_have_them() {
    let house = House::open(Script::new(&["small", "large"], answer("fine")), ModelConfig::default()).await;
    let ada = house.somebody().await;
    let root = Principal { role: AccountRole::Admin, ..ada.clone() };
    let roles = RoleModels { users: list(&["small"]), ..RoleModels::default() };
    let config = ModelConfig { role_models: roles, ..called("best = large") };
    house.models.reconfigure(house.models.prepare(config).unwrap());
    assert_eq!(house.offered(&ada), ["small"]);
    assert_eq!(house.offered(&root), ["best", "large", "small"]);
    assert!(!house.models.offers(&ada, &name("best")), "an alias opens nothing");
    let own = Principal { models: Some(list(&["large"])), ..ada };
    assert_eq!(house.offered(&own), ["best", "large"]);
    house.models.reconfigure(house.models.prepare(ModelConfig::default()).unwrap());
    assert_eq!(house.offered(&root), ["large", "small"]);
    house.close().await;
}

#[tokio::test]
async fn an_alias_is_asked_by_its_name_and_counts_as_its_model() {
    let script = Script::new(&["Qwen3:8B", "llama3.2:latest"], answer("fine"));
    let house = House::open(script, called("Fast = qwen3:8b then llama3.2")).await;
    let ada = house.somebody().await;
    assert_eq!(house.offered(&ada), ["Fast", "llama3.2:latest", "Qwen3:8B"]);
    let model = house.models.model(&ada, &name("FAST:latest")).unwrap();
    assert_eq!((model.name, model.alias_of.as_deref()), (canonical("fast"), Some("Qwen3:8B")));

    let mut turn = house.asked(&ada, "fAsT").await.unwrap();
    assert_eq!(turn.model.as_str(), "fAsT", "in the caller's spelling");
    finished(&mut turn).await;
    assert_eq!(house.script.prompts()[0].0, "Qwen3:8B");
    let (stored, _) = house.db.turn(ada.user, turn.turn).await.unwrap().unwrap();
    assert_eq!(stored.model, "qwen3:8b");
    let size = TurnSize { prompt_tokens: 1, answer_tokens: Some(7) };
    assert_eq!(house.models.counted_as(&ada, &name("fast"), size), (canonical("qwen3:8b"), size));

    // Whoever may not ask the first gets the second, and is not told of the first.
    let bob = Principal { models: Some(list(&["llama3.2"])), ..ada };
    assert_eq!(house.served(&bob, "fast").await, "llama3.2:latest");
    let model = house.models.model(&bob, &name("fast")).unwrap();
    assert_eq!(model.alias_of.as_deref(), Some("llama3.2:latest"));
    house.close().await;
}

#[tokio::test]
async fn texts_become_vectors_by_the_models_that_their_caller_may_ask() {
    let house =
        House::open(Script::new(&["nomic:latest", "secret:1b"], answer("")), called("vectors = nomic")).await;
    let ada = Principal { models: Some(list(&["nomic"])), ..house.somebody().await };
    let embed = async |model: &str| {
        let inputs = vec!["hello".to_owned()];
        let request = EmbedRequest { model: name(model), inputs, dimensions: None, truncate: true };
        let options = TurnOptions { store: false, ..STORED };
        house.models.start_embedding(&ada, request, options, TokenReserve::none()).await
    };
    let started = embed("Vectors").await.unwrap();
    assert_eq!(started.model.as_str(), "Vectors");
    let (_, ending) = started.finished().await;
    assert_eq!(ending.outcome, Outcome::Complete(FinishReason::Stop));
    let refused = embed("secret:1b").await.err();
    assert_eq!(refused, Some(ModelError::UnknownModel("secret:1b".to_owned())));
    house.close().await;
}

#[tokio::test]
async fn an_alias_stands_before_a_model_of_its_name() {
    let script = Script::new(&["fast:latest", "qwen3:8b"], answer("fine"));
    let house = House::open(script, called("fast = qwen3:8b")).await;
    let ada = house.somebody().await;
    assert_eq!(house.offered(&ada), ["fast", "qwen3:8b"]);
    assert_eq!(house.served(&ada, "fast").await, "qwen3:8b");
    let bob = Principal { models: Some(list(&["fast"])), ..ada };
    assert_eq!(house.offered(&bob), [""; 0], "what counts is what it stands for");
    assert_eq!(house.asked(&bob, "fast").await.err(), Some(ModelError::UnknownModel("fast".to_owned())));
    house.close().await;
}

#[tokio::test]
async fn an_alias_of_models_that_leave_the_machine_is_none_unless_they_are_allowed() {
    let aliases = "far = gpt-oss:20b-cloud, near = gpt-oss:20b-cloud then m";
    let house = House::open(Script::new(&["gpt-oss:20b-cloud", "m"], answer("fine")), called(aliases)).await;
    let ada = house.somebody().await;
    assert_eq!(house.offered(&ada), ["m", "near"]);
    assert_eq!(house.served(&ada, "near").await, "m");
    assert_eq!(house.asked(&ada, "far").await.err(), Some(ModelError::UnknownModel("far".to_owned())));
    let open = ModelConfig { allow_cloud: true, ..called(aliases) };
    house.models.reconfigure(house.models.prepare(open).unwrap());
    house.refresh().await;
    assert_eq!(house.offered(&ada), ["far", "gpt-oss:20b-cloud", "m", "near"]);
    assert_eq!(house.served(&ada, "far").await, "gpt-oss:20b-cloud");
    house.close().await;
}

#[tokio::test]
async fn while_a_server_is_away_its_models_are_stood_in_for_and_the_first_ones_refusal_counts_if_all_are() {
    let one = Script::new(&["first", "alone"], answer("fine"));
    let two = Script::new(&["second"], answer("stands in"));
    let config = ModelConfig { breaker_failures: 2, ..called("best = first then second") };
    let house = House::over(&[&one, &two], fleet::near_and_far(config), true).await;
    let ada = house.somebody().await;
    let told = async || {
        let mut turn = house.asked(&ada, "best").await.unwrap();
        finished(&mut turn).await.0
    };
    assert_eq!(told().await, "fine");

    // It has failed once: it would still be asked, but not where another stands in.
    let refresh_without = async |script: &Script, times| {
        script.probe_as(Err(UpstreamError::Connect("refused".to_owned())));
        script.list_as(Err(UpstreamError::Connect("refused".to_owned())));
        for _ in 0..times {
            house.refresh().await;
        }
    };
    refresh_without(&one, 1).await;
    assert_eq!(told().await, "stands in");
    let model = house.models.model(&ada, &name("best")).unwrap();
    assert_eq!((model.alias_of.as_deref(), model.state), (Some("second"), ModelState::Available));
    // One that answers is up again.
    assert_eq!(house.served(&ada, "alone").await, "alone");
    assert_eq!(told().await, "fine");

    refresh_without(&one, 2).await;
    let is_away = |refused| matches!(refused, Some(ModelError::ServerAway { .. }));
    assert!(is_away(house.asked(&ada, "alone").await.err()));
    assert_eq!(told().await, "stands in");
    refresh_without(&two, 2).await;
    assert!(is_away(house.asked(&ada, "best").await.err()));
    assert!(house.models.offers(&ada, &name("best")), "it is there, and says so");
    house.close().await;
}

#[tokio::test]
async fn answers_have_no_more_tokens_than_the_operator_lets_their_model_say() {
    let config = ModelConfig {
        answer_tokens: 500,
        answer_tokens_of: [(canonical("terse"), 9)].into(),
        ..called("brief = terse")
    };
    let house = House::open(Script::new(&["m", "terse"], answer("fine")), config).await;
    let ada = house.somebody().await;
    for (model, asked, sent) in [
        ("m", None, Some(500)),
        ("m", Some(10), Some(10)),
        ("m", Some(131_072), Some(500)),
        ("TERSE:local", Some(10), Some(9)),
        ("brief", Some(10), Some(9)),
        ("brief", None, Some(9)),
    ] {
        let mut request = ChatRequest { model: name(model), ..ask("hello") };
        request.sampling.num_predict = asked;
        let size = TurnSize::of(&request);
        let counted = house.models.counted_as(&ada, &request.model, size).1.answer_tokens;
        assert_eq!(counted, asked.and(sent), "{model} {asked:?}");
        let turn = house.models.start_turn(&ada, request, STORED, TokenReserve::none()).await;
        finished(&mut turn.unwrap()).await;
        let (_, prompt) = house.script.prompts().pop().unwrap();
        assert_eq!(prompt.sampling.num_predict, sent, "{model} {asked:?}");
    }
    house.models.reconfigure(house.models.prepare(ModelConfig::default()).unwrap());
    let mut turn = house.asked(&ada, "m").await.unwrap();
    finished(&mut turn).await;
    let (_, prompt) = house.script.prompts().pop().unwrap();
    assert_eq!(prompt.sampling.num_predict, None, "left to the server");
    house.close().await;
}
