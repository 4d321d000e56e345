//! Whoever does as `Retry-After` says is served at the next try (C8), counted over many callers at once.

use std::{net::Ipv4Addr, time::Duration};

use futures_util::future::join_all;

use crate::harness::{Options, Reply, Store, TestApp};

/// A request every two seconds per user, two at once; an address has five times that.
const PER_MINUTE: u32 = 30;
const BURST: u32 = 2;

const USERS: usize = 20;
const ADDRESSES: u8 = 20;

/// How often each runs into its bucket.
const ROUNDS: usize = 3;

/// More requests than any bucket here holds, with what drips into it meanwhile on a busy machine.
const PUSHES_MAX: usize = 200;

/// Asks until refused, waits as long as told and asks again, over and over. Returns how many of the next tries were served.
async fn obey(ask: impl AsyncFn() -> Reply) -> usize {
    let mut served = 0;
    for _ in 0..ROUNDS {
        let mut pushes = 0;
        let refused = loop {
            let reply = ask().await;
            if reply.status == 429 {
                break reply.expect_error(429, "rate_limited");
            }
            pushes += 1;
            assert!(pushes < PUSHES_MAX, "nothing refuses: {reply:?}");
        };
        let wait: u64 = refused.header("retry-after").expect("when to come back").parse().unwrap();
        tokio::time::sleep(Duration::from_secs(wait)).await;
        served += usize::from(ask().await.status != 429);
    }
    served
}

#[expect(clippy::print_stdout, reason = "how often it is true is what is measured")]
fn assert_served(whose: &str, served: &[usize]) {
    let (served, told) = (served.iter().sum::<usize>(), served.len() * ROUNDS);
    println!("{whose}: {served} of {told} that waited as long as they were told were served at the next try");
    assert!(served * 100 >= told * 95, "{whose}: {served} of {told}");
}

#[tokio::test]
async fn c08_users_and_addresses_that_obey_retry_after_are_served_at_the_next_try() {
    let options = Options::on(Store::Sqlite);
    let limits = options.set("RATE_LIMIT_REQUESTS_PER_MINUTE", PER_MINUTE).set("RATE_LIMIT_BURST", BURST);
    let app = TestApp::start(limits).await;
    let mut sessions = Vec::new();
    for number in 0..USERS {
        sessions.push(app.sign_up_and_in(&format!("user-{number}@example.org")).await);
    }
    // Each call comes from another address, so that only the user's bucket can be empty.
    let me = |token: &str| app.get("/v1/auth/me").bearer(token);
    let users = sessions.iter().map(async |session| obey(async || me(&session.access).send().await).await);
    // Nobody's token: served with 401, at the address's expense.
    let addresses = (1..=ADDRESSES).map(async |last| {
        let from = Ipv4Addr::new(192, 0, 2, last);
        obey(async || me("nonsense").from(from).send().await).await
    });
    let (of_users, of_addresses) = tokio::join!(join_all(users), join_all(addresses));
    assert_served("users", &of_users);
    assert_served("addresses", &of_addresses);
    app.finish().await;
}
