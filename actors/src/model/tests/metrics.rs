//! What the room shows of its models and servers.

use prometheus_client::encoding::text::encode;

use super::*;

impl House {
    fn page(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.ctx.registry.lock()).unwrap();
        text
    }

    /// The sample of this name and these labels.
    fn sample(&self, name: &str) -> Option<u64> {
        let page = self.page();
        let value =
            page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        value.map(|value| value.parse().unwrap())
    }
}

#[tokio::test]
async fn a_model_is_on_the_page_for_as_long_as_it_is_in_the_catalogue_and_a_late_end_does_not_bring_it_back()
{
    let house = House::open(Script::new(&["m", "other"], answer("fine")), ModelConfig::default()).await;
    let ended = |model, status| {
        house.sample(&format!("deepersensor_turns_total{{model=\"{model}:latest\",status=\"{status}\"}}"))
    };
    assert_eq!(
        (ended("m", "complete"), ended("m", "failed")),
        (Some(0), Some(0)),
        "rates of 0, not of nothing"
    );
    let full = "deepersensor_model_queue_refused_total{model=\"m:latest\",reason=\"full\"}";
    assert_eq!(house.sample(full), Some(0));

    let ada = house.somebody().await;
    let (steps, go) = held_up();
    house.script.then(Ok(steps));
    let mut running = house.turn(&ada).await;
    until_open(&house.script, 1).await;
    assert_eq!(house.sample("deepersensor_model_slots_busy{model=\"m:latest\"}"), Some(1));
    let routing = house.models.0.routing.clone();
    let cards: Vec<_> = routing.known.load().catalogue.models().map(|model| model.card.clone()).collect();
    let other = cards.iter().filter(|card| card.name == "other").cloned().collect();
    house.script.list_as(Ok(other));
    routing.refresh().await;
    assert!(!house.page().contains("\"m:latest\""), "{}", house.page());
    assert_eq!(ended("other", "complete"), Some(0));

    go.notify_one();
    assert_eq!(finished(&mut running).await.0, "still here");
    while !routing.retiring.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(!house.page().contains("\"m:latest\""), "{}", house.page());
    house.script.list_as(Ok(cards));
    routing.refresh().await;
    assert_eq!(ended("m", "complete"), Some(0), "it begins anew");
    house.close().await;
}

#[tokio::test]
async fn the_gaps_between_texts_of_an_answer_are_counted_and_nothing_else_is() {
    let house = House::open(Script::new(&["m"], answer("at once")), ModelConfig::default()).await;
    let ada = house.somebody().await;
    let gaps = || house.sample("deepersensor_turn_token_gap_seconds_count{model=\"m:latest\"}");
    finished(&mut house.turn(&ada).await).await;
    assert_eq!(gaps(), None, "one text has no gap");
    let mut steps =
        vec![say("one"), Step::Give(Vec::new()), say("two"), Step::Wait(Duration::from_millis(60))];
    steps.extend(answer("three"));
    house.script.then(Ok(steps));
    finished(&mut house.turn(&ada).await).await;
    assert_eq!(gaps(), Some(2));
    let up_to = |bound| {
        house.sample(&format!(
            "deepersensor_turn_token_gap_seconds_bucket{{le=\"{bound}\",model=\"m:latest\"}}"
        ))
    };
    assert!(up_to("0.05") <= Some(1) && up_to("30.0") == Some(2), "{}", house.page());
    house.close().await;
}

#[tokio::test]
async fn failures_of_a_model_server_are_counted_by_kind_before_and_after_an_answer_began() {
    let house = House::open(Script::new(&["m"], answer("fine")), ModelConfig::default()).await;
    let ada = house.somebody().await;
    let failures = |kind| {
        house.sample(&format!("deepersensor_upstream_failures_total{{upstream=\"ollama\",kind=\"{kind}\"}}"))
    };
    assert_eq!(UpstreamError::KINDS.map(failures), [Some(0); UpstreamError::KINDS.len()], "{}", house.page());
    house.script.then(Err(UpstreamError::Failed("status 500".to_owned())));
    finished(&mut house.turn(&ada).await).await;
    house.script.then(Ok(vec![Step::Fail(UpstreamError::Garbage("<html>".to_owned()))]));
    finished(&mut house.turn(&ada).await).await;
    house.script.then(Ok(vec![say("half an "), Step::Fail(UpstreamError::Incomplete)]));
    finished(&mut house.turn(&ada).await).await;
    let counted = ["failed", "garbage", "incomplete", "connect"].map(failures);
    assert_eq!(counted, [Some(1), Some(1), Some(1), Some(0)]);
    assert_eq!(house.sample("deepersensor_turns_total{model=\"m:latest\",status=\"failed\"}"), Some(3));
    house.close().await;
}
