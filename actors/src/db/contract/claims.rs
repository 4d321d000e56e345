//! Keys that stand for a turn, so that asking again makes no second one.

use std::time::Duration;

use chrono::TimeDelta;
use domain::{
    audit::AuditEvent,
    chat::ToolCall,
    id::TurnId,
    turn::{BeginTurn, Begun, Settlement, TurnStatus},
};
use futures_util::future::join_all;
use tokio::time::timeout;

use super::{
    ground::{Ground, Running},
    samples::*,
};
use crate::{clock::fresh_id, db::DbError, digest::hex};

/// What somebody is told whose key stands for this turn already.
fn same_as(turn: TurnId) -> Result<Begun, DbError> {
    Ok(Begun::Exists { turn, same_request: true })
}

pub(super) async fn b14_a_key_stands_for_the_turn_that_was_first_asked_for_with_it(ground: Ground) {
    let room = ground.room().await;
    let (ada, eve) = (some_user(&room.db).await, some_user(&room.db).await);
    let key = some_hash();
    let first = begin_with(ada.id, key, "sky");
    assert_eq!(room.db.claimed(ada.id, key).await, Ok(None));
    assert_eq!(room.db.begin_turn(first.clone()).await, Ok(Begun::New));
    assert_eq!(room.db.begin_turn(begin_with(ada.id, key, "sky")).await, same_as(first.turn));
    let other_request = room.db.begin_turn(begin_with(ada.id, key, "sea")).await;
    assert_eq!(other_request, Ok(Begun::Exists { turn: first.turn, same_request: false }));
    for (table, rows) in [("conversations", 1), ("turns", 1), ("messages", 2), ("idempotency_keys", 1)] {
        assert_eq!(ground.count(&format!("SELECT count(*) FROM {table}")).await, rows, "{table}");
    }
    let request = first.claim.unwrap().request;
    assert_eq!(room.db.claimed(ada.id, key).await, Ok(Some((first.turn, request))));

    // Keys of different users have nothing to do with each other.
    assert_eq!(room.db.claimed(eve.id, key).await, Ok(None));
    assert_eq!(room.db.begin_turn(begin_with(eve.id, key, "sky")).await, Ok(Begun::New));
}

/// Has one of these turns begun, and all others told of it.
fn assert_one_new(turns: &[BeginTurn], answers: &[Result<Begun, DbError>]) {
    let new: Vec<_> = turns.iter().zip(answers).filter(|(_, answer)| **answer == Ok(Begun::New)).collect();
    assert_eq!(new.len(), 1, "{answers:?}");
    let told = answers.iter().filter(|answer| **answer == same_as(new[0].0.turn)).count();
    assert_eq!(told + 1, turns.len(), "{answers:?}");
}

pub(super) async fn b14_of_fifty_turns_with_one_key_one_begins(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let key = some_hash();
    let hold = ground.hold_writes().await;
    // The writers have some in hand; the others share the next transactions.
    let turns: Vec<_> = (0..50).map(|_| begin_with(user.id, key, "sky")).collect();
    let begins = join_all(turns.iter().map(|turn| room.db.begin_turn(turn.clone())));
    let release = async {
        room.lanes_taken().await;
        hold.release().await;
    };
    let (answers, ()) = tokio::join!(begins, release);
    assert_one_new(&turns, &answers);
    assert_eq!(ground.count("SELECT count(*) FROM turns").await, 1);
    assert_eq!(ground.count("SELECT count(*) FROM conversations").await, 1);
}

pub(super) async fn b14_a_key_is_taken_once_however_many_services_share_the_database(mut ground: Ground) {
    ground.config.exclusive = false;
    let (one, two) = (ground.room().await, ground.room().await);
    let user = some_user(&one.db).await;
    for _ in 0..5 {
        let key = some_hash();
        let turns: Vec<_> = (0..20).map(|_| begin_with(user.id, key, "sky")).collect();
        let rooms = [&one, &two].into_iter().cycle();
        let begins = turns.iter().zip(rooms).map(|(turn, room)| room.db.begin_turn(turn.clone()));
        let answers = join_all(begins).await;
        assert_one_new(&turns, &answers);
    }
    assert_eq!(ground.count("SELECT count(*) FROM turns").await, 5);
}

pub(super) async fn b14_a_turn_that_is_not_stored_holds_its_key(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let key = some_hash();
    let with_key = || BeginTurn { exchange: None, ..begin_with(user.id, key, "sky") };
    let first = with_key();
    assert_eq!(room.db.begin_turn(first.clone()).await, Ok(Begun::New));
    assert_eq!(room.db.begin_turn(with_key()).await, same_as(first.turn));
    assert_eq!(ground.count("SELECT count(*) FROM turns WHERE status = 'streaming'").await, 1);
    assert_eq!(ground.count("SELECT count(*) FROM messages").await, 0);
    // Its text is nowhere, but that there was some is known.
    let end = Settlement { status: TurnStatus::Failed, ..settlement(&first, "") };
    settle(&room.db, end).await.unwrap();
    assert_eq!(room.db.begin_turn(with_key()).await, same_as(first.turn));
}

pub(super) async fn b14_a_refused_turn_leaves_its_key_free(ground: Ground) {
    let room = ground.room().await;
    let (ada, eve) = (some_user(&room.db).await, some_user(&room.db).await);
    let gone = some_user(&room.db).await;
    let hers = begin(ada.id);
    room.db.begin_turn(hers.clone()).await.unwrap();
    room.db.delete_user(gone.id, noon(), audit(AuditEvent::UserDeleted, gone.id)).await.unwrap();

    let mut foreign = begin_with(eve.id, some_hash(), "sky");
    exchange(&mut foreign).conversation = stored(&hers).conversation;
    let mut orphan = begin_with(eve.id, some_hash(), "sky");
    exchange(&mut orphan).parent = Some(fresh_id());
    let deleted = begin_with(gone.id, some_hash(), "sky");
    let deleted_and_unstored = BeginTurn { exchange: None, ..begin_with(gone.id, some_hash(), "sky") };
    for refused in [foreign, orphan, deleted, deleted_and_unstored] {
        let key = refused.claim.unwrap().key;
        assert_eq!(room.db.begin_turn(refused.clone()).await, Err(DbError::NotFound));
        assert_eq!(room.db.claimed(refused.user, key).await, Ok(None));
        if refused.user == eve.id {
            assert_eq!(room.db.begin_turn(begin_with(eve.id, key, "sea")).await, Ok(Begun::New));
        }
    }
    // One that the database refuses takes its key back with the transaction.
    let twice = BeginTurn { turn: hers.turn, ..begin_with(ada.id, some_hash(), "sky") };
    assert_eq!(room.db.begin_turn(twice.clone()).await, Err(DbError::Conflict("row")));
    assert_eq!(room.db.claimed(ada.id, twice.claim.unwrap().key).await, Ok(None));
}

pub(super) async fn b14_who_asks_for_the_same_beside_a_refused_turn_is_refused_with_it(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let key = some_hash();
    let nowhere: Vec<_> = (0..32)
        .map(|_| {
            let mut begin = begin_with(user.id, key, "sky");
            exchange(&mut begin).new_conversation_title = None;
            begin
        })
        .collect();
    let hold = ground.hold_writes().await;
    let begins = join_all(nowhere.iter().map(|turn| room.db.begin_turn(turn.clone())));
    let release = async {
        room.lanes_taken().await;
        hold.release().await;
    };
    let (answers, ()) = tokio::join!(begins, release);
    assert!(answers.iter().all(|answer| *answer == Err(DbError::NotFound)), "{answers:?}");
    assert_eq!(ground.count("SELECT count(*) FROM idempotency_keys").await, 0);
}

/// Whether the key of a turn that ended like this is free.
async fn is_freed(room: &Running, begin: BeginTurn, end: Settlement) -> bool {
    assert_eq!(room.db.begin_turn(begin.clone()).await, Ok(Begun::New));
    settle(&room.db, end).await.unwrap();
    room.db.claimed(begin.user, begin.claim.unwrap().key).await.unwrap().is_none()
}

pub(super) async fn b14_an_end_without_text_frees_the_key_and_any_other_keeps_it(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let turn = || begin_with(user.id, some_hash(), "sky");
    let ends = [
        (TurnStatus::Failed, true),
        (TurnStatus::Cancelled, true),
        (TurnStatus::Interrupted, true),
        (TurnStatus::Complete, false),
    ];
    for (status, frees) in ends {
        let begin = turn();
        let silent = Settlement { status, ..settlement(&begin, "") };
        assert_eq!(is_freed(&room, begin, silent).await, frees, "{status:?}");
        let begin = BeginTurn { exchange: None, ..turn() };
        let mut silent = Settlement { status, ..settlement(&begin, "") };
        silent.timings.first_token = None;
        assert_eq!(is_freed(&room, begin, silent).await, frees, "{status:?}");
    }
    let call = ToolCall { id: "1".into(), name: "f".into(), arguments: serde_json::json!({}) };
    for said in 0..3 {
        let begin = turn();
        let mut end = Settlement { status: TurnStatus::Failed, ..settlement(&begin, "") };
        match said {
            0 => end.answer.content = "because".into(),
            1 => end.answer.thinking = "hm".into(),
            _ => end.answer.tool_calls = vec![call.clone()],
        }
        assert!(!is_freed(&room, begin, end).await);
    }

    // An end is written once, and so is what becomes of the key.
    let begin = turn();
    room.db.begin_turn(begin.clone()).await.unwrap();
    settle(&room.db, settlement(&begin, "because")).await.unwrap();
    settle(&room.db, Settlement { status: TurnStatus::Failed, ..settlement(&begin, "") }).await.unwrap();
    let key = begin.claim.unwrap().key;
    assert_eq!(room.db.begin_turn(begin_with(user.id, key, "sky")).await, same_as(begin.turn));

    // A key that was freed stands for the next turn, whatever comes late of the first.
    let (first, second) = (turn(), turn());
    let second = BeginTurn { claim: first.claim, ..second };
    let failed = Settlement { status: TurnStatus::Failed, ..settlement(&first, "") };
    assert!(is_freed(&room, first, failed.clone()).await);
    assert_eq!(room.db.begin_turn(second.clone()).await, Ok(Begun::New));
    settle(&room.db, failed).await.unwrap();
    let claimed = room.db.claimed(user.id, second.claim.unwrap().key).await.unwrap().unwrap();
    assert_eq!(claimed.0, second.turn);
}

pub(super) async fn b14_a_turn_that_died_without_text_frees_its_key_and_any_other_keeps_it(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let turn = || begin_with(user.id, some_hash(), "sky");
    let unstored = BeginTurn { exchange: None, ..turn() };
    let (silent, alive) = (turn(), BeginTurn { lease_until: noon() + TimeDelta::hours(1), ..turn() });
    let (said, thought, called) = (turn(), turn(), turn());
    let turns = [
        (&silent, true),
        (&unstored, true),
        (&alive, false),
        (&said, false),
        (&thought, false),
        (&called, false),
    ];
    for (begin, _) in turns {
        assert_eq!(room.db.begin_turn(begin.clone()).await, Ok(Begun::New));
    }
    room.db.checkpoint(checkpoint(&said, 1, "because"));
    let mut silently = checkpoint(&thought, 1, "");
    silently.answer.thinking = "hm".into();
    room.db.checkpoint(silently);
    let mut silently = checkpoint(&called, 1, "");
    silently.answer.tool_calls =
        vec![ToolCall { id: "1".into(), name: "f".into(), arguments: serde_json::json!({}) }];
    room.db.checkpoint(silently);
    for begin in [&said, &thought, &called] {
        // Its lane keeps the order, and a stranger cancels nothing.
        assert_eq!(room.db.request_cancel(fresh_id(), begin.turn).await, Ok(false));
    }
    assert_eq!(room.db.sweep_dead_turns(alive.owner, noon() + TimeDelta::minutes(1)).await, Ok(5));
    for (begin, is_freed) in turns {
        let again = room.db.begin_turn(begin_with(user.id, begin.claim.unwrap().key, "sky")).await;
        assert_eq!(again, if is_freed { Ok(Begun::New) } else { same_as(begin.turn) });
    }
}

pub(super) async fn b14_keys_are_freed_when_they_are_old_some_at_a_time(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let mut turns = Vec::new();
    for hours in 0..5 {
        let at = noon() + TimeDelta::hours(hours);
        let begin = BeginTurn { created_at: at, ..begin_with(user.id, some_hash(), "sky") };
        room.db.begin_turn(begin.clone()).await.unwrap();
        turns.push(begin);
    }
    for freed in [2, 1, 0] {
        let before = noon() + TimeDelta::hours(3);
        assert_eq!(room.db.release_claims_before(before, 2).await, Ok(freed));
    }
    for (turn, is_kept) in turns.iter().zip([false, false, false, true, true]) {
        let claimed = room.db.claimed(user.id, turn.claim.unwrap().key).await.unwrap();
        assert_eq!(claimed.is_some(), is_kept);
    }
    assert_eq!(ground.count("SELECT count(*) FROM turns").await, 5);
}

pub(super) async fn b14_keys_taken_in_every_order_by_all_lanes_make_nobody_wait_for_ever(mut ground: Ground) {
    const KEYS: usize = 12;
    const ROUNDS: usize = 40;
    ground.config.exclusive = false;
    let (one, two) = (ground.room().await, ground.room().await);
    let user = some_user(&one.db).await;
    // Every lane connects before it is needed.
    for room in [&one, &two] {
        let begins = join_all((0..64).map(|_| room.db.begin_turn(begin(user.id)))).await;
        assert!(begins.iter().all(Result::is_ok));
    }
    let refused = || [&one, &two].map(|room| room.db.metrics.refused_transactions());
    let before = refused();
    // In the order of their ids, as they are taken.
    let keys: Vec<_> = (0..KEYS).map(|_| some_hash()).collect();
    // Each round asks for all keys, from another one on and every other time backwards.
    let turns: Vec<_> = (0..KEYS * ROUNDS)
        .map(|number| {
            let (round, place) = (number / KEYS, number % KEYS);
            let place = if round % 2 == 0 { place } else { KEYS - 1 - place };
            begin_with(user.id, keys[(round + place) % KEYS], "sky")
        })
        .collect();
    // Somebody has one of them, so that all lanes stand still with some keys taken and others wanted.
    let is_postgres = ground.config.database_url.is_some();
    let unhex = if is_postgres { "decode" } else { "unhex" };
    let format = if is_postgres { ", 'hex'" } else { "" };
    let key = hex(keys[KEYS / 2]);
    let taken = format!(
        "INSERT INTO idempotency_keys (user_id, key, request, turn_id, created_at)
         SELECT id, {unhex}('{key}'{format}), {unhex}('{key}'{format}), id, created_at FROM users"
    );
    let hold = ground.hold(&taken).await;
    let rooms = (0..ROUNDS).flat_map(|round| [if round / 2 % 2 == 0 { &one } else { &two }; KEYS]);
    let begins = join_all(turns.iter().zip(rooms).map(|(turn, room)| room.db.begin_turn(turn.clone())));
    let release = async {
        one.lanes_taken().await;
        two.lanes_taken().await;
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let lanes = one.db.lanes.len() + two.db.lanes.len();
        let all_wait = async { while is_postgres && ground.count(waiting).await < lanes as i64 {} };
        // Less than they wait for a lock.
        let all_waited = timeout(Duration::from_secs(3), all_wait).await;
        hold.release().await;
        all_waited
    };
    let (answers, all_waited) = tokio::join!(begins, release);
    assert_eq!(all_waited, Ok(()), "nobody gave up");
    for key in &keys {
        let (turns, answers): (Vec<_>, Vec<_>) = turns
            .iter()
            .cloned()
            .zip(answers.iter().cloned())
            .filter(|(turn, _)| turn.claim.unwrap().key == *key)
            .unzip();
        assert_one_new(&turns, &answers);
    }
    assert_eq!(refused(), before, "no transaction lost to a deadlock");
    assert_eq!(ground.count("SELECT count(*) FROM idempotency_keys").await, KEYS as i64);
}
