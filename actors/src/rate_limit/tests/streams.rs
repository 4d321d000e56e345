//! Leases of running turns over time, and what dies under them.

use domain::{
    id::{ApiKeyId, UserId},
    principal::Scopes,
};

use super::*;
use crate::{clock::fresh_id, supervisor::child_name};

/// Longer than a lease lives.
const LONG: Duration = Duration::from_secs(600);

async fn lease(room: &Room, user: UserId, cap: u32) -> Option<StreamLease> {
    room.limits.lease_stream(user, fresh_id(), cap).await.unwrap()
}

impl Room {
    async fn kill(&self, path: &str) {
        let actor = ractor::registry::where_is(child_name(&self.ctx.system, path)).unwrap();
        actor.kill_and_wait(None).await.unwrap();
    }

    fn live(&self) -> u64 {
        self.metric("deepersensor_stream_leases")
    }
}

#[tokio::test(start_paused = true)]
async fn c7_a_turn_that_runs_long_keeps_its_lease_and_frees_it_at_its_end() {
    let room = room(slow(1)).await;
    let ada = fresh_id();
    let long = lease(&room, ada, 1).await.unwrap();
    for _ in 0..10 {
        tokio::time::sleep(LONG / 10).await;
        assert!(lease(&room, ada, 1).await.is_none());
    }
    assert_eq!(room.live(), 1);
    drop(long);
    assert_eq!(room.live(), 0);
    assert!(lease(&room, ada, 1).await.is_some(), "at once");
    room.end().await;
}

#[tokio::test(start_paused = true)]
async fn c7_whoever_leaves_before_the_answer_keeps_no_lease() {
    let room = room(slow(1)).await;
    let ada = fresh_id();
    {
        let mut asked = Box::pin(room.limits.lease_stream(ada, fresh_id(), 1));
        assert!(futures_util::poll!(&mut asked).is_pending(), "the question is on its way");
    }
    assert!(lease(&room, ada, 1).await.is_some());
    room.end().await;
}

#[tokio::test(start_paused = true)]
async fn c7_more_leases_than_one_batch_are_all_renewed() {
    let room = room(slow(1)).await;
    let users: Vec<UserId> = (0..300).map(|_| fresh_id()).collect();
    let mut leases = Vec::new();
    for user in &users {
        leases.push(lease(&room, *user, 1).await.unwrap());
    }
    for _ in 0..300 {
        leases.push(lease(&room, users[0], u32::MAX).await.unwrap());
    }
    tokio::time::sleep(LONG).await;
    for user in &users {
        assert!(lease(&room, *user, 1).await.is_none());
    }
    assert!(lease(&room, users[0], 301).await.is_none());
    assert!(lease(&room, users[0], 302).await.is_some());
    drop(leases);
    assert_eq!(room.live(), 0);
    room.end().await;
}

#[tokio::test(start_paused = true)]
async fn d8_a_killed_keeper_of_leases_comes_back_before_any_runs_out() {
    let room = room(slow(1)).await;
    let ada = fresh_id();
    let _long = lease(&room, ada, 1).await.unwrap();
    for _ in 0..20 {
        room.kill("limits_sup/leases").await;
        tokio::time::sleep(LONG / 10).await;
        assert!(lease(&room, ada, 1).await.is_none());
    }
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn d8_a_shard_that_restarts_empty_knows_what_runs_after_the_next_renewal() {
    let room = room(slow(1)).await;
    let ada = user(1);
    let _long = lease(&room, ada.user, 1).await.unwrap();
    let shard = room.shard(&ada).slot().load().unwrap();
    shard.kill();
    shard.wait(None).await.unwrap();
    let asked = room.limits.lease_stream(ada.user, fresh_id(), 1).await;
    assert!(matches!(asked, Err(LimitError::Unavailable)), "nothing is known: nobody is refused");
    tokio::time::sleep(Duration::from_secs(21)).await;
    assert!(lease(&room, ada.user, 1).await.is_none());
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn c7_an_account_has_its_own_number_and_a_key_may_only_narrow_it() {
    let room = room(slow(1)).await;
    let with = |streams| Limits { streams, ..Limits::default() };
    let session = |streams| Principal { limits: with(streams), ..user(1) };
    let key = |account, key| {
        let id = ApiKeyId::from(Uuid::now_v7());
        let credential = Credential::Key { id, scopes: Scopes::default(), limits: with(key), models: None };
        Principal { credential, ..session(account) }
    };
    for (principal, streams) in [
        (session(None), 4),
        (session(Some(9)), 9),
        (session(Some(1)), 1),
        (session(Some(0)), 1),
        (key(None, None), 4),
        (key(None, Some(2)), 2),
        (key(None, Some(9)), 4),
        (key(Some(9), Some(8)), 8),
        (key(Some(2), Some(8)), 2),
    ] {
        assert_eq!(room.limits.streams_of(&principal), streams, "{principal:?}");
    }
    room.end().await;
}

#[tokio::test(start_paused = true)]
async fn limits_that_are_off_let_every_turn_run() {
    let (limits, _) = build(&context(), RateLimitConfig { enabled: false, ..slow(1) }).await.unwrap();
    assert_eq!(limits.streams_of(&user(1)), u32::MAX);
    let mut running = Vec::new();
    for _ in 0..100 {
        running.push(limits.lease_stream(user(1).user, fresh_id(), 1).await.unwrap().unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn leases_are_counted_by_how_they_were_answered() {
    let room = room(slow(1)).await;
    let ada = fresh_id();
    let _running = lease(&room, ada, 1).await.unwrap();
    for _ in 0..2 {
        assert!(lease(&room, ada, 1).await.is_none());
    }
    let decided = |outcome: &str| {
        room.metric(&format!(
            "deepersensor_rate_limit_decisions_total{{scope=\"stream\",outcome=\"{outcome}\"}}"
        ))
    };
    assert_eq!((decided("allowed"), decided("refused"), decided("unavailable")), (1, 2, 0));
    room.end().await;
}
