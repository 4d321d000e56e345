//! One of two instances killed under load, as by a power cut: what was with it is lost, and nothing else.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;
use support::nginx::Proxy;
use tokio::{sync::watch, task::JoinSet, time::sleep};

use super::instances::{AFTER_GRACE, Client, ENDLESS, Ground};
use crate::{
    harness::MODEL,
    turn::{Streamed, prompt},
};

/// Clients that ask one short question after the other, half of them for a stream.
const ASKERS: usize = 6;
/// Endless answers under way, of which the proxy gives each instance some.
const ENDLESS_STREAMS: usize = 4;
/// How long the load goes on before and after the end of an instance.
const BETWEEN: Duration = Duration::from_millis(700);
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Default)]
struct Asked {
    /// Ids of the answers.
    answered: BTreeSet<String>,
    /// Questions that were lost: whether before or after the death was told.
    lost: Vec<bool>,
}

/// The answer of one question, unless the instance that had it died.
async fn answer(client: &Client, question: &str, streams: bool) -> Option<Value> {
    if streams {
        let mut opened = client.post("/v1/chat/stream", &prompt(MODEL, question)).open().await;
        if opened.status == 200 {
            if !opened.is_whole().await {
                return None;
            }
            return Some(Streamed::new(opened).last().await.data);
        }
        opened.whole().await.expect_error(502, "upstream_error");
        return None;
    }
    let reply = client.post("/v1/chat", &prompt(MODEL, question)).send().await;
    if reply.status == 200 {
        return Some(reply.json());
    }
    reply.expect_error(502, "upstream_error");
    None
}

/// Asks until `dead` is dropped; what it holds is whether the instance is dead.
async fn ask(client: Client, streams: bool, dead: watch::Receiver<bool>) -> Asked {
    let (mut asked, mut number) = (Asked::default(), 0);
    while dead.has_changed().is_ok() {
        let was_dead = *dead.borrow();
        let question = format!("{} asks for the {number}th time", client.name);
        match answer(&client, &question, streams).await {
            Some(done) => {
                assert_eq!(done["stored"], true, "{question}");
                asked.answered.insert(done["message_id"].as_str().unwrap().to_owned());
            }
            None => asked.lost.push(was_dead),
        }
        number += 1;
        sleep(PAUSE).await;
    }
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_killed_under_load_loses_only_what_was_with_it_and_nothing_is_done_twice() {
    let ground = Ground::lay(Some(3)).await;
    let (doomed, spared) = (ground.start().await, ground.start().await);
    let proxy = Proxy::start(&[doomed.gateway.addr, spared.gateway.addr]).await.unwrap();
    let client = async |name: &str| Client::sign_up(proxy.addr(), name).await;
    let listeners = [client("lea").await, client("leo").await];
    let (dead, told) = watch::channel(false);
    let mut askers = JoinSet::new();
    for number in 0..ASKERS {
        let client = client(&format!("asker-{number}")).await;
        askers.spawn(ask(client, number % 2 == 0, told.clone()));
    }
    let mut streams = JoinSet::new();
    for number in 0..ENDLESS_STREAMS {
        let listener = &listeners[number % 2];
        let mut opened =
            listener.post("/v1/chat/stream", &prompt(ENDLESS, &format!("story {number}"))).open().await;
        while opened.next().await.unwrap().event != "start" {}
        streams.spawn(async move { opened.is_whole().await });
    }
    sleep(BETWEEN).await;
    doomed.gateway.kill();
    dead.send_replace(true);
    // Those of the dead one end; an endless answer can only break off.
    assert!(!streams.join_next().await.unwrap().unwrap());
    sleep(BETWEEN).await;
    let mut cut = 1;
    while let Some(ended) = streams.try_join_next() {
        assert!(!ended.unwrap());
        cut += 1;
    }
    assert!(cut < ENDLESS_STREAMS, "the other instance had some, which go on");
    drop((dead, told));
    let asked: Vec<Asked> = askers.join_all().await;
    drop(streams);

    for (number, of) in asked.iter().enumerate() {
        assert!(of.lost.len() <= 1, "asker {number} had one question with it at most: {:?}", of.lost);
        assert!(of.lost.iter().all(|was_dead| !was_dead), "asker {number} was sent to the dead");
        assert!(of.answered.len() > 1, "asker {number} was answered {} times", of.answered.len());
    }
    let database = &ground.database;
    let complete: BTreeSet<_> = database
        .texts("SELECT id::text FROM messages WHERE role = 'assistant' AND status = 'complete'")
        .await
        .into_iter()
        .collect();
    let answered: BTreeSet<_> = asked.iter().flat_map(|of| of.answered.clone()).collect();
    assert!(answered.is_subset(&complete), "what was answered is stored");
    let lost: usize = asked.iter().map(|of| of.lost.len()).sum();
    assert!(complete.len() - answered.len() <= lost, "nothing else was done");
    let twice = database
        .texts("SELECT content FROM messages WHERE role = 'user' GROUP BY content HAVING count(*) > 1")
        .await;
    assert!(twice.is_empty(), "asked once, done twice: {twice:?}");
    assert!(spared.gateway.terminate(2 * AFTER_GRACE).await.unwrap().0.success());
    ground.database.remove().await;
}
