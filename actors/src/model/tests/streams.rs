//! Running streams per user, over all models of the room.

use super::*;
use crate::{model::Model, rate_limit::StreamLease};

/// The number for everybody, unless an account has its own.
const STREAMS: usize = 4;

fn stalling() -> Vec<Step> {
    vec![say("so far"), Step::Stall]
}

fn roomy() -> ModelConfig {
    ModelConfig { slots: 8, ..ModelConfig::default() }
}

impl House {
    async fn ask_of(&self, model: &str, principal: &Principal) -> StartedTurn {
        let request = ChatRequest { model: ModelName::parse(model).unwrap(), ..ask("hello") };
        self.models.start_turn(principal, request, STORED, TokenReserve::none()).await.unwrap()
    }

    /// Waits until so many turns wait and none of them is just being asked for.
    async fn until_waiting(&self, count: usize) {
        let settled = || {
            let models = self.models.models();
            let sum = |of: fn(&Model) -> usize| models.iter().map(of).sum::<usize>();
            sum(|model| model.waiting) == count && sum(|model| model.running) == STREAMS
        };
        let waiting = async {
            while !settled() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("turns wait");
    }

    /// Waits until somebody is held.
    async fn until_held(&self) {
        let held = async {
            while self.models.0.routing.streams.held() == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, held).await.expect("a user is held");
    }

    fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.ctx.registry.lock()).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
    }

    /// Leases that another instance would have.
    async fn leases_elsewhere(&self, principal: &Principal, count: usize) -> Vec<StreamLease> {
        let mut leases = Vec::new();
        for _ in 0..count {
            let leased = self.limits.lease_stream(principal.user, fresh_id(), u32::MAX).await;
            leases.push(leased.unwrap().unwrap());
        }
        leases
    }

    async fn close_quietly(self) {
        let streams = self.models.0.routing.streams.clone();
        self.close().await;
        assert_eq!(streams.held(), 0);
    }
}

#[tokio::test]
async fn c7_four_turns_of_a_user_run_and_the_others_follow_one_by_one() {
    let house = House::open(Script::new(&["m"], stalling()), roomy()).await;
    let (ada, bob) = (house.somebody().await, house.somebody().await);
    let mut running = Vec::new();
    for _ in 0..STREAMS {
        running.push(house.turn(&ada).await);
    }
    until_open(&house.script, STREAMS).await;
    house.script.always(Ok(answer("fine")));
    let mut waiting = [house.turn(&ada).await, house.turn(&ada).await];
    house.until_waiting(2).await;
    assert_eq!(house.metric("deepersensor_stream_leases"), 4);
    assert!(house.metric("deepersensor_stream_holds_total") > 0);

    let mut other = house.turn(&bob).await;
    assert_eq!(finished(&mut other).await.0, "fine", "others pass");
    assert_eq!(house.models.models()[0].waiting, 2);

    // Hanging up frees the lease, and each that follows frees it for the next.
    running.pop();
    for turn in &mut waiting {
        assert_eq!(finished(turn).await.0, "fine");
    }
    drop(running);
    house.close_quietly().await;
}

#[tokio::test]
async fn c7_turns_are_counted_over_all_models_and_a_turn_of_one_makes_room_at_another() {
    let house = House::open(Script::new(&["m", "n"], stalling()), roomy()).await;
    let ada = house.somebody().await;
    let mut running = Vec::new();
    for model in ["m", "n", "m", "n"] {
        running.push(house.ask_of(model, &ada).await);
    }
    until_open(&house.script, STREAMS).await;
    house.script.always(Ok(answer("fine")));
    let (mut one, mut two) = (house.ask_of("m", &ada).await, house.ask_of("n", &ada).await);
    house.until_waiting(2).await;
    drop(running.remove(0));
    assert_eq!(finished(&mut one).await.0, "fine");
    assert_eq!(finished(&mut two).await.0, "fine");
    drop(running);
    house.close_quietly().await;
}

#[tokio::test]
async fn c7_what_another_instance_frees_is_found_within_a_second() {
    let house = House::open(Script::new(&["m"], answer("fine")), roomy()).await;
    let ada = house.somebody().await;
    let elsewhere = house.leases_elsewhere(&ada, STREAMS).await;
    let mut turn = house.turn(&ada).await;
    house.until_held().await;
    drop(elsewhere);
    assert_eq!(finished(&mut turn).await.0, "fine", "nothing of this instance has ended");
    house.close_quietly().await;
}

#[tokio::test]
async fn c7_an_account_with_a_number_of_its_own_runs_as_many() {
    let house = House::open(Script::new(&["m"], stalling()), roomy()).await;
    let ada = house.somebody().await;
    let ada = Principal { limits: Limits { streams: Some(2), ..Limits::default() }, ..ada };
    let running = [house.turn(&ada).await, house.turn(&ada).await];
    until_open(&house.script, 2).await;
    let waiting = house.turn(&ada).await;
    house.until_held().await;
    assert_eq!(*house.script.open().borrow(), 2);
    // A held turn leaves like any other.
    drop(waiting);
    assert_eq!(house.models.models()[0].waiting, 0);
    drop(running);
    house.close_quietly().await;
}

#[tokio::test]
async fn c7_without_a_limiter_turns_run_all_the_same() {
    let house = House::open_without_limiter(Script::new(&["m"], stalling()), roomy()).await;
    let ada = house.somebody().await;
    let mut running = Vec::new();
    for _ in 0..6 {
        running.push(house.turn(&ada).await);
    }
    until_open(&house.script, 6).await;
    let unasked = "deepersensor_rate_limit_decisions_total{scope=\"stream\",outcome=\"unavailable\"}";
    assert_eq!((house.metric(unasked), house.metric("deepersensor_stream_leases")), (6, 0));
    drop(running);
    house.close_quietly().await;
}

#[tokio::test]
async fn c7_halting_ends_held_turns_too() {
    let house = House::open(Script::new(&["m"], stalling()), roomy()).await;
    let ada = house.somebody().await;
    let elsewhere = house.leases_elsewhere(&ada, STREAMS).await;
    let mut turn = house.turn(&ada).await;
    house.until_held().await;
    house.models.halt(PATIENCE).await;
    let (_, outcome, _) = finished(&mut turn).await;
    assert!(failed(FailureCode::ServerShuttingDown)(&outcome), "{outcome:?}");
    drop(elsewhere);
    house.close().await;
}
