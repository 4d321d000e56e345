//! A collector that is away, frozen or lying harms nobody.

use std::time::Duration;

use support::otlp::Manners;

use super::Ground;
use crate::{
    harness::{MODEL, PATIENCE, until},
    turn::prompt,
};

/// What a stop may take: its grace, and what follows it.
const STOP_AT_MOST: Duration = Duration::from_secs(2 + 5);

/// More spans than one batch has.
const REQUESTS: usize = 80;

async fn ask_often(ground: &Ground) {
    for _ in 0..REQUESTS {
        ground.get("/v1/models").send().await.expect_status(200);
    }
    ground.chat("/v1/chat", &prompt(MODEL, "hi")).send().await.expect_status(200);
}

fn said(ground: &Ground, outcome: &str) -> usize {
    ground.log().iter().filter(|line| line["event"] == "traces" && line["outcome"] == outcome).count()
}

/// Asserts that the service, which has spans that were not sent, ends well and in time.
async fn assert_stops(ground: Ground) {
    let Ground { gateway, database, scratch, .. } = ground;
    let (status, took) = gateway.terminate(PATIENCE).await.unwrap();
    assert!(status.success() && took < STOP_AT_MOST, "{status} after {took:?}");
    drop(scratch);
    database.remove().await;
}

#[tokio::test]
async fn d07_requests_and_the_stop_do_not_wait_for_a_collector_that_never_answers() {
    let ground = Ground::small(&[("RATE_LIMIT_BURST", "1000")]).await;
    ground.collector.behave(Manners::Freezes);
    ask_often(&ground).await;
    until("a batch to be stuck", async || ground.collector.batches() > 0).await;
    ask_often(&ground).await;
    assert_stops(ground).await;
}

#[tokio::test]
async fn requests_go_on_without_a_collector_which_is_told_once_and_when_it_is_back() {
    let ground = Ground::small(&[("RATE_LIMIT_BURST", "1000")]).await;
    ground.collector.leave().await;
    ask_often(&ground).await;
    until("the loss to be told", async || said(&ground, "down") > 0).await;
    ask_often(&ground).await;
    ground.collector.come_back().await.unwrap();
    until("the return to be told", async || {
        ground.get("/v1/models").send().await.expect_status(200);
        said(&ground, "up") > 0
    })
    .await;
    assert_eq!(said(&ground, "down"), 1, "each batch that is lost is not worth a line");
    let models = ground.get("/v1/models").send().await.expect_status(200);
    let id = models.header("x-request-id").unwrap();
    let is_sent = |span: &support::otlp::Span| span.attributes.values().any(|value| value == id);
    ground
        .collector
        .wait_for(PATIENCE, |collector| collector.spans().iter().any(is_sent).then_some(()))
        .await
        .unwrap();
    ground.finish().await;
}

#[tokio::test]
async fn a_collector_that_refuses_or_lies_costs_nothing_but_its_traces() {
    for manners in [Manners::Refuses, Manners::Lies] {
        let ground = Ground::small(&[("RATE_LIMIT_BURST", "1000")]).await;
        ground.collector.behave(manners);
        ask_often(&ground).await;
        until("a batch to be answered", async || ground.collector.batches() > 0).await;
        if manners == Manners::Refuses {
            until("the loss to be told", async || said(&ground, "down") == 1).await;
            let log = ground.log();
            let line = log.iter().find(|line| line["event"] == "traces").unwrap();
            assert!(line["error"].as_str().unwrap().len() <= 200, "{line}");
        }
        assert_stops(ground).await;
    }
}

#[tokio::test]
async fn the_last_traces_are_sent_before_the_process_ends() {
    let ground = Ground::small(&[]).await;
    let models = ground.get("/v1/models").send().await.expect_status(200);
    let id = models.header("x-request-id").unwrap().to_owned();
    let Ground { gateway, collector, database, scratch, .. } = ground;
    gateway.terminate(PATIENCE).await.unwrap();
    let is_root = |span: &support::otlp::Span| span.attributes.values().any(|value| *value == id);
    assert!(collector.spans().iter().any(is_root));
    drop(scratch);
    database.remove().await;
}
