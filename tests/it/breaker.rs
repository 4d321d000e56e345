//! A model server that goes away, as its callers see it.

use std::time::Duration;

use futures_util::future::join_all;
use support::fake_ollama::{Model, Scenario};
use tokio::time::{Instant, timeout};

use crate::{
    harness::{MODEL, PATIENCE, Session, Store, TestApp, until},
    turn::{Streamed, prompt, service, service_with, unstored},
};

/// What a server may take to be noticed when it is back: a probe each second, and a busy machine.
const RECOVERY: Duration = Duration::from_secs(4);

async fn state(app: &TestApp, session: &Session) -> String {
    let path = format!("/v1/models/{MODEL}");
    let model = app.get(&path).bearer(&session.access).send().await.expect_status(200).json();
    model["state"].as_str().unwrap().to_owned()
}

/// The gauge of this name of the one model server.
async fn gauge(app: &TestApp, name: &str) -> u64 {
    let metrics = app.metrics().await;
    let series = format!("deepersensor_upstream_{name}{{upstream=\"ollama\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
    value.unwrap_or_else(|| panic!("no {series} in {metrics}")).parse().unwrap()
}

#[tokio::test]
async fn d06_a_dead_server_is_refused_at_once_holds_no_slot_and_serves_again_soon_after_it_is_back() {
    let app = service_with(Store::Sqlite, [Model::new(MODEL).parallel(4)], |config| {
        config.system.model.slots = 4;
    })
    .await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    app.warm_up(&ada, MODEL).await;
    assert_eq!((gauge(&app, "breaker").await, gauge(&app, "up").await), (0, 1));
    let asks = || app.chat(&ada, &unstored(MODEL, "anybody there")).send();

    app.ollama.control().close().await;
    let under_way = join_all((0..40).map(|_| asks()));
    let outage = async {
        until("the breaker to open", async || gauge(&app, "breaker").await == 2).await;
        let asked = Instant::now();
        let refused = join_all((0..40).map(|_| asks())).await;
        let took = asked.elapsed();
        for reply in refused {
            let reply = reply.expect_error(503, "overloaded");
            let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=3).contains(&wait), "{wait}");
        }
        assert!(took < Duration::from_secs(2), "forty refusals took {took:?}");
        // Whoever was about to try once more does so and is told, too.
        until("all slots to be free", async || app.queue(&ada, MODEL).await["running"] == 0).await;
        assert_eq!((state(&app, &ada).await.as_str(), gauge(&app, "up").await), ("unreachable", 0));
        app.ollama.control().reopen().await.unwrap();
        let back = Instant::now();
        until("the server to be noticed", async || state(&app, &ada).await == "available").await;
        assert!(back.elapsed() < RECOVERY, "it took {:?}", back.elapsed());
    };
    let (under_way, ()) = tokio::join!(under_way, outage);
    // Those who notice are told what happened. They are as many as failures open the breaker, and whoever was in another
    // slot then.
    let noticed = under_way.iter().filter(|reply| reply.status == 502).count();
    assert!((1..5 + 4).contains(&noticed), "{noticed} noticed");
    let answered = under_way.iter().filter(|reply| reply.status == 200).count();
    let refused = under_way.iter().filter(|reply| reply.status == 503).count();
    assert_eq!(
        noticed + answered + refused,
        40,
        "{:?}",
        under_way.iter().map(|reply| reply.status).collect::<Vec<_>>()
    );
    asks().await.expect_status(200);
    assert_eq!((gauge(&app, "breaker").await, gauge(&app, "up").await), (0, 1));
    app.finish().await;
}

#[tokio::test]
async fn d06_what_waits_when_the_server_dies_is_served_when_it_is_back() {
    let endless = Model::new(MODEL).tokens(100_000).tokens_per_s(100.0);
    let app = service(Store::Sqlite, [endless]).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let mut running = app.ask(&ada, &prompt(MODEL, "in the slot")).await;
    running.until("chunk").await;
    app.ollama.control().change_model(MODEL, |model| model.tokens = 2);
    let mut waiting = Vec::new();
    for turn in 0..12 {
        waiting.push(app.ask(&ada, &prompt(MODEL, &format!("turn {turn}"))).await);
    }
    app.ollama.control().close().await;
    assert_eq!(running.failure().await, "upstream_incomplete");
    until("the breaker to open", async || gauge(&app, "breaker").await == 2).await;
    until("the slot to be free", async || app.queue(&ada, MODEL).await["running"] == 0).await;
    app.ollama.control().reopen().await.unwrap();
    let ends = join_all(waiting.iter_mut().map(Streamed::last)).await;
    let failed = ends.iter().filter(|end| end.event == "error").count();
    // Five failures, of which some are second tries.
    assert!((1..=5).contains(&failed), "{failed} of {} failed", ends.len());
    assert!(ends.iter().skip(5).all(|end| end.event == "done"), "{ends:#?}");
    app.finish().await;
}

#[tokio::test]
async fn d06_a_server_that_is_only_busy_keeps_its_breaker_closed() {
    let busy = Model::new(MODEL).parallel(4).scenario(Scenario::BusyThenOk { times: 12 });
    let app = service_with(Store::Sqlite, [busy], |config| config.system.model.slots = 4).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let turns = join_all((0..8).map(|turn| app.chat(&ada, &unstored(MODEL, &format!("turn {turn}"))).send()));
    let watch = async {
        let seen = app.ollama.control().wait_until(|counters| counters.requests >= 12, RECOVERY * 5).await;
        seen.unwrap();
        gauge(&app, "breaker").await
    };
    let (turns, breaker) = tokio::join!(turns, watch);
    for turn in turns {
        turn.expect_status(200);
    }
    assert_eq!((breaker, gauge(&app, "breaker").await), (0, 0));
    app.finish().await;
}

/// Nobody is left who probes a server that is away.
#[tokio::test]
async fn d07_a_server_that_is_away_does_not_hold_a_shutdown_up() {
    let mut app = service_with(Store::Sqlite, [Model::new(MODEL)], |config| {
        config.http.drain_grace = PATIENCE;
    })
    .await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    app.warm_up(&ada, MODEL).await;
    app.ollama.control().close().await;
    until("the breaker to open", async || {
        app.chat(&ada, &unstored(MODEL, "anybody there")).send().await;
        gauge(&app, "breaker").await > 0
    })
    .await;
    timeout(PATIENCE / 2, app.stop()).await.expect("nothing goes on");
    app.finish().await;
}
