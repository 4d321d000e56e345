//! Clients that leave while their turn is being committed over a slow link: who was answered finds it, and no transaction is
//! left open (E1).

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use support::{
    client::{Connection, with_body},
    fake_ollama::Model,
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::kept::Kept;
use crate::{
    harness::{MODEL, Options, PATIENCE, Random, Store, TestApp, asked, until},
    turn::{prompt, told},
};

/// Clients that ask, and how many do so at once.
const ASKED: usize = 120;
const AT_ONCE: usize = 12;
/// What the link adds to each read of each direction.
const LATENCY: Duration = Duration::from_millis(5);

/// Asks, and leaves after some time if the answer takes longer. The id of the turn, if it was told, and what that took.
async fn ask(request: String, addr: SocketAddr, patience: Duration) -> Option<(String, Duration)> {
    let begun = Instant::now();
    let mut connection = Connection::open(addr).await.unwrap();
    let mut body = Vec::new();
    let answer = connection.ask(request.as_bytes(), |piece| body.extend_from_slice(piece));
    let status = timeout(patience, answer).await.ok()?.unwrap();
    assert_eq!(status, 200);
    let reply: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(reply["stored"], true);
    Some((reply["id"].as_str().unwrap().replace('-', ""), begun.elapsed()))
}

#[tokio::test(flavor = "multi_thread")]
async fn e01_clients_that_leave_during_a_commit_over_a_slow_link_lose_nothing_of_others() {
    let count: usize = asked("PROVE_COUNT").unwrap_or(ASKED);
    let mut random = Random::new(asked("PROVE_SEED").unwrap_or(1));
    let options = Options::on(Store::Postgres)
        .models([Model::new(MODEL).parallel(AT_ONCE).tokens(4)])
        .set("OLLAMA_NUM_PARALLEL", AT_ONCE)
        .postgres_through_a_proxy();
    let app = TestApp::start(options).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    app.postgres_proxy().latency(LATENCY);
    let request = |number: usize| {
        let body = prompt(MODEL, &format!("question {number}")).to_string();
        with_body(app.addr(), "POST /v1/chat", &format!("Authorization: Bearer {}\r\n", ada.access), &body)
    };
    let (mut usual, mut answered, mut left) = (LATENCY * 20, Vec::new(), 0);
    let mut asking = JoinSet::new();
    for number in 1..=count {
        // Every third stays, and shows how long an answer takes now; the others leave at any point before that or a little after.
        let patience =
            if number % 3 == 0 { PATIENCE } else { random.between(Duration::ZERO, usual + usual / 4) };
        asking.spawn(ask(request(number), app.addr(), patience));
        while asking.len() >= AT_ONCE || (number == count && !asking.is_empty()) {
            match asking.join_next().await.unwrap().unwrap() {
                Some((turn, took)) => {
                    usual = took;
                    answered.push(turn);
                }
                None => left += 1,
            }
        }
    }
    app.quiet().await;
    let kept = Kept::read(&app.database).await;
    assert_eq!(kept.faults(left), [""; 0]);
    let complete: Vec<_> = kept
        .rows
        .values()
        .flatten()
        .filter(|row| row.status == "complete")
        .map(|row| row.turn.clone())
        .collect();
    let lost: Vec<_> = answered.iter().filter(|turn| !complete.contains(turn)).collect();
    assert!(lost.is_empty(), "answered and not stored: {lost:?}");
    let calls = app.prompts();
    for call in &calls {
        assert!(kept.rows.contains_key(&told(call)), "asked of the model server, and not stored: {call}");
    }
    assert!(answered.len() >= count / 3 && left > count / 10, "{} answered, {left} left", answered.len());
    let idle = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    until("no transaction to be open", async || app.database.number(idle).await == 0).await;
    app.finish().await;
}
