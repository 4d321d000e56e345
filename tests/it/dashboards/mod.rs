//! Dashboards, alerts and runbook, held against a service that a real Prometheus watches.
//!
//! What they ask is worth nothing once a metric changes its name; a graph of it would only be empty, and its alert silent.

mod files;
mod watched;

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use self::{
    files::{Asked, dashboards, exported, metrics, runbook},
    watched::Watched,
};
use crate::harness::{PATIENCE, until};
/// Alerts about times, which a busy machine may bring near; they last for minutes before they fire.
const OF_TIMES: [&str; 4] =
    ["DatabasePoolExhausted", "FirstTokenLate", "PasswordHashingSaturated", "QueueWaitHigh"];

/// All that is asked anywhere, of rules by their names.
async fn all_asked(watched: &Watched) -> Vec<Asked> {
    let rules = watched.rules().await.into_iter().map(|rule| Asked {
        place: rule["name"].as_str().unwrap().to_owned(),
        expression: rule["query"].as_str().unwrap().to_owned(),
    });
    rules.chain(dashboards()).chain(runbook()).collect()
}

/// Asserts that every metric which is asked for is there.
async fn assert_all_names_are_known(watched: &Watched, asked: &[Asked]) {
    let mut known = exported(&watched.app.metrics().await);
    let records = asked.iter().map(|asked| &asked.place).filter(|place| place.starts_with("job:"));
    known.extend(records.cloned());
    let mut unknown = BTreeMap::<&str, BTreeSet<&str>>::new();
    for Asked { place, expression } in asked {
        for name in metrics(expression).into_iter().filter(|name| !known.contains(*name)) {
            unknown.entry(name).or_default().insert(place);
        }
    }
    assert!(
        unknown.is_empty(),
        "metrics that the service does not export, and who asks for them: {unknown:#?}"
    );
}

/// Uses and misuses the service until every expression of every dashboard has an answer.
async fn assert_every_panel_shows_something(watched: &Watched) {
    let (give_up, mut silent) = (Instant::now() + PATIENCE, dashboards());
    while !silent.is_empty() {
        assert!(Instant::now() < give_up, "no data: {silent:#?}");
        tokio::join!(watched.use_it(), watched.misuse_it());
        let mut left = Vec::new();
        for one in silent {
            let answer =
                watched.ask(&one.expression).await.unwrap_or_else(|error| panic!("{one:?}: {error}"));
            if answer.is_empty() {
                left.push(one);
            }
        }
        silent = left;
    }
}

#[tokio::test]
async fn every_expression_is_answered_and_alerts_tell_a_healthy_service_from_a_broken_one() {
    let mut watched = Watched::start().await;

    // It begins to look about five seconds after its start; rates need two looks.
    until("a scrape", async || !watched.ask("up == 1").await.unwrap().is_empty()).await;
    watched.use_it().await;
    let rate = "rate(deepersensor_turns_total{status=\"complete\"}[1m]) > 0";
    until("the turns to be scraped", async || {
        watched.use_it().await;
        !watched.ask(rate).await.unwrap().is_empty()
    })
    .await;
    watched.caught_up().await;
    for rule in watched.rules().await {
        assert_eq!(rule["health"], "ok", "{rule:#}");
    }
    let alerts = watched.alerts().await;
    assert!(alerts.len() > 20, "{alerts:?}");
    let is_calm = |(name, state): (&String, &String)| {
        state == "inactive" || state == "pending" && OF_TIMES.contains(&name.as_str())
    };
    assert!(alerts.iter().all(is_calm), "a healthy service alarms: {alerts:#?}");

    assert_every_panel_shows_something(&watched).await;
    let asked = all_asked(&watched).await;
    for one in &asked {
        watched.ask(&one.expression).await.unwrap_or_else(|error| panic!("{one:?}: {error}"));
    }
    assert_all_names_are_known(&watched, &asked).await;

    watched.app.ollama.control().close().await;
    watched.redis.kill().unwrap();
    watched.ask_in_vain().await;
    watched.alarmed(&["NoModelServer", "ModelServerAway", "ModelServerBreakerOpen", "LimiterAlone"]).await;
    watched.app.ollama.control().reopen().await.unwrap();
    watched.app.stop().await;
    watched.alarmed(&["ServiceDown", "InstanceDown"]).await;
    watched.app.finish().await;
}
