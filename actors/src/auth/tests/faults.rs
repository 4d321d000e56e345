//! What callers notice when the store is away or the room's actors die.

use std::{pin::pin, time::Duration};

use domain::principal::Role;
use futures_util::{future::join_all, poll};
use tokio::task::yield_now;

use super::bench::{Bench, EMAIL, PASSWORD, is_unavailable, pass, secret};
use crate::{auth::truth::MAX_STALE, supervisor::Policy};

const LOOK_UPS: &str = "deepersensor_session_look_ups_total{outcome=\"accepted\"}";

#[tokio::test]
async fn a13_truth_older_than_its_life_is_asked_for_again_once_however_many_ask() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let tokens = bench.log_in().await;
    let token = tokens.access_token.reveal();
    bench.auth.authenticate(token).await.unwrap();
    assert_eq!(bench.metric(LOOK_UPS), 0, "logging in told us");

    pass(Duration::from_millis(5_001)).await;
    for outcome in join_all((0..500).map(|_| bench.auth.authenticate(token))).await {
        outcome.unwrap();
    }
    assert_eq!(bench.metric(LOOK_UPS), 1);
    bench.stop().await;
}

#[tokio::test]
async fn a13_with_the_store_away_users_are_served_from_memory_for_a_minute_and_then_told_so() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let tokens = bench.log_in().await;
    let token = tokens.access_token.reveal();
    bench.stop_store().await;
    bench.auth.authenticate(token).await.unwrap();
    pass(Duration::from_secs(50)).await;
    bench.auth.authenticate(token).await.unwrap();
    assert_eq!(bench.metric("deepersensor_session_stale_serves_total"), 1);
    pass(MAX_STALE - Duration::from_secs(49)).await;
    assert!(is_unavailable(&bench.auth.authenticate(token).await), "never a refusal");
    bench.stop().await;
}

#[tokio::test]
async fn a13_with_the_store_away_admins_are_served_only_while_the_truth_is_fresh() {
    let bench = Bench::start().await;
    bench.auth.create_account(EMAIL, secret(PASSWORD), Role::Admin).await.unwrap();
    let tokens = bench.log_in().await;
    let token = tokens.access_token.reveal();
    bench.stop_store().await;
    bench.auth.authenticate(token).await.unwrap();
    pass(Duration::from_secs(6)).await;
    assert!(is_unavailable(&bench.auth.authenticate(token).await));
    bench.stop().await;
}

#[tokio::test]
async fn a_killed_auth_actor_fails_whom_it_served_and_nobody_else() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let (old, fresh) = (bench.log_in().await, bench.log_in().await);
    // Who is remembered never waits for the store.
    bench.auth.0.sessions.clear();
    bench.auth.authenticate(fresh.access_token.reveal()).await.unwrap();

    let mut in_flight = Box::pin(bench.auth.authenticate(old.access_token.reveal()));
    assert!(poll!(in_flight.as_mut()).is_pending());
    bench.actor("auth_sup/auth_actor").kill();
    assert!(is_unavailable(&in_flight.await));
    bench.auth.authenticate(fresh.access_token.reveal()).await.expect("what is known needs no actor");
    while is_unavailable(&bench.auth.authenticate(old.access_token.reveal()).await) {
        yield_now().await;
    }
    bench.auth.authenticate(old.access_token.reveal()).await.unwrap();
    bench.stop().await;
}

#[tokio::test]
async fn a_killed_session_cache_forgets_and_takes_the_auth_actor_with_it() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let tokens = bench.log_in().await;
    let token = tokens.access_token.reveal();
    bench.auth.authenticate(token).await.unwrap();
    let (cache, actor) = (bench.actor("auth_sup/session_cache"), bench.actor("auth_sup/auth_actor"));
    cache.kill_and_wait(None).await.unwrap();
    actor.wait(None).await.unwrap();
    while bench.metric(LOOK_UPS) == 0 {
        // Served from memory until the successor forgets, unavailable until the look-ups work again.
        let outcome = bench.auth.authenticate(token).await;
        assert!(outcome.is_ok() || is_unavailable(&outcome), "{outcome:?}");
        yield_now().await;
    }
    bench.auth.authenticate(token).await.unwrap();
    bench.stop().await;
}

#[tokio::test]
async fn a_caller_that_left_gives_its_place_back() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let tokens = bench.log_in().await;
    bench.auth.0.sessions.clear();
    {
        let mut left = pin!(bench.auth.authenticate(tokens.access_token.reveal()));
        assert!(poll!(left.as_mut()).is_pending());
    }
    assert_eq!(bench.auth.0.actor.gate().in_use(), 1, "its message is still there");
    bench.auth.authenticate(tokens.access_token.reveal()).await.unwrap();
    while bench.auth.0.actor.gate().in_use() > 0 {
        yield_now().await;
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_room_whose_actors_keep_dying_serves_what_it_knows_and_nothing_else() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let (known, other) = (bench.log_in().await, bench.log_in().await);
    bench.auth.0.sessions.clear();
    bench.auth.authenticate(known.access_token.reveal()).await.unwrap();
    for _ in 0..=Policy::default().max_restarts {
        bench.context.tree.worker_exit("auth_sup/auth_actor", "crash of a test");
    }
    bench.auth.authenticate(known.access_token.reveal()).await.unwrap();
    assert!(is_unavailable(&bench.auth.authenticate(other.access_token.reveal()).await));
    bench.stop().await;
}
