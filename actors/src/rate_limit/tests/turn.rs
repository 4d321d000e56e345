//! Turns in memory, on paused time: where their tokens are between admission and end.

use super::*;

/// Tokens left, asked by a turn that ends at once.
async fn tokens_left(room: &Room, number: u128) -> u32 {
    left(&turn(&room.limits, &user(number), 1).await.0, Scope::Tokens) + 1
}

#[tokio::test(start_paused = true)]
async fn c6_an_answer_nobody_waits_for_gives_its_reserve_back() {
    let tracker = TaskTracker::new();
    let room = room_on(move || {
        let memory = Memory::new(&slow(1).into_live(), &ShardMetrics::default());
        Later { memory: Arc::new(Mutex::new(memory)), tracker: tracker.clone() }
    })
    .await;
    let limits = room.limits.clone();
    let impatient = tokio::time::timeout(Duration::from_millis(5), async {
        let _ = turn(&limits, &user(1), 10).await;
    });
    assert!(impatient.await.is_err());
    tokio::time::sleep(Duration::from_millis(50)).await;
    // The request is gone, the tokens are not.
    let (decision, _) = turn(&limits, &user(1), 10).await;
    assert_eq!((decision.scope, left(&decision, Scope::Tokens)), (Scope::User, 10));
    room.assert_all_permits_are_back();
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn c6_a_reserve_flows_back_within_its_window_when_its_end_is_lost() {
    let config = RateLimitConfig {
        tokens: Some(RateLimitConfig::per_minute(600, 600)),
        ..RateLimitConfig::new(60, 60)
    };
    let room = room(config).await;
    let (_, reserve) = turn(&room.limits, &user(1), 600).await;
    let shard = room.shard(&user(1));
    let full: Vec<_> = std::iter::from_fn(|| shard.gate().try_enter()).collect();
    drop(reserve);
    drop(full);
    assert_eq!(room.metric("deepersensor_rate_limit_lost_settlements_total"), 1);
    let (refused, _) = turn(&room.limits, &user(1), 600).await;
    assert_eq!((refused.scope, refused.verdict.allowed), (Scope::Tokens, false));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(turn(&room.limits, &user(1), 600).await.0.verdict.allowed);
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn c6_an_answer_of_unknown_length_reserves_what_is_customary() {
    let room = room(RateLimitConfig { reserve_tokens: 70, ..slow(10) }).await;
    let model = ModelName::parse("m").unwrap().canonical();
    let size = TurnSize { prompt_tokens: 5, answer_tokens: None };
    let (decision, reserve) = room.limits.take_turn(&user(1), &model, size).await.unwrap();
    assert_eq!(left(&decision.unwrap(), Scope::Tokens), 25);
    drop(reserve);
    assert_eq!(tokens_left(&room, 1).await, 100);
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn each_user_has_turns_with_each_model_to_spend() {
    let model = Some(RateLimitConfig::per_minute(2, 2));
    let room = room(RateLimitConfig { model, tokens: None, ..slow(100) }).await;
    let ask = async |number, model| turn_with(&room.limits, &user(number), model, 5).await.0;
    for _ in 0..2 {
        assert!(ask(1, "qwen3:8b").await.verdict.allowed);
    }
    let refused = ask(1, "Qwen3:8B").await;
    assert_eq!((refused.scope, refused.verdict.allowed), (Scope::Model, false));
    assert_eq!(left(&refused, Scope::User), 98);
    assert!(ask(1, "llama3.2").await.verdict.allowed && ask(2, "qwen3:8b").await.verdict.allowed);
    room.supervisor.stop().await;
}
