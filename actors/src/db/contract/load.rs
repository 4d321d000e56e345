//! Lanes full of turns: what that costs the database, and whom it keeps waiting.

use std::pin::pin;

use domain::{audit::AuditEvent, id::UserId, turn::BeginTurn};
use futures_util::{FutureExt as _, future::join_all};

use super::{
    ground::{Ground, Running},
    samples::*,
};

/// Turns under way.
const TURNS: usize = 1_000;
/// The most changes in one transaction.
const BATCH: usize = 256;

/// A number of the metrics page.
fn metric(room: &Running, name: &str) -> u64 {
    let page = room.metrics();
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
    value.parse::<f64>().unwrap() as u64
}

/// Transactions, and the changes in them.
fn written(room: &Running) -> (u64, u64) {
    let metric = |what| metric(room, &format!("deepersensor_db_transaction_writes_{what}"));
    (metric("count"), metric("sum"))
}

async fn begun(room: &Running, user: UserId, turns: usize) -> Vec<BeginTurn> {
    let begins: Vec<_> = (0..turns).map(|_| begin(user)).collect();
    let begun = join_all(begins.iter().map(|begin| room.db.begin_turn(begin.clone()))).await;
    assert!(begun.iter().all(Result::is_ok));
    begins
}

/// Transactions that so many changes, spread over the lanes, take at most when they wait for a writer; each lane may have one
/// under way already.
fn transactions(room: &Running, changes: usize) -> u64 {
    (changes / BATCH + 2 * room.db.lanes.len()) as u64
}

pub(super) async fn settlements_and_checkpoints_that_wait_share_few_commits(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let begins = begun(&room, user.id, TURNS).await;
    let before = written(&room);
    let hold = ground.hold_writes().await;
    for begin in &begins {
        room.db.checkpoint(checkpoint(begin, 1, "because"));
    }
    let told: Vec<_> =
        begins.iter().map(|begin| settling(&room.db, settlement(begin, "because of Rayleigh"))).collect();
    hold.release().await;
    assert!(join_all(told).await.into_iter().all(|told| told == Ok(Ok(()))));
    let after = written(&room);
    let (commits, changes) = (after.0 - before.0, after.1 - before.1);
    assert_eq!(changes, 2 * TURNS as u64);
    assert!(commits <= transactions(&room, 2 * TURNS), "{changes} changes took {commits} commits");
    let complete =
        "SELECT count(*) FROM messages WHERE status = 'complete' AND content = 'because of Rayleigh'";
    assert_eq!(ground.count(complete).await, TURNS as i64);
}

/// A turn that shares its lane with the changes of `user`.
fn turn_beside(room: &Running, owner: UserId, user: UserId) -> BeginTurn {
    let is_beside =
        |begin: &BeginTurn| std::ptr::eq(room.db.lane(begin.turn.as_uuid()), room.db.lane(user.as_uuid()));
    std::iter::repeat_with(|| begin(owner)).find(is_beside).unwrap()
}

/// A sign-in that comes when the lanes are full waits for what was there before it, and for nothing that comes after.
pub(super) async fn a_sign_in_waits_only_for_the_turns_before_it(ground: Ground) {
    let room = ground.room().await;
    let (ada, eve) = (some_user(&room.db).await, some_user(&room.db).await);
    let begins = begun(&room, ada.id, TURNS).await;
    let hold = ground.hold_writes().await;
    for begin in &begins {
        room.db.checkpoint(checkpoint(begin, 1, "because"));
    }
    let entry = audit(AuditEvent::AuthnLoginSuccess, eve.id);
    let mut sign_in = pin!(room.db.start_session(session(eve.id), password_hash(), entry));
    assert!(sign_in.as_mut().now_or_never().is_none(), "it is in the lane");
    let after = begins.iter().map(|begin| settling(&room.db, settlement(begin, "because of Rayleigh")));
    let after: Vec<_> = after.collect();
    let mut next = pin!(room.db.begin_turn(turn_beside(&room, ada.id, eve.id)));
    assert!(next.as_mut().now_or_never().is_none(), "it is behind the sign-in");
    let before = written(&room).0;
    hold.release().await;
    next.await.unwrap();
    sign_in.now_or_never().expect("who comes later is not served before").unwrap();
    assert!(join_all(after).await.into_iter().all(|told| told == Ok(Ok(()))));
    let commits = written(&room).0 - before;
    assert!(commits <= transactions(&room, 2 * TURNS + 2), "{commits} commits");
}

pub(super) async fn reads_wait_for_no_write(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let begins = begun(&room, user.id, TURNS).await;
    let hold = ground.hold_writes().await;
    let told: Vec<_> = begins.iter().map(|begin| settling(&room.db, settlement(begin, "because"))).collect();
    let conversation = stored(&begins[0]).conversation;
    for _ in 0..20 {
        let (found, one, messages, list) = tokio::join!(
            room.db.user(user.id),
            room.db.conversation(user.id, conversation),
            room.db.messages(user.id, conversation, None, 10),
            room.db.conversations(user.id, None, 10),
        );
        assert_eq!(found, Ok(Some(user.clone())));
        assert!(
            one.unwrap().is_some() && messages.unwrap().items.len() == 2 && list.unwrap().items.len() == 10
        );
    }
    assert!(room.db.unsettled() > 0, "the writers were held all the time");
    hold.release().await;
    assert!(join_all(told).await.into_iter().all(|told| told == Ok(Ok(()))));
}
