//! When a session or a key was last used, as the store is told.

use std::time::Duration;

use domain::id::SessionId;

use super::{
    api_keys::{key_of, request},
    bench::{Bench, pass},
};
use crate::auth::{AuthError, Origin};

async fn last_used(bench: &Bench, session: SessionId) -> i64 {
    bench.db.session(session).await.unwrap().unwrap().0.last_used_at.timestamp()
}

#[tokio::test]
async fn a15_uses_are_written_once_a_minute_and_what_is_not_used_stays_as_it_was() {
    let bench = Bench::start().await;
    let (owner, used, idle) = (bench.owner().await, bench.owner_again().await, bench.owner_again().await);
    let (_, key) = bench.auth.create_key(&owner.principal, request(), Origin::default()).await.unwrap();
    let listed = async || bench.auth.keys(&owner.principal, None, 10).await.unwrap().items.remove(0);
    let start = bench.context.clock.now().timestamp();
    assert_eq!(listed().await.last_used_at, None);

    bench.wait_by_the_wall(7);
    bench.auth.0.sessions.clear();
    for _ in 0..10 {
        bench.auth.authenticate(key.reveal()).await.unwrap();
        bench.auth.authenticate(&used.token).await.unwrap();
    }
    assert_eq!(listed().await.last_used_at, None, "written before a minute had passed");
    pass(Duration::from_secs(60)).await;
    while listed().await.last_used_at.is_none() || last_used(&bench, used.session()).await == start {
        tokio::task::yield_now().await;
    }
    assert_eq!(listed().await.last_used_at.unwrap().timestamp(), start + 7);
    assert_eq!(last_used(&bench, used.session()).await, start + 7);
    assert_eq!(last_used(&bench, idle.session()).await, start);
    bench.stop().await;
}

#[tokio::test]
async fn a15_uses_of_the_last_minute_are_written_when_the_room_stops() {
    let bench = Bench::start().await;
    let owner = bench.owner().await;
    let (_, key) = bench.auth.create_key(&owner.principal, request(), Origin::default()).await.unwrap();
    bench.wait_by_the_wall(7);
    bench.auth.authenticate(key.reveal()).await.unwrap();
    bench.stop_auth().await;
    let (stored, _) = bench.db.api_key(key_of(&key)).await.unwrap().unwrap();
    assert_eq!(stored.last_used_at, Some(bench.context.clock.now()));
    bench.stop().await;
}

#[tokio::test]
async fn a15_what_was_refused_was_not_used() {
    let bench = Bench::start().await;
    let owner = bench.owner().await;
    let (described, key) =
        bench.auth.create_key(&owner.principal, request(), Origin::default()).await.unwrap();
    bench.auth.revoke_key(&owner.principal, described.id, Origin::default()).await.unwrap();
    bench.auth.0.sessions.clear();
    assert_eq!(bench.auth.authenticate(key.reveal()).await, Err(AuthError::BadToken));
    bench.stop_auth().await;
    let (stored, _) = bench.db.api_key(key_of(&key)).await.unwrap().unwrap();
    assert_eq!(stored.last_used_at, None);
    bench.stop().await;
}
