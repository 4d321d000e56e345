//! What a process that died leaves to those that live.

use chrono::TimeDelta;
use domain::{
    reply::Answer,
    turn::{BeginTurn, Checkpoint, Claim, Exchange},
};

use super::*;

#[tokio::test]
async fn e2_b14_turns_of_a_dead_process_end_at_the_start_and_old_keys_are_freed() {
    let house = House::open(Script::new(&["m"], answer("fine")), ModelConfig::default()).await;
    let ada = house.somebody().await;
    let now = house.ctx.clock.now();
    let left_behind = |age| BeginTurn {
        turn: fresh_id(),
        user: ada.user,
        key: None,
        claim: Some(Claim { key: [age; 32], request: [0; 32] }),
        exchange: Some(Exchange {
            conversation: fresh_id(),
            new_conversation_title: Some("left behind".to_owned()),
            title_if_untitled: None,
            parent: None,
            messages: Vec::new(),
            reply: fresh_id(),
        }),
        model: "m:latest".into(),
        owner: fresh_id(),
        // The store has room for one service, so no lease of another says anything.
        lease_until: now + TimeDelta::days(1),
        created_at: now - TimeDelta::hours(age.into()),
    };
    let (old, young) = (left_behind(25), left_behind(23));
    for turn in [&old, &young] {
        house.db.begin_turn(turn.clone()).await.unwrap();
        // Without any text its key would be freed at once.
        let answer = Answer { content: "so far".to_owned(), ..Answer::default() };
        let reply = turn.stored().unwrap().message;
        house.db.checkpoint(Checkpoint { turn: turn.turn, reply, seq: 1, answer });
    }
    // Its successor begins as at the start of a service.
    house.kill("models_sup/leases");
    let claimed = async |hours: u8| house.db.claimed(ada.user, [hours; 32]).await.unwrap();
    let stands =
        async |begin: &BeginTurn| house.db.turn(ada.user, begin.turn).await.unwrap().unwrap().0.status;
    let is_over = async {
        while claimed(25).await.is_some()
            || stands(&old).await != TurnStatus::Interrupted
            || stands(&young).await != TurnStatus::Interrupted
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, is_over).await.expect("both are interrupted and the old key is freed");
    assert_eq!(claimed(23).await, Some((young.turn, [0; 32])));
    house.close().await;
}
