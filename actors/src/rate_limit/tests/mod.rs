mod contract;
mod redis;
mod streams;
mod turn;

use std::{future::Future, net::Ipv4Addr, time::Duration};

use domain::{
    limits::Limits,
    model_name::ModelName,
    principal::{Credential, Principal, Role},
    quota::Quota,
    secret::Secret,
};
use futures_util::future::join_all;
use parking_lot::Mutex;
use prometheus_client::{encoding::text::encode, registry::Registry};
use support::redis::Redis;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{backend::Backend, key::Key, metrics::ShardMetrics, *};
use crate::{
    clock::Clock,
    handle::GateCollector,
    supervisor::{SupervisorHandle, spawn_supervisor},
    tree::Tree,
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

struct Room {
    limits: RateLimitHandle,
    supervisor: SupervisorHandle,
    ctx: RoomContext,
}

fn context() -> RoomContext {
    RoomContext {
        system: format!("test-{}", Uuid::now_v7()).into(),
        clock: Clock::system(),
        tracker: TaskTracker::new(),
        closing: CancellationToken::new(),
        registry: Arc::new(Mutex::new(Registry::default())),
        tree: Tree::new(),
        gates: GateCollector::new(),
    }
}

async fn start(ctx: RoomContext, (limits, spec): (RateLimitHandle, SupervisorSpec)) -> Room {
    let supervisor = SupervisorHandle::new();
    spawn_supervisor(None, &ctx.system, spec, ctx.tree.clone(), supervisor.clone()).await.unwrap();
    Room { limits, supervisor, ctx }
}

async fn room(config: RateLimitConfig) -> Room {
    let ctx = context();
    let built = build(&ctx, config).await.unwrap();
    start(ctx, built).await
}

/// Asks `server`, patiently: what is tested is not how fast this machine is.
async fn room_at(server: &Redis, config: RateLimitConfig) -> Room {
    let url = Some(Secret::new(server.url()));
    let (redis_patience, answer_deadline) = (PATIENCE, PATIENCE + Duration::from_secs(1));
    room(RateLimitConfig { redis_url: url, redis_patience, answer_deadline, ..config }).await
}

async fn room_on<B: Backend>(backend: impl Fn() -> B + Send + Sync + 'static) -> Room {
    let ctx = context();
    let metrics = Metrics::register(&ctx.registry, 1);
    let built = build_on(&ctx, slow(1).into_live(), metrics, None, Arc::new(move |_| Box::new(backend())));
    start(ctx, built).await
}

impl Room {
    fn shard(&self, payer: &Principal) -> &Handle<RateLimitMessage> {
        self.limits.0.as_ref().unwrap().of(Key::from(payer.user))
    }

    fn handles(&self) -> &[Handle<RateLimitMessage>] {
        &self.limits.0.as_ref().unwrap().handles
    }

    fn scrape(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.ctx.registry.lock()).unwrap();
        text
    }

    /// The number that stands behind `name` in what is scraped.
    fn metric(&self, name: &str) -> u64 {
        let text = self.scrape();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
    }

    fn fallbacks(&self) -> u64 {
        self.metric("deepersensor_rate_limit_fallbacks_total")
    }

    /// Stops the room and sees that nothing of it is left.
    async fn end(self) {
        // What nobody waits for may still be on its way.
        let is_idle = async || self.handles().iter().all(|shard| shard.gate().in_use() == 0);
        within(Duration::from_secs(5), is_idle).await;
        self.supervisor.stop().await;
        self.ctx.closing.cancel();
        self.ctx.tracker.close();
        tokio::time::timeout(Duration::from_secs(5), self.ctx.tracker.wait()).await.expect("no task is left");
    }

    fn assert_all_permits_are_back(&self) {
        for shard in self.handles() {
            assert_eq!(shard.gate().in_use(), 0);
        }
    }
}

fn user(number: u128) -> Principal {
    Principal {
        user: Uuid::from_u128(number).into(),
        role: Role::User,
        limits: Limits::default(),
        models: None,
        credential: Credential::Session(Uuid::from_u128(number).into()),
    }
}

/// Too slow to refill while a test runs on real time; ten tokens for each request.
fn slow(burst: u32) -> RateLimitConfig {
    let user = Quota { permits: 1, period: Duration::from_secs(3_600), burst };
    let tokens = Some(Quota { burst: 10 * burst, ..user });
    RateLimitConfig { user, address: user, tokens, ..RateLimitConfig::new(60, burst) }
}

/// A turn of so many tokens at most.
async fn turn(limits: &RateLimitHandle, principal: &Principal, tokens: u32) -> (Decision, TokenReserve) {
    turn_with(limits, principal, "m", tokens).await
}

async fn turn_with(
    limits: &RateLimitHandle,
    principal: &Principal,
    model: &str,
    tokens: u32,
) -> (Decision, TokenReserve) {
    let model = ModelName::parse(model).unwrap().canonical();
    let size = TurnSize { prompt_tokens: 1, answer_tokens: Some(tokens - 1) };
    let (decision, reserve) = limits.take_turn(principal, &model, size).await.expect("never an error");
    (decision.unwrap(), reserve)
}

/// What a scope's bucket still holds, as this decision tells.
fn left(decision: &Decision, scope: Scope) -> u32 {
    decision.said().find(|said| said.scope == scope).unwrap().verdict.remaining
}

/// How large a proof is that `scripts/prove` runs at full size.
#[expect(clippy::disallowed_methods, reason = "scripts/prove has no other way to tell a test its size")]
pub(super) fn proof() -> Option<usize> {
    std::env::var("PROVE_COUNT").ok().map(|count| count.parse().expect("PROVE_COUNT is a number"))
}

#[tokio::test(start_paused = true)]
async fn c8_a_caller_that_obeys_retry_after_is_always_served() {
    let room = room(RateLimitConfig::new(7, 3)).await;
    for _ in 0..50 {
        let decision = room.limits.take_principal(&user(1), 2).await.unwrap().unwrap();
        if decision.verdict.allowed {
            continue;
        }
        // A paused timer may fire up to a millisecond late, never early.
        tokio::time::sleep(decision.verdict.retry_after).await;
        assert!(room.limits.take_principal(&user(1), 2).await.unwrap().unwrap().verdict.allowed);
    }
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn users_and_addresses_have_buckets_of_their_own() {
    let room = room(RateLimitConfig::new(60, 2)).await;
    let nat: IpAddr = "192.0.2.7".parse().unwrap();
    let mapped: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
    let network: [IpAddr; 2] = ["2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap()];

    let address = room.limits.take_address(nat, 9).await.unwrap().unwrap();
    assert_eq!((address.scope, address.verdict.remaining), (Scope::Address, 1), "five times a user's burst");
    assert_eq!(room.limits.take_address(mapped, 1).await.unwrap().unwrap().verdict.remaining, 0);

    room.limits.take_address(network[0], 9).await.unwrap();
    assert_eq!(room.limits.take_address(network[1], 0).await.unwrap().unwrap().verdict.remaining, 1);

    for number in 1..=2 {
        let decision = room.limits.take_principal(&user(number), 2).await.unwrap().unwrap();
        assert!(decision.verdict.allowed && decision.scope == Scope::User);
        assert!(!room.limits.take_principal(&user(number), 1).await.unwrap().unwrap().verdict.allowed);
    }
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn limits_that_are_off_need_no_actor_and_refuse_nobody() {
    let ctx = context();
    let (limits, spec) =
        build(&ctx, RateLimitConfig { enabled: false, ..RateLimitConfig::new(1, 1) }).await.unwrap();
    assert!(spec.children.is_empty());
    for _ in 0..10 {
        assert_eq!(limits.take_principal(&user(1), 1).await, Ok(None));
        let here = Ipv4Addr::LOCALHOST.into();
        for taken in [
            limits.take_address(here, 1).await,
            limits.take_log_in(here).await,
            limits.take_sign_up(here).await,
        ] {
            assert_eq!(taken, Ok(None));
        }
    }
    for _ in 0..100 {
        assert_eq!(limits.guess([1; 16], Ipv4Addr::LOCALHOST.into(), false).await, Ok(Guess::Admitted));
    }
}

#[tokio::test(start_paused = true)]
async fn d8_a_killed_shard_fails_its_own_keys_only_and_comes_back_with_full_buckets() {
    let room = room(slow(1)).await;
    let id = |number| room.shard(&user(number)).slot().load().unwrap().get_id();
    // One key on the shard that dies and one on another.
    let (victim, shard) = (1, id(1));
    let other = (2..).find(|number| id(*number) != shard).unwrap();
    for number in [victim, other] {
        assert!(room.limits.take_principal(&user(number), 1).await.unwrap().unwrap().verdict.allowed);
    }

    let actor = room.shard(&user(victim)).slot().load().unwrap();
    actor.kill();
    actor.wait(None).await.unwrap();
    assert_eq!(room.limits.take_principal(&user(victim), 1).await, Err(LimitError::Unavailable));
    let spent = room.limits.take_principal(&user(other), 1).await.unwrap().unwrap();
    assert!(!spent.verdict.allowed, "the other shard remembers");

    within(Duration::from_secs(1), async || id(victim) != shard).await;
    let fresh = room.limits.take_principal(&user(victim), 1).await.unwrap().unwrap();
    assert!(fresh.verdict.allowed, "at most one burst is regained");
    room.assert_all_permits_are_back();
    room.supervisor.stop().await;
}

/// Waits until `holds`.
async fn within<F: Future<Output = bool>>(patience: Duration, holds: impl Fn() -> F) {
    let deadline = Instant::now() + patience;
    while !holds().await {
        assert!(Instant::now() < deadline, "did not happen in time");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Never answers, and keeps the questions.
struct Stuck(Vec<RateLimitMessage>);

impl Backend for Stuck {
    fn ask(&mut self, question: RateLimitMessage) {
        self.0.push(question);
    }
}

#[tokio::test(start_paused = true)]
async fn d2_a_shard_that_stops_answering_costs_the_deadline_and_bounded_memory() {
    let room = room_on(|| Stuck(Vec::new())).await;
    let asked = Instant::now();
    assert_eq!(room.limits.take_principal(&user(1), 1).await, Err(LimitError::Unavailable));
    assert!(asked.elapsed() >= slow(1).answer_deadline);

    let flood = join_all((0..2 * SHARD_QUEUE).map(|_| {
        let limits = room.limits.clone();
        async move { limits.take_principal(&user(1), 1).await }
    }));
    assert!(flood.await.iter().all(|answer| *answer == Err(LimitError::Unavailable)));
    let gate = room.shard(&user(1)).gate();
    // Callers left, questions did not: what is kept still counts.
    assert_eq!(gate.in_use(), SHARD_QUEUE);
    let at_the_gate = Instant::now();
    assert_eq!(room.limits.take_principal(&user(1), 1).await, Err(LimitError::Unavailable));
    assert_eq!(at_the_gate.elapsed(), Duration::ZERO, "refused on arrival");

    room.supervisor.stop().await;
    room.assert_all_permits_are_back();
}

/// Answers from a task, as a backend on a server would.
struct Later {
    memory: Arc<Mutex<Memory>>,
    tracker: TaskTracker,
}

impl Backend for Later {
    fn ask(&mut self, question: RateLimitMessage) {
        let memory = Arc::clone(&self.memory);
        self.tracker.spawn(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            memory.lock().ask(question);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_may_answer_later_without_holding_up_its_shard() {
    let tracker = TaskTracker::new();
    let room = room_on(move || {
        let memory = Memory::new(&slow(1).into_live(), &ShardMetrics::default());
        Later { memory: Arc::new(Mutex::new(memory)), tracker: tracker.clone() }
    })
    .await;
    let asked = Instant::now();
    let limits = &room.limits;
    let answers = join_all((0..50).map(|_| async { limits.take_principal(&user(1), 1).await })).await;
    assert!(asked.elapsed() < Duration::from_millis(40), "all of them wait at the same time");
    let admitted = answers
        .into_iter()
        .filter(|answer| answer.as_ref().unwrap().as_ref().unwrap().verdict.allowed)
        .count();
    assert_eq!(admitted, 1);
    room.assert_all_permits_are_back();
    room.supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn decisions_are_counted_by_scope_and_outcome() {
    let room = room(slow(2)).await;
    for _ in 0..3 {
        room.limits.take_principal(&user(1), 1).await.unwrap();
    }
    room.limits.take_address(Ipv4Addr::LOCALHOST.into(), 1).await.unwrap();
    let text = room.scrape();
    for line in [
        "deepersensor_rate_limit_decisions_total{scope=\"user\",outcome=\"allowed\"} 2",
        "deepersensor_rate_limit_decisions_total{scope=\"user\",outcome=\"refused\"} 1",
        "deepersensor_rate_limit_decisions_total{scope=\"user\",outcome=\"unavailable\"} 0",
        "deepersensor_rate_limit_decisions_total{scope=\"address\",outcome=\"allowed\"} 1",
        "deepersensor_rate_limit_overflow_total{scope=\"user\"} 0",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
    }
    let keys: u32 = text
        .lines()
        .filter(|line| line.starts_with("deepersensor_rate_limit_keys{scope=\"user\""))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap())
        .sum();
    assert_eq!(keys, 1);
    room.supervisor.stop().await;
}
