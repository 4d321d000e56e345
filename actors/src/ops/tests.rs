use std::{
    future::pending,
    sync::atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{actor::LOOK_INTERVAL, database::UNHEARD_AFTER, *};
use crate::{
    clock::Clock,
    db::{Ailment, DbError},
    handle::GateCollector,
    rate_limit::Counting,
    supervisor::{SupervisorHandle, spawn_supervisor},
    tree::Tree,
};

/// How the scripted database takes a question.
#[derive(Clone, Copy)]
enum Mood {
    Well,
    Down,
    /// Answers, and can write nothing.
    Full,
    Frozen,
    /// Questions do not get to it.
    Unheard,
}

/// A room whose database and models do what the test says.
struct Room {
    ops: OpsHandle,
    supervisor: SupervisorHandle,
    ctx: RoomContext,
    mood: Arc<Mutex<Mood>>,
    pings: Arc<AtomicUsize>,
    around: Arc<Mutex<Surroundings>>,
}

async fn room() -> Room {
    room_in(Mood::Well).await
}

async fn room_in(mood: Mood) -> Room {
    let ctx = RoomContext {
        system: format!("test-{}", Uuid::now_v7()).into(),
        clock: Clock::system(),
        tracker: TaskTracker::new(),
        closing: CancellationToken::new(),
        registry: Arc::new(Mutex::new(Registry::default())),
        tree: Tree::new(),
        gates: GateCollector::new(),
    };
    let (mood, pings) = (Arc::new(Mutex::new(mood)), Arc::new(AtomicUsize::new(0)));
    let around = Arc::new(Mutex::new(Surroundings {
        models: ModelCount { known: 2, available: 2 },
        servers: ["ollama", "demo"]
            .map(|name| Server { name: name.to_owned(), is_up: true, is_draining: false })
            .into(),
        counting: Counting::Together,
        spill: Spill::Works,
    }));
    let (scripted, asked) = (Arc::clone(&mood), Arc::clone(&pings));
    let ping: Ping = Arc::new(move || {
        asked.fetch_add(1, Ordering::Relaxed);
        let mood = *scripted.lock();
        Box::pin(async move {
            match mood {
                Mood::Well => Some(Ok(())),
                Mood::Down => {
                    Some(Err(Ailment::Silent(DbError::Unavailable("10.0.0.7:5432 refused".to_owned()))))
                }
                Mood::Full => {
                    Some(Err(Ailment::Unwritable(DbError::Unavailable("database error 53100".to_owned()))))
                }
                Mood::Frozen => pending().await,
                Mood::Unheard => None,
            }
        })
    });
    let seen = Arc::clone(&around);
    let (ops, spec) = build_on(&ctx, ping, Arc::new(move || seen.lock().clone()));
    let supervisor = SupervisorHandle::new();
    spawn_supervisor(None, &ctx.system, spec, ctx.tree.clone(), supervisor.clone()).await.unwrap();
    Room { ops, supervisor, ctx, mood, pings, around }
}

impl Room {
    /// Waits, on paused time, until the check named so says `ok`; returns it.
    async fn until(&self, name: &str, ok: bool, patience: Duration) -> Check {
        let deadline = Instant::now() + patience;
        loop {
            let check = self.check(name);
            if check.ok == ok {
                return check;
            }
            assert!(Instant::now() < deadline, "still {check:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn check(&self, name: &str) -> Check {
        let absent = Check { name: "absent", ok: false, detail: String::new() };
        self.ops.readiness().checks.into_iter().find(|check| check.name == name).unwrap_or(absent)
    }

    /// The metrics.
    fn page(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.ctx.registry.lock()).unwrap();
        text
    }

    fn ready(&self) -> bool {
        self.ops.readiness().ready
    }

    fn change(&self, change: impl FnOnce(&mut Surroundings)) {
        change(&mut self.around.lock());
    }
}

const SOON: Duration = Duration::from_millis(50);
/// One look, and the deadline of the question asked then.
const ONE_LOOK: Duration = Duration::from_millis(1_100);

#[tokio::test(start_paused = true)]
async fn it_is_ready_once_the_database_has_answered() {
    let room = room().await;
    room.until("database", true, SOON).await;
    assert!(room.ready());
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_look_readiness_is_true_at_once() {
    let room = room().await;
    // What the room found when it started is out of date.
    room.change(|around| around.models = ModelCount { known: 5, available: 5 });
    let started = Instant::now();
    room.ops.database_heard().await;
    room.ops.look().await;
    assert!(room.ready());
    assert_eq!(room.check("models").detail, "5 of 5 available");
    assert_eq!(started.elapsed(), Duration::ZERO, "not a look later");
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_start_does_not_wait_for_a_silent_database_for_ever() {
    let room = room_in(Mood::Frozen).await;
    let started = Instant::now();
    room.ops.database_heard().await;
    assert_eq!(started.elapsed(), FIRST_SIGN_LIMIT);
    assert!(!room.ready());
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_database_that_refuses_makes_it_unready_until_it_answers_again() {
    let room = room().await;
    room.until("database", true, SOON).await;
    *room.mood.lock() = Mood::Down;
    let check = room.until("database", false, ONE_LOOK).await;
    assert_eq!(check.detail, "does not answer", "strangers learn no address");
    assert!(!room.ready());
    *room.mood.lock() = Mood::Well;
    room.until("database", true, ONE_LOOK).await;
    assert!(room.ready());
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_database_that_can_be_read_but_not_written_makes_it_unready() {
    let room = room().await;
    room.until("database", true, SOON).await;
    *room.mood.lock() = Mood::Full;
    let check = room.until("database", false, ONE_LOOK).await;
    // A stranger is not told why.
    assert_eq!(check.detail, "cannot be written to");
    assert!(!room.ready());
    *room.mood.lock() = Mood::Well;
    room.until("database", true, ONE_LOOK).await;
    assert!(room.ready());
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn d6_a_frozen_database_makes_it_unready_and_holds_up_no_question() {
    let room = room().await;
    room.until("database", true, SOON).await;
    *room.mood.lock() = Mood::Frozen;
    let frozen = Instant::now();
    while room.ready() {
        assert!(frozen.elapsed() < ONE_LOOK + Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    room.supervisor.stop().await;
    // The question that never ended went with its actor.
    room.ctx.tracker.close();
    tokio::time::timeout(SOON, room.ctx.tracker.wait()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_number_of_health_checks_asks_the_database_more_than_once_a_second() {
    let room = room().await;
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        room.ready();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let pings = room.pings.load(Ordering::Relaxed);
    assert!((10..=11).contains(&pings), "{pings}");

    *room.mood.lock() = Mood::Frozen;
    let before = room.pings.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(9)).await;
    let pings = room.pings.load(Ordering::Relaxed) - before;
    assert!((2..=5).contains(&pings), "one at a time, each for its deadline: {pings}");
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_question_that_did_not_get_there_is_no_news_of_the_database_and_old_news_count_for_nothing() {
    let room = room().await;
    room.until("database", true, SOON).await;
    *room.mood.lock() = Mood::Unheard;
    let unheard = Instant::now();
    let check = room.until("database", false, UNHEARD_AFTER + ONE_LOOK).await;
    assert!(unheard.elapsed() > UNHEARD_AFTER - ONE_LOOK, "it was not taken for a failure");
    assert!(check.detail.starts_with("no news for "), "{}", check.detail);
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn d6_models_that_do_not_answer_are_shown_and_change_nothing() {
    let room = room().await;
    room.until("database", true, SOON).await;
    assert_eq!(room.check("models").detail, "2 of 2 available");
    room.change(|around| around.models = ModelCount { known: 2, available: 0 });
    let check = room.until("models", false, ONE_LOOK).await;
    assert_eq!(check.detail, "0 of 2 available");
    assert!(room.ready());
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn d06_model_servers_redis_and_the_spill_are_named_and_change_nothing() {
    let room = room().await;
    room.until("database", true, SOON).await;
    assert_eq!(room.check("model_servers").detail, "ollama answers, demo answers");
    assert_eq!(room.check("redis").detail, "answers: limits are counted with all instances");
    room.change(|around| {
        around.servers[0].is_up = false;
        around.counting = Counting::AloneForNow;
        around.spill = Spill::Fails;
    });
    let servers = room.until("model_servers", false, ONE_LOOK).await;
    assert_eq!(servers.detail, "ollama does not answer, demo answers");
    let redis = room.check("redis");
    assert_eq!(
        (redis.ok, redis.detail.as_str()),
        (false, "does not answer: limits are counted by this instance alone")
    );
    assert!(!room.check("spill").ok);
    assert!(room.ready());
    room.change(|around| around.counting = Counting::Alone);
    let redis = room.until("redis", true, ONE_LOOK).await;
    assert_eq!(redis.detail, "not configured: limits are counted by this instance alone");
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn d06_what_was_published_by_an_actor_that_is_no_more_gets_old_and_says_so() {
    let room = room().await;
    room.until("database", true, SOON).await;
    let seen = Instant::now();
    room.supervisor.stop().await;
    let check = room.until("ops", false, published::STALE_AFTER + ONE_LOOK).await;
    assert!(seen.elapsed() >= published::STALE_AFTER - LOOK_INTERVAL, "{:?}", seen.elapsed());
    assert!(check.detail.starts_with("has not looked around for "), "{}", check.detail);
    assert!(!room.ready() && room.check("database").ok, "what it saw was good");
    assert!(room.page().contains("\ndeepersensor_ready 0\n"), "{}", room.page());
}

#[tokio::test(start_paused = true)]
async fn d06_before_anybody_looked_it_is_not_ready() {
    let published = Published::new(CancellationToken::new());
    let readiness = published.readiness();
    assert!(!readiness.ready);
    let details: Vec<_> = readiness.checks.iter().map(|check| check.detail.as_str()).collect();
    assert_eq!(details, ["has not looked around yet", "serving"]);
}

/// Nobody answers for the actor, so that a question to it would fail.
#[tokio::test(start_paused = true)]
async fn d02_readiness_is_read_without_a_message_however_many_ask() {
    let room = room().await;
    room.until("database", true, SOON).await;
    let kept: Vec<_> = std::iter::from_fn(|| room.ops.actor.gate().try_enter()).collect();
    assert_eq!(kept.len(), QUEUE);
    assert_eq!(room.ops.tree().await, Err(OpsError), "its mailbox is full");
    for _ in 0..QUEUE * 10 {
        assert!(room.ready());
    }
    drop(kept);
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn d8_a_degraded_room_makes_it_unready_and_is_named_without_its_actors() {
    let room = room().await;
    room.until("database", true, SOON).await;
    for _ in 0..6 {
        room.ctx.tree.worker_exit("models_sup/secret-model:8b/worker-0", "boom");
    }
    assert!(room.check("actors").ok, "one model's trouble is not the instance's");
    for _ in 0..6 {
        room.ctx.tree.worker_exit("db_sup/readers/worker-0", "boom");
    }
    let check = room.until("actors", false, ONE_LOOK).await;
    assert_eq!(check.detail, "degraded: db_sup");
    assert!(!room.ready());
    room.until("actors", true, Policy::default().healthy_after + ONE_LOOK).await;
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn d7_shutdown_makes_it_unready_at_once() {
    let room = room().await;
    room.until("database", true, SOON).await;
    room.ctx.closing.cancel();
    assert!(!room.ready());
    assert!(!room.check("shutdown").ok);
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_tree_shows_actors_and_gates() {
    let room = room().await;
    let tree = room.ops.tree().await.unwrap();
    assert_eq!(tree["system"], *room.ctx.system);
    let nodes = tree["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|node| node["path"] == "ops/actor").unwrap();
    assert_eq!(node["status"], "running");
    // The question itself is in the mailbox while it is answered.
    let gate = json!({ "name": "ops", "in_use": 1, "capacity": QUEUE, "refused": 0 });
    assert_eq!(tree["gates"], json!([gate]));
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_killed_ops_actor_comes_back_and_looks_anew() {
    let room = room().await;
    room.until("database", true, SOON).await;
    let actor = room.ops.actor.slot().load().unwrap();
    actor.kill();
    actor.wait(None).await.unwrap();
    assert_eq!(room.ops.tree().await, Err(OpsError));
    assert!(room.ready(), "what it published is good for a while");
    let deadline = Instant::now() + Duration::from_secs(1);
    while room.ops.tree().await.is_err() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    room.until("database", true, SOON).await;
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn checks_are_metrics_too() {
    let room = room().await;
    room.until("database", true, SOON).await;
    let text = room.page();
    for line in ["deepersensor_ready 1", "deepersensor_readiness_check_ok{check=\"database\"} 1"] {
        assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
    }
    room.supervisor.stop().await;
}
