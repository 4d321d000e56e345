//! Turns from birth to settlement.

use chrono::TimeDelta;
use domain::{
    chat::{Role, ToolCall},
    reply::FailureCode,
    turn::{BeginTurn, Settlement, TurnStatus},
};

use super::{
    ground::{Ground, Running},
    samples::*,
};
use crate::{clock::fresh_id, db::DbError};

/// The assistant's message of a conversation with one turn.
async fn reply_of(room: &Running, begin: &BeginTurn) -> (TurnStatus, String) {
    let messages =
        room.db.history(begin.user, stored(begin).conversation, 100, u32::MAX).await.unwrap().unwrap();
    let reply = messages.into_iter().find(|message| message.id == stored(begin).message).unwrap();
    (reply.status, reply.message.content)
}

pub(super) async fn e2_a_turn_is_born_with_its_messages_and_an_empty_answer(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let begin = begin(user.id);
    room.db.begin_turn(begin.clone()).await.unwrap();

    let conversation = room.db.conversation(user.id, stored(&begin).conversation).await.unwrap().unwrap();
    assert_eq!((conversation.title.as_str(), conversation.created_at), ("the sky", noon()));
    let messages =
        room.db.history(user.id, stored(&begin).conversation, 100, u32::MAX).await.unwrap().unwrap();
    let shown: Vec<_> = messages
        .iter()
        .map(|m| (m.id, m.turn, m.message.role, m.message.content.as_str(), m.status))
        .collect();
    assert_eq!(
        shown,
        [
            (messages_of(&begin)[0].id, begin.turn, Role::User, "why is the sky blue?", TurnStatus::Complete),
            (stored(&begin).message, begin.turn, Role::Assistant, "", TurnStatus::Streaming),
        ]
    );
    assert_eq!(ground.count("SELECT count(*) FROM turns WHERE status = 'streaming'").await, 1);
}

pub(super) async fn a_turn_in_a_foreign_or_missing_conversation_is_not_found(ground: Ground) {
    let room = ground.room().await;
    let (ada, eve) = (some_user(&room.db).await, some_user(&room.db).await);
    let first = begin(ada.id);
    room.db.begin_turn(first.clone()).await.unwrap();

    assert_eq!(
        room.db.begin_turn(begin_in(eve.id, stored(&first).conversation)).await,
        Err(DbError::NotFound)
    );
    assert_eq!(room.db.begin_turn(begin_in(ada.id, fresh_id())).await, Err(DbError::NotFound));
    // Claiming to create it makes it no more hers.
    let mut claimed = begin(eve.id);
    exchange(&mut claimed).conversation = stored(&first).conversation;
    assert_eq!(room.db.begin_turn(claimed).await, Err(DbError::NotFound));
    assert_eq!(ground.count("SELECT count(*) FROM turns").await, 1);

    let mut second = begin_in(ada.id, stored(&first).conversation);
    second.created_at += TimeDelta::minutes(1);
    room.db.begin_turn(second).await.unwrap();
    let conversation = room.db.conversation(ada.id, stored(&first).conversation).await.unwrap().unwrap();
    assert_eq!(conversation.updated_at, noon() + TimeDelta::minutes(1));
}

pub(super) async fn e2_a_checkpoint_with_a_lower_number_changes_nothing(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let begin = begin(user.id);
    room.db.begin_turn(begin.clone()).await.unwrap();
    // Its lane keeps the order, so the answer to a later change of the same turn proves the earlier ones done.
    let barrier = || {
        room.db.begin_turn(BeginTurn { turn: begin.turn, ..begin_in(user.id, stored(&begin).conversation) })
    };
    room.db.checkpoint(checkpoint(&begin, 2, "because of Rayleigh"));
    room.db.checkpoint(checkpoint(&begin, 1, "because"));
    barrier().await.unwrap_err();
    room.db.checkpoint(checkpoint(&begin, 1, "because"));
    room.db.checkpoint(checkpoint(&begin, 2, "be"));
    barrier().await.unwrap_err();
    assert_eq!(reply_of(&room, &begin).await, (TurnStatus::Streaming, "because of Rayleigh".into()));
}

pub(super) async fn a_settlement_is_written_once_and_ends_checkpoints(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let begin = begin(user.id);
    room.db.begin_turn(begin.clone()).await.unwrap();
    assert_eq!(settle(&room.db, settlement(&begin, "Rayleigh scattering.")).await, Ok(()));
    room.db.checkpoint(checkpoint(&begin, 9, "too late"));
    let second = Settlement { status: TurnStatus::Failed, ..settlement(&begin, "another end") };
    assert_eq!(settle(&room.db, second).await, Ok(()));

    assert_eq!(reply_of(&room, &begin).await, (TurnStatus::Complete, "Rayleigh scattering.".into()));
    let row = "SELECT count(*) FROM turns WHERE status = 'complete' AND failure IS NULL AND finish_reason = 'stop'
               AND prompt_tokens = 11 AND completion_tokens = 7 AND usage_source = 'reported' AND queued_ms = 5
               AND load_ms = 0 AND first_token_ms = 40 AND total_ms = 900 AND lease_until IS NULL";
    assert_eq!(ground.count(row).await, 1);
}

pub(super) async fn a_turn_that_is_not_stored_leaves_only_its_usage(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let begin = begin(user.id);
    let usage = Settlement {
        stored: None,
        status: TurnStatus::Failed,
        failure: Some(FailureCode::UpstreamError),
        finish_reason: None,
        ..settlement(&begin, "nobody keeps this")
    };
    for _ in 0..2 {
        assert_eq!(settle(&room.db, usage.clone()).await, Ok(()));
    }
    assert_eq!(ground.count("SELECT count(*) FROM turns WHERE failure = 'upstream_error'").await, 1);
    assert_eq!(ground.count("SELECT count(*) FROM messages").await, 0);
    assert_eq!(ground.count("SELECT count(*) FROM conversations").await, 0);
}

pub(super) async fn a_late_settlement_overrules_the_sweep(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let begin = begin(user.id);
    room.db.begin_turn(begin.clone()).await.unwrap();
    assert_eq!(room.db.sweep_dead_turns(fresh_id(), noon() + TimeDelta::minutes(1)).await, Ok(1));
    assert_eq!(reply_of(&room, &begin).await.0, TurnStatus::Interrupted);
    assert_eq!(settle(&room.db, settlement(&begin, "here after all")).await, Ok(()));
    assert_eq!(reply_of(&room, &begin).await, (TurnStatus::Complete, "here after all".into()));
}

pub(super) async fn e2_the_sweep_interrupts_what_nobody_renews(mut ground: Ground) {
    // Others may be at work on the store, so only their leases tell.
    ground.config.exclusive = false;
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let (dead, alive, ended) = (begin(user.id), begin(user.id), begin(user.id));
    for turn in [&dead, &alive, &ended] {
        room.db.begin_turn(turn.clone()).await.unwrap();
    }
    room.db.checkpoint(checkpoint(&dead, 1, "because"));
    settle(&room.db, settlement(&ended, "done")).await.unwrap();
    room.db.renew_leases(alive.owner, noon() + TimeDelta::minutes(5)).await.unwrap();

    let now = noon() + TimeDelta::seconds(31);
    assert_eq!(room.db.sweep_dead_turns(fresh_id(), now).await, Ok(1));
    assert_eq!(room.db.sweep_dead_turns(fresh_id(), now).await, Ok(0));
    assert_eq!(reply_of(&room, &dead).await, (TurnStatus::Interrupted, "because".into()));
    assert_eq!(reply_of(&room, &alive).await.0, TurnStatus::Streaming);
    assert_eq!(reply_of(&room, &ended).await.0, TurnStatus::Complete);
}

pub(super) async fn text_with_a_nul_character_is_stored(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let mut begin = begin(user.id);
    exchange(&mut begin).messages[0].message.content = "a\0b".into();
    room.db.begin_turn(begin.clone()).await.unwrap();
    let mut end = settlement(&begin, "c\0d");
    let call = ToolCall { id: "1".into(), name: "f".into(), arguments: serde_json::json!({ "x": "e\0f" }) };
    end.answer.tool_calls.push(call.clone());
    settle(&room.db, end).await.unwrap();
    let messages =
        room.db.history(user.id, stored(&begin).conversation, 100, u32::MAX).await.unwrap().unwrap();
    assert_eq!(messages[0].message.content, "a\u{fffd}b");
    assert_eq!(messages[1].message.content, "c\u{fffd}d");
    assert_eq!(messages[1].message.tool_calls, [call]);
}

/// Teaches the database to refuse the end of every turn.
async fn refuse_ends(ground: &Ground) {
    let statements: &[&str] = if ground.config.database_url.is_some() {
        &[
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$",
            "CREATE TRIGGER refuse BEFORE UPDATE ON turns FOR EACH ROW WHEN (NEW.status = 'complete')
             EXECUTE FUNCTION refuse()",
        ]
    } else {
        &["CREATE TRIGGER refuse BEFORE UPDATE ON turns WHEN NEW.status = 'complete'
           BEGIN SELECT RAISE(ABORT, 'refused'); END"]
    };
    for statement in statements {
        ground.execute(statement).await.unwrap();
    }
}

pub(super) async fn a_turn_whose_end_was_given_up_is_let_go_however_often_it_is_renewed(ground: Ground) {
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    let (lost, runs) = (begin(user.id), begin(user.id));
    for begun in [&lost, &runs] {
        room.db.begin_turn(BeginTurn { owner: lost.owner, ..begun.clone() }).await.unwrap();
    }
    refuse_ends(&ground).await;
    let told = settle(&room.db, settlement(&lost, "refused")).await;
    assert!(matches!(told, Err(DbError::Broken(_))), "{told:?}");
    assert_eq!(room.db.lost_settlements(), 1);

    let late = noon() + TimeDelta::days(1);
    room.db.renew_leases(lost.owner, late).await.unwrap();
    assert_eq!(room.db.sweep_own_turns(lost.owner, noon()).await, Ok(1));
    let stands = async |turn| room.db.turn(user.id, turn).await.unwrap().unwrap().0.status;
    assert_eq!(stands(lost.turn).await, TurnStatus::Interrupted);
    assert_eq!(stands(runs.turn).await, TurnStatus::Streaming);
    assert_eq!(room.db.sweep_own_turns(lost.owner, noon()).await, Ok(0), "once");
}

pub(super) async fn e2_who_has_just_reached_the_store_takes_nobody_for_dead_by_their_lease(
    mut ground: Ground,
) {
    // Others may be on it.
    ground.config.exclusive = false;
    let room = ground.room().await;
    let user = some_user(&room.db).await;
    room.db.begin_turn(begin(user.id)).await.unwrap();
    let late = noon() + TimeDelta::days(1);
    assert_eq!(room.db.sweep_own_turns(fresh_id(), late).await, Ok(0));
    assert_eq!(room.db.sweep_dead_turns(fresh_id(), late).await, Ok(1));
}
