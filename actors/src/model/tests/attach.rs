//! Turns that somebody comes back to.

use domain::{
    id::TurnId,
    reply::Position,
    turn::{Claim, StoredTurn},
};

use super::*;
use crate::model::{Attached, claim_of};

impl House {
    async fn attached(&self, principal: &Principal, turn: TurnId) -> Attached {
        self.models.attach(principal, turn, Position::default()).await.unwrap()
    }

    fn in_memory(&self) -> usize {
        self.models.0.turns.len()
    }

    async fn start(&self, principal: &Principal, options: TurnOptions) -> Result<StartedTurn, ModelError> {
        self.models.start_turn(principal, ask("hello"), options, TokenReserve::none()).await
    }
}

fn keyed(claim: Claim) -> TurnOptions {
    TurnOptions { claim: Some(claim), continue_on_disconnect: true, ..STORED }
}

/// What the store has of a turn that was attached to.
fn stored(attached: Attached) -> (StoredTurn, String) {
    let Attached::Stored { turn, answer } = attached else { panic!("it is still in memory") };
    (turn, answer.content)
}

#[tokio::test]
async fn a_turn_is_read_from_memory_while_it_lives_and_after_and_then_from_the_store() {
    let (steps, go) = held_up();
    let config = ModelConfig { reply_kept: PATIENCE, ..ModelConfig::default() };
    let house = House::open(Script::new(&["m"], steps), config).await;
    let (ada, eve) = (house.somebody().await, house.somebody().await);
    let mut turn = house.start(&ada, TurnOptions { continue_on_disconnect: true, ..STORED }).await.unwrap();
    let Attached::Live { names, mut reader } = house.attached(&ada, turn.turn).await else {
        panic!("it lives")
    };
    assert_eq!((names.message, names.conversation), (turn.message, turn.conversation));
    assert_eq!(house.models.turn(&ada, turn.turn).await.unwrap().status, TurnStatus::Streaming);
    for refused in [
        house.models.attach(&eve, turn.turn, Position::default()).await.err(),
        house.models.turn(&eve, turn.turn).await.err(),
        house.models.cancel_turn(&eve, turn.turn).await.err(),
        house.models.cancel_turn(&ada, fresh_id()).await.err(),
    ] {
        assert_eq!(refused, Some(ModelError::UnknownTurn), "a17: foreign ids do not exist");
    }
    go.notify_one();
    assert_eq!(finished(&mut turn).await.0, "still here");
    assert_eq!(reader.finished().await.0.content, "still here");
    let ended = house.models.turn(&ada, turn.turn).await.unwrap();
    assert!(ended.status == TurnStatus::Complete && ended.ended_at.is_some(), "{ended:?}");
    assert!(matches!(house.attached(&ada, turn.turn).await, Attached::Live { .. }));
    assert_eq!(house.models.cancel_turn(&ada, turn.turn).await.unwrap(), ended, "it stays as it is");

    house.models.0.turns.forget_all();
    // The store keeps durations in whole milliseconds.
    let but_timings = |turn: StoredTurn| StoredTurn { timings: ended.timings, ..turn };
    let (kept, text) = stored(house.attached(&ada, turn.turn).await);
    assert_eq!((but_timings(kept), text.as_str()), (ended.clone(), "still here"));
    assert_eq!(but_timings(house.models.turn(&ada, turn.turn).await.unwrap()), ended);
    assert_eq!(
        house.models.attach(&eve, turn.turn, Position::default()).await.err(),
        Some(ModelError::UnknownTurn)
    );
    house.close().await;
}

#[tokio::test]
async fn a_turn_is_cancelled_by_its_name_in_the_queue_and_in_its_slot() {
    let house =
        House::open(Script::new(&["m"], vec![say("so far"), Step::Stall]), ModelConfig::default()).await;
    let ada = house.somebody().await;
    let mut running = house.turn(&ada).await;
    until_open(&house.script, 1).await;
    let mut waiting = house.turn(&ada).await;
    for turn in [&mut waiting, &mut running] {
        assert_eq!(house.models.cancel_turn(&ada, turn.turn).await.unwrap().status, TurnStatus::Streaming);
        assert!(failed(FailureCode::Cancelled)(&finished(turn).await.1));
        assert_eq!(house.models.cancel_turn(&ada, turn.turn).await.unwrap().status, TurnStatus::Cancelled);
    }
    assert_eq!(house.script.prompts().len(), 1);
    house.close().await;
}

#[tokio::test]
async fn a_turn_that_nobody_reads_ends_when_it_has_lived_as_long_as_a_turn_may_wherever_it_is() {
    let config = ModelConfig { turn_max: Duration::ZERO, ..ModelConfig::default() };
    let house = House::open(Script::new(&["m"], vec![say("so far"), Step::Stall]), config).await;
    let ada = house.somebody().await;
    let unread = || house.start(&ada, TurnOptions { continue_on_disconnect: true, ..STORED });
    let running = unread().await.unwrap();
    let log = running.reader.log();
    until_open(&house.script, 1).await;
    while log.is_empty() {
        tokio::task::yield_now().await;
    }
    let waiting = unread().await.unwrap();
    let turns = [(running.turn, "so far"), (waiting.turn, "")];
    drop((running, waiting));
    assert_eq!(house.models.turn(&ada, turns[1].0).await.unwrap().status, TurnStatus::Streaming);
    house.models.0.turns.sweep();
    for (turn, kept) in turns {
        let Attached::Live { mut reader, .. } = house.attached(&ada, turn).await else {
            panic!("it is kept")
        };
        let (answer, ending) = reader.finished().await;
        assert!(failed(FailureCode::DeadlineExceeded)(&ending.outcome), "{ending:?}");
        assert_eq!((answer.content.as_str(), ending.stored), (kept, Some(true)));
        assert_eq!(house.models.turn(&ada, turn).await.unwrap().status, TurnStatus::Failed);
    }
    until_open(&house.script, 0).await;
    house.close().await;
}

#[tokio::test]
async fn answers_that_have_ended_make_room_for_new_turns() {
    let config = ModelConfig { reply_budget_bytes: 1_000, ..ModelConfig::default() };
    let house = House::open(Script::new(&["m"], answer(&"x".repeat(900))), config).await;
    let ada = house.somebody().await;
    let mut first = house.turn(&ada).await;
    assert_eq!(finished(&mut first).await.0.len(), 900);
    let name = first.turn;
    drop(first);
    assert_eq!(house.models.reply_bytes().0, 900, "it can still be read");
    let mut second = house.turn(&ada).await;
    assert_eq!(finished(&mut second).await.0.len(), 900);
    assert_eq!(stored(house.attached(&ada, name).await).1.len(), 900);
    house.close().await;
}

#[tokio::test]
async fn what_nobody_can_ask_for_is_not_kept_and_a_turn_that_never_began_leaves_nothing() {
    let house = House::open(Script::new(&["m"], answer("fine")), ModelConfig::default()).await;
    let ada = house.somebody().await;
    let unknown = TurnOptions { conversation: Some(fresh_id()), ..STORED };
    assert_eq!(house.start(&ada, unknown).await.err(), Some(ModelError::UnknownConversation));
    assert_eq!(house.in_memory(), 0);
    let nameless = TurnOptions { store: false, is_streamed: false, ..STORED };
    let mut turn = house.start(&ada, nameless).await.unwrap();
    assert_eq!(house.in_memory(), 1);
    assert_eq!(finished(&mut turn).await.0, "fine");
    assert_eq!(house.in_memory(), 0);
    house.close().await;
}

#[tokio::test]
async fn b14_a_key_stands_for_its_turn_here_and_for_whoever_comes_by_another_instance() {
    let house = House::open(Script::new(&["m"], answer("fine")), ModelConfig::default()).await;
    let (ada, eve) = (house.somebody().await, house.somebody().await);
    let claim = claim_of(b"key", b"body");
    assert_eq!(house.models.claimed(&ada, claim).await, Ok(None));
    let mut turn = house.start(&ada, keyed(claim)).await.unwrap();
    assert_eq!(house.models.claimed(&ada, claim).await, Ok(Some(turn.turn)));
    assert_eq!(house.models.claimed(&eve, claim).await, Ok(None));
    assert_eq!(finished(&mut turn).await.0, "fine");
    house.models.0.turns.forget_all();
    assert_eq!(house.models.claimed(&ada, claim).await, Ok(Some(turn.turn)), "the store knows");
    let other = claim_of(b"key", b"another body");
    assert_eq!(house.models.claimed(&ada, other).await, Err(ModelError::KeyTaken));
    // As if that were not known here yet.
    assert_eq!(house.start(&ada, keyed(claim)).await.err(), Some(ModelError::Exists(turn.turn)));
    assert_eq!(house.start(&ada, keyed(other)).await.err(), Some(ModelError::KeyTaken));
    assert_eq!(house.in_memory(), 0);
    assert_eq!(house.script.prompts().len(), 1);
    house.close().await;
}

#[tokio::test]
async fn b14_a_key_whose_turn_brought_nothing_is_free_again_also_when_nothing_is_stored() {
    let house = House::open(Script::new(&["m"], answer("fine")), ModelConfig::default()).await;
    let ada = house.somebody().await;
    for store in [true, false] {
        let claim = claim_of(b"key", if store { b"stored" } else { b"unstored" });
        house.script.then(Err(UpstreamError::Failed("no".to_owned())));
        let mut turn = house.start(&ada, TurnOptions { store, ..keyed(claim) }).await.unwrap();
        assert!(failed(FailureCode::UpstreamError)(&finished(&mut turn).await.1));
        assert_eq!(house.models.claimed(&ada, claim).await, Ok(None));
        let mut again = house.start(&ada, TurnOptions { store, ..keyed(claim) }).await.unwrap();
        assert_eq!(finished(&mut again).await.0, "fine");
        // And one that said something is not.
        let claim = claim_of(b"kept", if store { b"stored" } else { b"unstored" });
        house.script.then(Ok(vec![say("half"), Step::Fail(UpstreamError::Incomplete)]));
        let mut half = house.start(&ada, TurnOptions { store, ..keyed(claim) }).await.unwrap();
        assert_eq!(finished(&mut half).await.0, "half");
        assert_eq!(house.models.claimed(&ada, claim).await, Ok(Some(half.turn)));
        house.models.0.turns.forget_all();
        assert_eq!(house.models.claimed(&ada, claim).await, Ok(Some(half.turn)));
        let attached = house.attached(&ada, half.turn).await;
        let (turn, text) = stored(attached);
        assert_eq!((turn.stored.is_some(), text.as_str()), (store, if store { "half" } else { "" }));
        let free = house.db.release_claims_before(house.ctx.clock.now(), 100).await.unwrap();
        assert!(free > 0);
    }
    house.close().await;
}
