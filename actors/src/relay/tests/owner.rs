//! What following costs the owner, and how its turns are ended from elsewhere.

use std::{sync::Arc, time::Duration};

use domain::reply::{FailureCode, Position};
use support::redis::Redis;

use super::ground::*;
use crate::{
    relay::*,
    reply::{OnDisconnect, Outcome},
};

async fn exists(server: &Redis, key: &str) -> bool {
    server.run(&["EXISTS", key]).await.unwrap() == ":1"
}

async fn entries(server: &Redis, stream: &str) -> u64 {
    server.run(&["XLEN", stream]).await.unwrap().trim_start_matches(':').parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_that_nobody_follows_and_what_is_told_is_kept_for_a_short_time() {
    let server = Redis::start().await.unwrap();
    let book = Arc::<Book>::default();
    let config = || RelayConfig { interest: Duration::from_millis(400), ..quick(Some(server.url())) };
    let (owner, other) = (room(&book, config()).await, room(&book, config()).await);
    let script = owner.begin(true, OnDisconnect::Continue);
    script.say("secret");
    let stream = wire::stream_of(script.turn);
    let mut reader = other.follow(script.turn, Position::default()).unwrap();
    let mut heard = Heard::default();
    heard.until(&mut reader, |heard| heard.text() == "secret").await;
    let kept: u64 = server.run(&["TTL", &stream]).await.unwrap().trim_start_matches(':').parse().unwrap();
    assert!((1..=120).contains(&kept), "{kept}");

    // Interest is renewed while somebody reads, and lapses after. What is said while the turn is silent comes more seldom than
    // interest lapses, and a telling that begins anew throws away what was told: only a renewed one says it twice.
    let told = entries(&server, &stream).await;
    let next = ["XREAD", "BLOCK", "1000", "STREAMS", &stream, "$"];
    let renewed = async {
        while entries(&server, &stream).await < told + 2 {
            server.run(&next).await.unwrap();
        }
    };
    in_time(renewed).await;
    assert_eq!(owner.gate("told_turns"), 1);
    drop(reader);
    owner.until("interest lapses", |room| room.gate("told_turns") == 0).await;
    script.say(" later");
    server.run(&["DEL", &stream]).await.unwrap();
    let unfollowed = owner.begin(true, OnDisconnect::Continue);
    unfollowed.say("more secret");
    for turn in [script.turn, unfollowed.turn] {
        assert!(!exists(&server, &wire::stream_of(turn)).await);
    }

    // The next who comes has it told from the beginning.
    let mut reader = other.follow(script.turn, Position::default()).unwrap();
    let mut heard = Heard::default();
    heard.until(&mut reader, |heard| heard.text() == "secret later").await;
    drop(reader);
    owner.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_from_elsewhere_keeps_no_turn_alive() {
    let server = Redis::start().await.unwrap();
    let book = Arc::<Book>::default();
    let owner = room(&book, quick(Some(server.url()))).await;
    let other = room(&book, quick(Some(server.url()))).await;
    let mut script = owner.begin(true, OnDisconnect::Cancel);
    script.say("one");
    let mut reader = other.follow(script.turn, Position::default()).unwrap();
    let mut heard = Heard::default();
    heard.until(&mut reader, |heard| heard.text() == "one").await;
    assert!(!script.writer.as_ref().unwrap().is_cancelled());
    drop(script.reader.take());
    let writer = script.writer.take().unwrap();
    in_time(writer.cancelled()).await;
    drop(writer);
    let heard = heard.rest(&mut reader).await;
    let Outcome::Failed { code, .. } = &heard.endings[0].outcome else { panic!("{heard:?}") };
    assert_eq!((heard.text(), *code), ("one", FailureCode::Cancelled));
    owner.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_leaves_leaves_the_turn_alone() {
    let server = Redis::start().await.unwrap();
    let book = Arc::<Book>::default();
    let owner = room(&book, quick(Some(server.url()))).await;
    let other = room(&book, quick(Some(server.url()))).await;
    let script = owner.begin(true, OnDisconnect::Cancel);
    script.say("one");
    let mut reader = other.follow(script.turn, Position::default()).unwrap();
    let mut heard = Heard::default();
    heard.until(&mut reader, |heard| heard.text() == "one").await;
    drop(reader);
    other.until("nobody follows", |room| room.gate("followed_turns") == 0).await;
    assert!(!script.writer.as_ref().unwrap().is_cancelled());
    owner.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_user_is_told_nothing() {
    let server = Redis::start().await.unwrap();
    let book = Arc::<Book>::default();
    let owner = room(&book, quick(Some(server.url()))).await;
    let script = owner.begin(true, OnDisconnect::Continue);
    let ask = async |user| {
        let ask = wire::encode(&wire::Ask::Follow { user, turn: script.turn });
        let words = std::str::from_utf8(&ask).unwrap();
        server.run(&["XADD", &wire::asks_of(owner.instance), "*", wire::FIELD, words]).await.unwrap();
    };
    ask(crate::clock::fresh_id()).await;
    ask(script.user).await;
    owner.until("its own is told", |room| room.gate("told_turns") == 1).await;
    owner.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_turns_are_told_and_the_others_are_followed_through_the_store() {
    let server = Redis::start().await.unwrap();
    let book = Arc::<Book>::default();
    let owner = room(&book, RelayConfig { relayed_max: 1, ..quick(Some(server.url())) }).await;
    let other = room(&book, quick(Some(server.url()))).await;
    let mut scripts: Vec<_> = (0..3).map(|_| owner.begin(true, OnDisconnect::Continue)).collect();
    let readers: Vec<_> =
        scripts.iter().map(|script| other.follow(script.turn, Position::default()).unwrap()).collect();
    owner.until("one is told", |room| room.gate("told_turns") == 1).await;
    for script in &mut scripts {
        script.say("all of it");
        script.complete();
    }
    for reader in readers {
        assert_eq!(heard(reader).await.text(), "all of it");
    }
    assert!(other.metric("deepersensor_relay_looks_total") > 0);
    owner.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_is_ended_from_elsewhere_by_the_store_alone_and_sooner_with_a_word() {
    let server = Redis::start().await.unwrap();
    let book = Arc::<Book>::default();
    let owner = room(&book, quick(None)).await;
    let script = owner.begin(true, OnDisconnect::Continue);
    book.want_cancelled(owner.instance, script.turn);
    in_time(script.writer.as_ref().unwrap().cancelled()).await;
    owner.end().await;

    // It would not look by itself while this test runs.
    let seldom = RelayConfig { look_every: 10 * PATIENCE, ..quick(Some(server.url())) };
    let owner = room(&book, seldom).await;
    let other = room(&book, quick(Some(server.url()))).await;
    let script = owner.begin(true, OnDisconnect::Continue);
    book.want_cancelled(owner.instance, script.turn);
    for _ in 0..3 {
        other.relay.hurry_cancel(owner.instance);
    }
    in_time(script.writer.as_ref().unwrap().cancelled()).await;
    owner.until("it is counted", |room| room.metric("deepersensor_relay_cancels_total") == 1).await;
    owner.end().await;
    other.end().await;
}
