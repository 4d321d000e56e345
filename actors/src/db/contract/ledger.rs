//! Turns as the ledger knows them, whatever becomes of whoever runs them.

use chrono::TimeDelta;
use domain::{
    chat::ToolCall,
    id::TurnId,
    reply::{FailureCode, FinishReason, UsageSource},
    turn::{BeginTurn, Settlement, StoredTurn, TurnStatus},
};

use super::{
    ground::{Ground, Running},
    samples::*,
};
use crate::clock::fresh_id;

/// Resolves when all that was queued for a turn is written.
async fn written(room: &Running, turn: TurnId) {
    // Its lane keeps the order, and a stranger cancels nothing.
    assert_eq!(room.db.request_cancel(fresh_id(), turn).await, Ok(false));
}

/// The turn as it was begun.
fn running(begin: &BeginTurn) -> StoredTurn {
    StoredTurn {
        turn: begin.turn,
        user: begin.user,
        model: begin.model.clone(),
        stored: begin.stored(),
        status: TurnStatus::Streaming,
        failure: None,
        finish_reason: None,
        usage: None,
        timings: None,
        owner: Some(begin.owner),
        created_at: begin.created_at,
        ended_at: None,
    }
}

/// The turn as it ended.
fn ended(begin: &BeginTurn, end: &Settlement) -> StoredTurn {
    StoredTurn {
        status: end.status,
        failure: end.failure,
        finish_reason: end.finish_reason,
        usage: Some(end.usage),
        timings: Some(end.timings),
        ended_at: Some(end.ended_at),
        ..running(begin)
    }
}

pub(super) async fn e2_a_turn_that_is_not_stored_is_in_the_ledger_before_its_end(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let (key, _) = some_key(&room.db, user.id).await;
    let begin = BeginTurn { key: Some(key.id), ..unstored(user.id) };
    room.db.open_turn(begin.clone());
    written(&room, begin.turn).await;
    assert_eq!(room.db.turn(user.id, begin.turn).await, Ok(Some((running(&begin), answer("")))));
    assert_eq!(ground.count("SELECT count(*) FROM turns WHERE api_key_id IS NOT NULL").await, 1);

    let end = settlement(&begin, "");
    settle(&room.db, end.clone()).await.unwrap();
    assert_eq!(room.db.turn(user.id, begin.turn).await, Ok(Some((ended(&begin, &end), answer("")))));
    assert_eq!(ground.count("SELECT count(*) FROM turns").await, 1);
}

pub(super) async fn e3_a_row_opened_twice_or_after_its_end_stays_as_it_is(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let begin = unstored(user.id);
    for _ in 0..2 {
        room.db.open_turn(begin.clone());
    }
    let end = settlement(&begin, "");
    settle(&room.db, end.clone()).await.unwrap();
    room.db.open_turn(begin.clone());
    written(&room, begin.turn).await;
    // It was settled in the batch that was to open it, so nobody needed to know who ran it.
    let ended = StoredTurn { owner: None, ..ended(&begin, &end) };
    assert_eq!(room.db.turn(user.id, begin.turn).await, Ok(Some((ended, answer("")))));

    // Of a writer that dies with both in hand, the settlement may be written first.
    let begin = unstored(user.id);
    let hold = ground.hold_writes().await;
    room.db.open_turn(begin.clone());
    let settled = settling(&room.db, settlement(&begin, ""));
    room.lanes_taken().await;
    for lane in room.db.lanes.iter() {
        lane.bell().slot().load().unwrap().kill();
    }
    hold.release().await;
    settled.await.unwrap().unwrap();
    written(&room, begin.turn).await;
    assert_eq!(ground.count("SELECT count(*) FROM turns WHERE status = 'complete'").await, 2);
    assert_eq!(ground.count("SELECT count(*) FROM turns").await, 2);
}

pub(super) async fn e2_an_open_row_that_nobody_settles_is_interrupted(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let begin = unstored(user.id);
    room.db.open_turn(begin.clone());
    written(&room, begin.turn).await;
    let now = noon() + TimeDelta::minutes(1);
    assert_eq!(room.db.sweep_dead_turns(fresh_id(), now).await, Ok(1));
    let swept = StoredTurn { status: TurnStatus::Interrupted, ended_at: Some(now), ..running(&begin) };
    assert_eq!(room.db.turn(user.id, begin.turn).await, Ok(Some((swept, answer("")))));

    // It was alive after all.
    let end = settlement(&begin, "");
    settle(&room.db, end.clone()).await.unwrap();
    assert_eq!(room.db.turn(user.id, begin.turn).await, Ok(Some((ended(&begin, &end), answer("")))));
}

pub(super) async fn e3_a_turn_is_read_back_as_it_ended(ground: Ground) {
    let room = ground.room().await;
    let (user, other) = (some_user(&room.db).await, some_user(&room.db).await);
    let call =
        ToolCall { id: "1".into(), name: "f".into(), arguments: serde_json::json!({ "b": 1, "a": 2 }) };
    let ends = [
        (TurnStatus::Complete, None, Some(FinishReason::ToolCalls), UsageSource::Reported),
        (TurnStatus::Failed, Some(FailureCode::UpstreamIncomplete), None, UsageSource::Counted),
        (TurnStatus::Cancelled, Some(FailureCode::Cancelled), None, UsageSource::Estimated),
        (TurnStatus::Interrupted, Some(FailureCode::ServerShuttingDown), None, UsageSource::Counted),
    ];
    for (status, failure, finish_reason, source) in ends {
        let begin = begin(user.id);
        room.db.begin_turn(begin.clone()).await.unwrap();
        let mut end = Settlement { status, failure, finish_reason, ..settlement(&begin, "Rayleigh") };
        end.usage.source = source;
        end.timings.load = std::time::Duration::from_millis(7);
        end.answer.thinking = "light, then".into();
        end.answer.tool_calls = vec![call.clone()];
        settle(&room.db, end.clone()).await.unwrap();
        let read = room.db.turn(user.id, begin.turn).await;
        assert_eq!(read, Ok(Some((ended(&begin, &end), end.answer.clone()))));
        // Asked for by somebody else it does not exist.
        assert_eq!(room.db.turn(other.id, begin.turn).await, Ok(None));
    }
    assert_eq!(room.db.turn(user.id, fresh_id()).await, Ok(None));
}

pub(super) async fn e3_an_end_whose_beginning_was_never_written_names_no_answer(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let first = begin(user.id);
    room.db.begin_turn(first.clone()).await.unwrap();
    let lost = begin_in(user.id, stored(&first).conversation);
    let end = settlement(&lost, "Rayleigh");
    settle(&room.db, end.clone()).await.unwrap();
    let ended = StoredTurn { stored: None, owner: None, ..ended(&lost, &end) };
    assert_eq!(room.db.turn(user.id, lost.turn).await, Ok(Some((ended, answer("")))));
    assert_eq!(ground.count("SELECT count(*) FROM turns WHERE reply_id IS NOT NULL").await, 1);
}

pub(super) async fn e3_a_running_turn_is_read_with_its_text_so_far(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let begin = begin(user.id);
    room.db.begin_turn(begin.clone()).await.unwrap();
    assert_eq!(room.db.turn(user.id, begin.turn).await, Ok(Some((running(&begin), answer("")))));
    room.db.checkpoint(checkpoint(&begin, 1, "because"));
    written(&room, begin.turn).await;
    assert_eq!(room.db.turn(user.id, begin.turn).await, Ok(Some((running(&begin), answer("because")))));
}

pub(super) async fn a_turn_whose_conversation_is_gone_has_no_answer(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let begin = begin(user.id);
    room.db.begin_turn(begin.clone()).await.unwrap();
    let end = settlement(&begin, "Rayleigh");
    settle(&room.db, end.clone()).await.unwrap();
    let gone = StoredTurn { stored: None, ..ended(&begin, &end) };
    let nothing = Ok(Some((gone, answer(""))));
    ground.execute("UPDATE conversations SET deleted_at = created_at").await.unwrap();
    assert_eq!(room.db.turn(user.id, begin.turn).await, nothing);
    for sql in ["DELETE FROM messages", "DELETE FROM conversations"] {
        ground.execute(sql).await.unwrap();
        assert_eq!(room.db.turn(user.id, begin.turn).await, nothing, "{sql}");
    }
}

pub(super) async fn a_turn_is_cancelled_by_its_user_while_it_runs(ground: Ground) {
    let room = ground.room().await;
    let (user, other) = (some_user(&room.db).await, some_user(&room.db).await);
    let (wanted, unwanted) = (begin(user.id), BeginTurn { exchange: None, ..begin(user.id) });
    let unwanted = BeginTurn { owner: wanted.owner, ..unwanted };
    for begin in [&wanted, &unwanted] {
        room.db.begin_turn(begin.clone()).await.unwrap();
    }
    assert_eq!(room.db.cancel_requests(wanted.owner).await, Ok(vec![]));
    assert_eq!(room.db.request_cancel(other.id, unwanted.turn).await, Ok(false), "it is not theirs");
    assert_eq!(room.db.request_cancel(user.id, fresh_id()).await, Ok(false));
    for _ in 0..2 {
        assert_eq!(room.db.request_cancel(user.id, unwanted.turn).await, Ok(true));
    }
    assert_eq!(room.db.cancel_requests(wanted.owner).await, Ok(vec![unwanted.turn]));
    assert_eq!(room.db.cancel_requests(fresh_id()).await, Ok(vec![]), "another instance runs it");

    settle(&room.db, Settlement { status: TurnStatus::Cancelled, ..settlement(&unwanted, "") })
        .await
        .unwrap();
    assert_eq!(room.db.request_cancel(user.id, unwanted.turn).await, Ok(false), "it ended");
    assert_eq!(room.db.cancel_requests(wanted.owner).await, Ok(vec![]));
}

pub(super) async fn e2_who_alone_is_on_a_store_interrupts_whatever_others_left(ground: Ground) {
    let is_alone = ground.config.database_url.is_none();
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let (left, ours) = (begin(user.id), begin(user.id));
    for begin in [&left, &ours] {
        room.db.begin_turn(begin.clone()).await.unwrap();
    }
    let open = unstored(user.id);
    room.db.open_turn(open.clone());
    room.db.checkpoint(checkpoint(&left, 1, "because"));
    written(&room, open.turn).await;
    written(&room, left.turn).await;
    room.stop().await;

    // All leases are good, but only of a database that others reach does that tell anything.
    let room = ground.room().await;
    let swept = room.db.sweep_dead_turns(ours.owner, noon()).await;
    assert_eq!(swept, Ok(if is_alone { 2 } else { 0 }));
    let dead = if is_alone { TurnStatus::Interrupted } else { TurnStatus::Streaming };
    for (begin, status, text) in
        [(&left, dead, "because"), (&open, dead, ""), (&ours, TurnStatus::Streaming, "")]
    {
        let (turn, said) = room.db.turn(user.id, begin.turn).await.unwrap().unwrap();
        assert_eq!((turn.status, said), (status, answer(text)));
    }
    let message = "SELECT count(*) FROM messages WHERE status = 'streaming'";
    assert_eq!(ground.count(message).await, if is_alone { 1 } else { 2 });
}

pub(super) async fn an_answer_that_changes_is_to_be_indexed_again(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let begin = begin(user.id);
    room.db.begin_turn(begin.clone()).await.unwrap();
    room.db.sweep_dead_turns(fresh_id(), noon() + TimeDelta::minutes(1)).await.unwrap();
    let (index, indexed) = if ground.config.database_url.is_some() {
        let index = &["UPDATE messages SET words = ARRAY['so', 'far']"][..];
        (index, "SELECT count(*) FROM messages WHERE words IS NOT NULL")
    } else {
        let index = &[
            "INSERT OR REPLACE INTO message_words (rowid, words) VALUES (7, 'so far'), (8, 'why')",
            "UPDATE messages SET word_row = CASE role WHEN 'assistant' THEN 7 ELSE 8 END",
        ][..];
        (index, "SELECT count(*) FROM message_words")
    };
    let look_at_all = async || {
        for sql in index {
            ground.execute(sql).await.unwrap();
        }
        assert_eq!(ground.count(indexed).await, 2);
    };
    look_at_all().await;
    settle(&room.db, settlement(&begin, "another text")).await.unwrap();
    assert_eq!(ground.count(indexed).await, 1, "what was asked stays");
    // From now on it stays as it is, and so does what it is found by.
    look_at_all().await;
    settle(&room.db, settlement(&begin, "too late")).await.unwrap();
    assert_eq!(ground.count(indexed).await, 2);
}
