//! One instance follows a turn of another.

use std::{sync::Arc, time::Duration};

use domain::reply::{Delta, FailureCode, Position};
use support::redis::Redis;

use super::ground::*;
use crate::{
    relay::*,
    reply::{OnDisconnect, Outcome},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_is_told_what_a_reader_of_the_owner_is_told_and_nobody_asks_the_store() {
    let server = Redis::start().await.unwrap();
    let book = Arc::<Book>::default();
    // Patient, so that a slow machine is not taken for a silent owner.
    let config = || RelayConfig { silence: PATIENCE, look_every: PATIENCE, ..quick(Some(server.url())) };
    let (owner, other) = (room(&book, config()).await, room(&book, config()).await);
    for is_stored in [true, false] {
        let mut script = owner.begin(is_stored, OnDisconnect::Continue);
        let mut first = script.reader.take().unwrap();
        script.push(Delta::Thinking("hm. ".to_owned()));
        script.say("Good ");
        let mut reader = other.follow(script.turn, Position::default()).unwrap();
        let mut followed = Heard::default();
        followed.until(&mut reader, |heard| heard.text() == "Good ").await;
        assert!(followed.is_started);
        script.push(Delta::ToolCall(call(1)));
        script.push(Delta::Thinking("so".to_owned()));
        script.say(&"mörning ".repeat(9_000));
        let ending = script.complete();
        let followed = in_time(followed.rest(&mut reader)).await;
        let here = in_time(Heard::default().rest(&mut first)).await;
        assert_eq!(followed, here);
        assert_eq!(followed.endings, [ending]);
    }
    assert_eq!(other.metric("deepersensor_relay_looks_total"), 0);
    owner.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_a_follower_is_told_what_the_store_is_told() {
    let book = Arc::<Book>::default();
    let (owner, other) = (room(&book, quick(None)).await, room(&book, quick(None)).await);
    let mut script = owner.begin(true, OnDisconnect::Continue);
    script.say("one ");
    script.checkpoint();
    let mut reader = other.follow(script.turn, Position::default()).unwrap();
    let mut heard = Heard::default();
    heard.until(&mut reader, |heard| heard.text() == "one ").await;
    script.say("two ");
    script.checkpoint();
    heard.until(&mut reader, |heard| heard.text() == "one two ").await;
    script.say("three");
    let ending = script.complete();
    let heard = heard.rest(&mut reader).await;
    assert_eq!((heard.text(), &heard.endings[..]), ("one two three", &[ending][..]));
    owner.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_caller_has_and_the_store_has_not_is_passed_over_when_it_comes() {
    let book = Arc::<Book>::default();
    let (owner, other) = (room(&book, quick(None)).await, room(&book, quick(None)).await);
    let mut script = owner.begin(true, OnDisconnect::Continue);
    script.say("0123");
    script.checkpoint();
    let from = Position { content: 6, ..Position::default() };
    let mut reader = other.follow(script.turn, from).unwrap();
    script.say("4567ß9");
    script.complete();
    let heard = Heard::default().rest(&mut reader).await;
    assert_eq!((heard.text(), heard.at.content), ("67ß9", 11));
    // Nobody was ever told of a place within a character.
    let within = other.follow(script.turn, Position { content: 9, ..from }).unwrap();
    assert_eq!(super::ground::heard(within).await.text(), "9");
    owner.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_dead_a_follower_has_the_text_so_far_and_one_end_after_the_sweep() {
    let server = Redis::start().await.unwrap();
    let book = Arc::<Book>::default();
    let owner = room(&book, quick(Some(server.url()))).await;
    let other = room(&book, quick(Some(server.url()))).await;
    let script = owner.begin(true, OnDisconnect::Continue);
    script.say("stored ");
    script.checkpoint();
    script.say("told");
    let mut reader = other.follow(script.turn, Position::default()).unwrap();
    let mut heard = Heard::default();
    heard.until(&mut reader, |heard| heard.text() == "stored told").await;
    owner.forget(script.turn);
    owner.end().await;
    let looks = other.metric("deepersensor_relay_looks_total");
    other.until("the store is asked", |room| room.metric("deepersensor_relay_looks_total") > looks + 2).await;
    script.swept();
    let heard = heard.rest(&mut reader).await;
    assert_eq!(heard.text(), "stored told", "more than was stored, and nothing twice");
    let Outcome::Failed { code, .. } = &heard.endings[0].outcome else { panic!("{heard:?}") };
    assert_eq!(*code, FailureCode::Internal);
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_stream_keeps_no_more_comes_from_the_store() {
    let server = Redis::start().await.unwrap();
    let book = Arc::<Book>::default();
    let config = || RelayConfig { stream_bytes: 2_048, ..quick(Some(server.url())) };
    let (owner, other) = (room(&book, config()).await, room(&book, config()).await);
    let late = room(&book, config()).await;
    let mut script = owner.begin(true, OnDisconnect::Continue);
    // Somebody has it told from the beginning, until the beginning is gone.
    let mut reader = other.follow(script.turn, Position::default()).unwrap();
    let mut said = String::new();
    let mut early = Heard::default();
    for number in 0..60 {
        let word = format!("{number} and some more to make it longer than it was. ");
        said += &word;
        script.say(&word);
        early.until(&mut reader, |heard| heard.text().len() == said.len()).await;
    }
    let kept = server.run(&["XLEN", &wire::stream_of(script.turn)]).await.unwrap();
    assert!(kept.trim_start_matches(':').parse::<usize>().unwrap() < 30, "{kept}");
    script.checkpoint();
    let mut late_reader = late.follow(script.turn, Position::default()).unwrap();
    script.say("end");
    script.complete();
    said += "end";
    let late_heard = Heard::default().rest(&mut late_reader).await;
    assert_eq!(late_heard.text(), said);
    assert_eq!(early.rest(&mut reader).await.text(), said);
    for room in [owner, other, late] {
        room.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_nowhere_ends_with_one_error() {
    let server = Redis::start().await.unwrap();
    let book = Arc::<Book>::default();
    let owner = room(&book, quick(Some(server.url()))).await;
    let other = room(&book, quick(Some(server.url()))).await;
    let mut script = owner.begin(false, OnDisconnect::Continue);
    script.say("heard ");
    let mut reader = other.follow(script.turn, Position::default()).unwrap();
    let mut heard = Heard::default();
    heard.until(&mut reader, |heard| heard.text() == "heard ").await;
    server.kill().unwrap();
    script.say("unheard");
    script.complete();
    let heard = heard.rest(&mut reader).await;
    assert_eq!(heard.text(), "heard ");
    let Outcome::Failed { code, .. } = &heard.endings[0].outcome else { panic!("{heard:?}") };
    assert_eq!(*code, FailureCode::Internal);

    // One whose row is thrown away is nobody's any more.
    let gone = owner.begin(true, OnDisconnect::Continue);
    let mut reader = other.follow(gone.turn, Position::default()).unwrap();
    book.throw_away(gone.turn);
    let heard = Heard::default().rest(&mut reader).await;
    let Outcome::Failed { code, .. } = &heard.endings[0].outcome else { panic!("{heard:?}") };
    assert_eq!(*code, FailureCode::Cancelled);
    owner.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_of_one_turn_are_one_follower_and_too_many_turns_are_refused() {
    let server = Redis::start().await.unwrap();
    let book = Arc::<Book>::default();
    let owner = room(&book, quick(Some(server.url()))).await;
    let config = RelayConfig { followed_max: 1, ..quick(Some(server.url())) };
    let other = room(&book, config).await;
    let mut script = owner.begin(true, OnDisconnect::Continue);
    script.say("one ");
    let readers: Vec<_> = (0..8).map(|_| other.follow(script.turn, Position::default()).unwrap()).collect();
    let second = owner.begin(true, OnDisconnect::Continue);
    assert_eq!(other.follow(second.turn, Position::default()).err(), Some(RelayError::Full));
    owner.until("it is told", |room| room.gate("told_turns") == 1).await;
    assert_eq!(other.gate("followed_turns"), 1);
    script.say("two");
    script.complete();
    for reader in readers {
        assert_eq!(in_time(heard(reader)).await.text(), "one two");
    }
    // All have left: there is room for another, and coming back to the first is no trouble.
    other.until("all have left", |room| room.gate("followed_turns") == 0).await;
    drop(other.follow(second.turn, Position::default()).unwrap());
    other.until("all have left", |room| room.gate("followed_turns") == 0).await;
    let again = other.follow(script.turn, Position { content: 4, ..Position::default() }).unwrap();
    assert_eq!(heard(again).await.text(), "two");
    owner.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_listener_costs_a_moment() {
    let server = Redis::start().await.unwrap();
    let book = Arc::<Book>::default();
    let owner = room(&book, quick(Some(server.url()))).await;
    let other = room(&book, RelayConfig { silence: PATIENCE, ..quick(Some(server.url())) }).await;
    let mut script = owner.begin(false, OnDisconnect::Continue);
    script.say("one ");
    let mut reader = other.follow(script.turn, Position::default()).unwrap();
    let mut heard = Heard::default();
    heard.until(&mut reader, |heard| heard.text() == "one ").await;
    other.kill("listener").await;
    owner.kill("listener").await;
    script.say("two");
    script.complete();
    assert_eq!(heard.rest(&mut reader).await.text(), "one two");
    owner.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_halts_tells_its_followers() {
    let book = Arc::<Book>::default();
    let (owner, other) = (room(&book, quick(None)).await, room(&book, quick(None)).await);
    let script = owner.begin(true, OnDisconnect::Continue);
    let reader = other.follow(script.turn, Position::default()).unwrap();
    other.end().await;
    let heard = tokio::time::timeout(Duration::from_secs(5), heard(reader)).await.unwrap();
    let Outcome::Failed { code, .. } = &heard.endings[0].outcome else { panic!("{heard:?}") };
    assert_eq!(*code, FailureCode::ServerShuttingDown);
    owner.end().await;
}
