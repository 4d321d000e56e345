//! Other settings for a room that works.

use super::*;
use crate::model::{UpstreamConfig, UpstreamKind};

impl House {
    fn reconfigure(&self, config: ModelConfig) {
        let prepared = self.models.prepare(config).unwrap();
        self.models.reconfigure(prepared);
    }

    async fn until(&self, what: &str, met: impl Fn(&Self) -> bool) {
        let met = async {
            while !met(self) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, met).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
    }

    fn slots(&self) -> usize {
        self.models.models().first().map_or(0, |model| model.slots)
    }

    fn workers(&self) -> Vec<String> {
        let nodes = self.ctx.tree.snapshot().into_iter().map(|node| node.path);
        nodes.filter_map(|path| path.strip_prefix("models_sup/m:latest/").map(str::to_owned)).collect()
    }
}

/// An answer that begins, and ends when it is told to.
fn slow(script: &Script) -> Arc<Notify> {
    let go = Arc::new(Notify::new());
    let mut steps = vec![say("slow "), Step::Await(go.clone())];
    steps.extend(answer("end"));
    script.then(Ok(steps));
    go
}

fn slots(slots: usize) -> ModelConfig {
    ModelConfig { slots, ..ModelConfig::default() }
}

#[tokio::test]
async fn more_slots_serve_what_waits_at_once_and_what_runs_goes_on() {
    let house = House::open(Script::new(&["m"], answer("fine")), slots(1)).await;
    let ada = house.somebody().await;
    let go = slow(&house.script);
    let mut running = house.turn(&ada).await;
    until_open(&house.script, 1).await;
    let mut waiting = [house.turn(&ada).await, house.turn(&ada).await];
    house.reconfigure(slots(3));
    for turn in &mut waiting {
        assert_eq!(finished(turn).await.0, "fine");
    }
    assert_eq!((house.slots(), house.workers().len()), (3, 3));
    go.notify_one();
    assert_eq!(finished(&mut running).await.0, "slow end");
    house.close().await;
}

#[tokio::test]
async fn slots_too_many_are_given_up_when_their_turns_have_ended_and_no_turn_is_cut() {
    let house = House::open(Script::new(&["m"], answer("fine")), slots(3)).await;
    let ada = house.somebody().await;
    let go = [slow(&house.script), slow(&house.script), slow(&house.script)];
    let mut running = [house.turn(&ada).await, house.turn(&ada).await, house.turn(&ada).await];
    until_open(&house.script, 3).await;
    house.reconfigure(slots(1));
    house.until("the new number", |house| house.slots() == 1).await;
    let mut next = house.turn(&ada).await;
    for (number, (go, turn)) in go.iter().zip(&mut running).enumerate() {
        assert_eq!(
            (house.script.prompts().len(), house.models.models()[0].waiting),
            (3, 1),
            "after {number}"
        );
        go.notify_one();
        assert_eq!(finished(turn).await.0, "slow end");
    }
    // One at a time from now on: the next had to wait for all three.
    assert_eq!(finished(&mut next).await.0, "fine");
    house.until("the workers to leave", |house| house.workers().len() == 1).await;
    // Names that became free are used again.
    house.reconfigure(slots(2));
    house.until("another worker", |house| house.workers().len() == 2).await;
    assert_eq!(house.workers().iter().filter(|name| name.starts_with("worker-")).count(), 2);
    let (mut one, mut two) = (house.turn(&ada).await, house.turn(&ada).await);
    assert_eq!((finished(&mut one).await.0, finished(&mut two).await.0), ("fine".into(), "fine".into()));
    house.close().await;
}

#[tokio::test]
async fn a_server_taken_out_keeps_its_turns_and_its_models_go() {
    let house = House::open(Script::new(&["m"], answer("fine")), slots(1)).await;
    let ada = house.somebody().await;
    let go = slow(&house.script);
    let mut running = house.turn(&ada).await;
    until_open(&house.script, 1).await;
    let mut waiting = house.turn(&ada).await;
    let demo = UpstreamConfig::new("demo", UpstreamKind::Demo);
    house.reconfigure(ModelConfig { upstreams: vec![demo], ..slots(1) });
    let (_, outcome, _) = finished(&mut waiting).await;
    assert!(failed(FailureCode::ModelNotFound)(&outcome), "{outcome:?}");
    house
        .until("the demo model", |house| {
            house
                .models
                .models()
                .iter()
                .map(|model| model.name.as_str().to_owned())
                .eq(["deepersensor-demo:latest"])
        })
        .await;
    // Put back while its last turn runs, it is the same server as before.
    house.reconfigure(slots(1));
    go.notify_one();
    assert_eq!(finished(&mut running).await.0, "slow end");
    // The router would look again by itself, only later.
    let routing = house.models.0.routing.clone();
    while house.slots() == 0 || house.models.models()[0].name.as_str() != "m:latest" {
        let _only_one = routing.refreshing.lock().await;
        routing.refresh().await;
    }
    let mut back = house.turn(&ada).await;
    assert_eq!(finished(&mut back).await.0, "fine");
    house.close().await;
}

#[tokio::test]
async fn a_longer_queue_lets_newcomers_in_and_a_shorter_one_sends_nobody_away() {
    let config = |queue_limit| ModelConfig { queue_limit, queue_per_user: queue_limit, ..slots(1) };
    let house = House::open(Script::new(&["m"], answer("fine")), config(1)).await;
    let ada = house.somebody().await;
    let go = slow(&house.script);
    let mut running = house.turn(&ada).await;
    until_open(&house.script, 1).await;
    let mut waiting = vec![house.turn(&ada).await];
    let ask_for = || house.models.start_turn(&ada, ask("hello"), STORED, TokenReserve::none());
    assert!(ask_for().await.is_err());
    house.reconfigure(config(3));
    let list = house.models.0.routing.table.load().0.values().next().unwrap().list.clone();
    house.until("the longer queue", |_| list.limits().places == 3).await;
    waiting.extend([house.turn(&ada).await, house.turn(&ada).await]);
    house.reconfigure(config(1));
    house.until("the shorter queue", |_| list.limits().places == 1).await;
    assert!(ask_for().await.is_err());
    go.notify_one();
    assert_eq!(finished(&mut running).await.0, "slow end");
    for turn in &mut waiting {
        assert_eq!(finished(turn).await.0, "fine");
    }
    house.close().await;
}

#[tokio::test]
async fn an_address_that_makes_no_sense_changes_nothing() {
    let house = House::open(Script::new(&["m"], answer("fine")), slots(1)).await;
    let kind = UpstreamKind::Ollama { base_url: "nonsense".to_owned() };
    let server = UpstreamConfig::new("ollama", kind);
    assert!(house.models.prepare(ModelConfig { upstreams: vec![server], ..slots(9) }).is_err());
    assert_eq!(house.slots(), 1);
    house.close().await;
}

#[tokio::test]
async fn a_router_that_is_killed_comes_back_to_the_newest_settings() {
    let house = House::open(Script::new(&["m"], answer("fine")), slots(1)).await;
    house.reconfigure(slots(2));
    house.until("two slots", |house| house.slots() == 2).await;
    house.kill("models_sup/router");
    house.kill("models_sup/m:latest/worker-1");
    let is_back = |house: &House| {
        ractor::registry::where_is(child_name(&house.ctx.system, "models_sup/m:latest/worker-1")).is_some()
            && ractor::registry::where_is(child_name(&house.ctx.system, "models_sup/router")).is_some()
    };
    house.until("both to fall", |house| !is_back(house)).await;
    house.until("both to be back", is_back).await;
    assert_eq!((house.slots(), house.workers().len()), (2, 2));
    let ada = house.somebody().await;
    let go = [slow(&house.script), slow(&house.script)];
    let mut turns = [house.turn(&ada).await, house.turn(&ada).await];
    until_open(&house.script, 2).await;
    for (go, turn) in go.iter().zip(&mut turns) {
        go.notify_one();
        assert_eq!(finished(turn).await.0, "slow end");
    }
    house.close().await;
}
