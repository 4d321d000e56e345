//! A model on two servers: what one fails is asked of the other, and one that drains takes nothing.

use super::*;
use crate::model::{ServerState, UpstreamConfig, UpstreamKind};

/// Two servers with a slot each, which hold the model in memory; `config` may say more.
pub(super) async fn open(near: &Script, far: &Script, config: ModelConfig) -> House {
    [near, far].iter().for_each(|script| script.holds(&["m"]));
    House::over(&[near, far], near_and_far(config), true).await
}

pub(super) fn near_and_far(config: ModelConfig) -> ModelConfig {
    let server =
        |name: &str| UpstreamConfig::new(name, UpstreamKind::Ollama { base_url: format!("http://{name}") });
    ModelConfig { upstreams: vec![server("near"), server("far")], ..config }
}

fn refused() -> Result<Vec<Step>, UpstreamError> {
    Err(UpstreamError::Connect("refused".to_owned()))
}

#[tokio::test]
async fn what_a_server_fails_before_its_first_byte_is_asked_of_the_other_once() {
    let failures = [
        UpstreamError::Connect("refused".to_owned()),
        UpstreamError::Failed("status 500".to_owned()),
        UpstreamError::FirstByteTimeout(Duration::from_secs(1)),
        UpstreamError::Garbage("<html>".to_owned()),
        UpstreamError::NoSuchModel,
        UpstreamError::Incomplete,
    ];
    for failure in failures {
        let (near, far) = (Script::new(&["m"], answer("fine")), Script::new(&["m"], answer("fine")));
        let house = open(&near, &far, ModelConfig::default()).await;
        let ada = house.somebody().await;
        for script in [&near, &far] {
            script.then(Ok(vec![Step::Fail(failure.clone())]));
        }
        // Whichever is asked first fails it, and so does the other: never a third time.
        let mut turn = house.turn(&ada).await;
        let (_, outcome, stored) = finished(&mut turn).await;
        assert!(matches!(outcome, Outcome::Failed { .. }) && stored == Some(true), "{failure}: {outcome:?}");
        assert_eq!((near.prompts().len(), far.prompts().len()), (1, 1), "{failure}");
        // And where the other answers, nobody notices.
        near.then(Ok(vec![Step::Fail(failure.clone())]));
        let mut moved = 0;
        while moved == 0 {
            let mut turn = house.turn(&ada).await;
            assert_eq!(finished(&mut turn).await.0, "fine");
            assert_eq!(house.stored(&ada, &turn).await, ("fine".to_owned(), TurnStatus::Complete));
            moved = near.prompts().len() - 1;
        }
        house.close().await;
    }
}

#[tokio::test]
async fn what_the_caller_did_wrong_and_what_broke_off_is_asked_of_nobody_else() {
    for steps in [
        Err(UpstreamError::Rejected("no".to_owned())),
        Ok(vec![say("half"), Step::Fail(UpstreamError::Failed("cut".to_owned()))]),
    ] {
        let (near, far) = (Script::new(&["m"], answer("fine")), Script::new(&["m"], answer("fine")));
        let house = open(&near, &far, ModelConfig::default()).await;
        let ada = house.somebody().await;
        [&near, &far].iter().for_each(|script| script.then(steps.clone()));
        let mut turn = house.turn(&ada).await;
        let (_, outcome, _) = finished(&mut turn).await;
        assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
        assert_eq!(near.prompts().len() + far.prompts().len(), 1);
        house.close().await;
    }
}

#[tokio::test]
async fn a_turn_that_waits_for_the_other_server_can_be_cancelled_and_is_in_nobodys_way() {
    let (near, far) = (Script::new(&["m"], answer("fine")), Script::new(&["m"], answer("fine")));
    let house = open(&near, &far, ModelConfig::default()).await;
    let ada = house.somebody().await;
    // Both slots are taken; the one that fails has to wait for the other.
    let (go, stop) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let ends = |go: &Arc<Notify>, last: Vec<Step>| Ok([vec![Step::Await(go.clone())], last].concat());
    near.then(ends(&go, vec![Step::Fail(UpstreamError::Failed("status 500".to_owned()))]));
    far.then(ends(&stop, answer("late")));
    let mut turns = [house.turn(&ada).await, house.turn(&ada).await];
    until_open(&near, 1).await;
    until_open(&far, 1).await;
    go.notify_one();
    until_open(&near, 0).await;
    // What comes after it is served meanwhile.
    let mut next = house.turn(&ada).await;
    assert_eq!(finished(&mut next).await.0, "fine");
    assert_eq!(house.models.models()[0].waiting, 1);
    turns.iter().for_each(|turn| turn.reader.cancel());
    for turn in &mut turns {
        assert!(failed(FailureCode::Cancelled)(&finished(turn).await.1));
    }
    assert_eq!((far.prompts().len(), house.models.models()[0].waiting), (1, 0));
    house.close().await;
}

#[tokio::test]
async fn a_server_that_drains_ends_what_it_runs_and_begins_nothing() {
    let (near, far) = (Script::new(&["m"], answer("fine")), Script::new(&["m"], answer("fine")));
    let house = open(&near, &far, ModelConfig::default()).await;
    let ada = house.somebody().await;
    let (steps, go) = held_up();
    [&near, &far].iter().for_each(|script| script.then(Ok(steps.clone())));
    let mut running = house.turn(&ada).await;
    assert!(running.reader.started().await);
    let (busy, other, name) =
        if near.prompts().len() == 1 { (&near, &far, "near") } else { (&far, &near, "far") };
    // The other's script is not wanted.
    other.always(Ok(answer("fine")));
    let drained = house.models.drain(name, true).unwrap();
    assert!(drained.is_change && !house.models.drain(name, true).unwrap().is_change);
    assert_eq!((drained.server.state, drained.server.running), (ServerState::Draining, 1));
    assert_eq!(house.models.drain("nobody", true), None);
    let before = busy.prompts().len();
    // The first answer of the other is the held-up one.
    let mut first = house.turn(&ada).await;
    until_open(other, 1).await;
    go.notify_waiters();
    go.notify_one();
    assert_eq!(finished(&mut running).await.0, "still here");
    go.notify_one();
    assert_eq!(finished(&mut first).await.0, "still here");
    for _ in 0..5 {
        let mut turn = house.turn(&ada).await;
        assert_eq!(finished(&mut turn).await.0, "fine");
    }
    assert_eq!(busy.prompts().len(), before);

    for server in house.models.fleet() {
        house.models.drain(&server.name, true).unwrap();
    }
    let refused = house.models.start_turn(&ada, ask("hello"), STORED, TokenReserve::none()).await.err();
    assert!(matches!(refused, Some(ModelError::Draining { .. })), "{refused:?}");
    assert_eq!(house.models.models()[0].state, ModelState::Unreachable);
    house.models.drain(name, false).unwrap();
    let mut turn = house.turn(&ada).await;
    assert_eq!(finished(&mut turn).await.0, "fine");
    assert_eq!(busy.prompts().len(), before + 1);
    house.close().await;
}

#[tokio::test]
async fn a_reload_changes_names_and_weights_of_servers_that_stay_what_they_were() {
    let (near, far) = (Script::new(&["m"], answer("fine")), Script::new(&["m"], answer("fine")));
    let house = open(&near, &far, ModelConfig { breaker_failures: 1, ..ModelConfig::default() }).await;
    let ada = house.somebody().await;
    near.probe_as(Err(UpstreamError::Connect("refused".to_owned())));
    near.always(refused());
    // Until one was asked of it.
    while near.prompts().is_empty() {
        let mut turn = house.turn(&ada).await;
        assert_eq!(finished(&mut turn).await.0, "fine");
    }
    house.models.drain("far", true).unwrap();
    let mut config = house.models.0.routing.live.load().config.clone();
    config.upstreams.reverse();
    config.upstreams[1].name = "gpu".to_owned();
    config.upstreams[1].weight = 7;
    let prepared = house.models.prepare(config).unwrap();
    house.models.reconfigure(prepared);
    let told: Vec<_> =
        house.models.fleet().into_iter().map(|one| (one.name, one.weight, one.state, one.breaker)).collect();
    assert_eq!(told[0], ("far".to_owned(), 1, ServerState::Draining, "closed"));
    assert_eq!((told[1].0.as_str(), told[1].1, told[1].2), ("gpu", 7, ServerState::Away));
    house.close().await;
}
