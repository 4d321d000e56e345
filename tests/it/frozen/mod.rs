//! Actors that stand still: what it costs, and whom (D2).
//!
//! Each kind in turn is frozen while clients go on: its own callers get a 503 or, if it thaws in their time, their answer;
//! everybody else is served; no mailbox holds more than its gate says; and afterwards every place is free again. Those that
//! nobody asks anything cannot be frozen so, and are taken out for as long without their supervisor hearing of it.
//!
//! Small in the suite; `scripts/prove freeze` freezes each for longer and is strict about memory.

#![expect(clippy::print_stdout, reason = "its figures are what a proof is run for")]

mod ice;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    env,
    future::poll_fn,
    net::IpAddr,
    task::{Context, Poll},
    time::Duration,
};

use actors::{
    auth::{AuthHandle, Origin},
    model::TurnOptions,
    rate_limit::TokenReserve,
};
use domain::{
    chat::{ChatMessage, ChatRequest, Role},
    model_name::ModelName,
    principal::Principal,
    secret::Secret,
};
use futures_util::future::join_all;
use serde_json::json;
use support::{fake_ollama::Model, process::memory};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use self::ice::Frost;
use crate::{
    harness::{Call, MODEL, Options, PASSWORD, Session, Store, TestApp, until},
    turn::{Actors, options, prompt, unstored},
};

const OTHER: &str = "llama3.2:latest";

/// Clients of each kind of request, each asking again soon after it is answered: load enough for a queue to grow, and
/// none that neighbours on the same cores would notice.
const CLIENTS: usize = 3;
const PAUSE: Duration = Duration::from_millis(20);

/// Between two looks at the gates.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What the process may grow by while somebody is frozen, where nothing else runs in it.
const GROWTH_MAX: u64 = 64 << 20;

/// How long each is frozen, and whether this process does nothing else.
struct Size {
    frozen: Duration,
    alone: bool,
}

impl Size {
    #[expect(clippy::disallowed_methods, reason = "scripts/prove has no other way to tell a test its size")]
    fn asked() -> Self {
        match env::var("PROVE_COUNT") {
            Ok(seconds) => {
                let seconds = seconds.parse().expect("PROVE_COUNT is a number");
                Self { frozen: Duration::from_secs(seconds), alone: true }
            }
            Err(_) => Self { frozen: Duration::from_millis(1_500), alone: false },
        }
    }
}

/// A kind of request.
struct Kind<'a> {
    name: &'static str,
    clients: usize,
    ask: Box<dyn Fn() -> Call + 'a>,
}

fn kind<'a>(name: &'static str, ask: impl Fn() -> Call + 'a) -> Kind<'a> {
    Kind { name, clients: CLIENTS, ask: Box::new(ask) }
}

impl Kind<'_> {
    fn by_one_client(self) -> Self {
        Self { clients: 1, ..self }
    }
}

/// Two models that answer at once.
fn brisk(store: Store) -> Options {
    let models = [MODEL, OTHER].map(|name| Model::new(name).tokens(2).parallel(16));
    options(store, models).set("OLLAMA_NUM_PARALLEL", 16)
}

/// And a store that is given up before it thaws.
fn impatient(store: Store) -> Options {
    brisk(store).tune(|config| config.system.db.call_timeout = Duration::from_secs(1))
}

/// What most requests are like.
///
/// The visitor logs in again and again, which ends older sessions: an account keeps its newest hundred.
fn usual<'a>(app: &'a TestApp, session: &'a Session, visitor: &'a Session) -> Vec<Kind<'a>> {
    vec![
        kind("a chat that is not stored", || app.chat(session, &unstored(MODEL, "hello"))),
        kind("a stored chat", || app.chat(session, &prompt(MODEL, "hello"))),
        kind("the list of models", || app.get("/v1/models").bearer(&session.access)),
        kind("the list of conversations", || app.get("/v1/conversations").bearer(&session.access)),
        kind("a log-in", || {
            app.post("/v1/auth/login", &json!({ "email": visitor.email, "password": PASSWORD }))
        }),
        kind("health", || app.get("/healthz")),
        kind("readiness", || app.get("/readyz")),
        kind("the operators' tree", || Call::new(app.ops_addr(), "GET", "/actors")),
    ]
}

/// The kinds of request that need the frozen one.
#[derive(Default)]
struct Callers<'a> {
    /// Some were answered with 503 while it was frozen.
    refused: &'a [&'a str],
    /// They may have more patience than it was frozen for.
    kept: &'a [&'a str],
}

/// Goes on asking while `frost` lasts; then asserts that of the `usual` requests only those of the `callers` got anything
/// but their answer, that this was a 503, and that nothing is left of it.
async fn live_through(
    what: &str,
    app: &TestApp,
    frost: impl Sized,
    usual: Vec<Kind<'_>>,
    callers: Callers<'_>,
) {
    let (size, before) = (Size::asked(), memory(std::process::id(), "VmRSS").unwrap());
    let thaw = Instant::now() + size.frozen;
    let seen = RefCell::new(BTreeMap::<(&str, u16), usize>::new());
    let client = async |kind: &Kind<'_>| {
        while Instant::now() < thaw {
            let reply = (kind.ask)().send().await;
            // A probe that says no is no refusal.
            let is_refused = reply.status != 200 && !reply.json()["error"].is_null();
            assert!(!is_refused || reply.header("retry-after").is_some(), "{what}: {reply:?}");
            *seen.borrow_mut().entry((kind.name, reply.status)).or_default() += 1;
            sleep(PAUSE).await;
        }
    };
    let clients = join_all(usual.iter().flat_map(|kind| (0..kind.clients).map(|_| client(kind))));
    let look = async {
        while Instant::now() < thaw {
            assert_within_gates(what, &app.metrics().await);
            sleep(LOOK_EVERY).await;
        }
        drop(frost);
    };
    tokio::join!(clients, look);
    let grown = memory(std::process::id(), "VmRSS").unwrap().saturating_sub(before);
    let seen = seen.into_inner();
    println!("{what} frozen for {:?}: {} KiB more memory, {seen:?}", size.frozen, grown >> 10);

    for kind in &usual {
        let of_it = |status| seen.get(&(kind.name, status)).copied().unwrap_or(0);
        let all: usize =
            seen.iter().filter(|((name, _), _)| *name == kind.name).map(|(_, count)| count).sum();
        let is_refused = callers.refused.contains(&kind.name);
        if is_refused || callers.kept.contains(&kind.name) {
            assert_eq!(of_it(200) + of_it(503), all, "{what}, {}: {seen:?}", kind.name);
            assert!(of_it(503) > 0 || !is_refused, "{what}, {}: {seen:?}", kind.name);
        } else {
            assert_eq!(of_it(200), all, "{what} is none of the business of {}: {seen:?}", kind.name);
        }
        assert!(all >= kind.clients, "{what}, {}: {seen:?}", kind.name);
    }
    assert!(!size.alone || grown < GROWTH_MAX, "{what}: {grown} bytes more");
    for kind in &usual {
        until(kind.name, async || (kind.ask)().send().await.status == 200).await;
    }
    app.quiet().await;
}

/// Asserts that no gate let in more than it has room for.
fn assert_within_gates(what: &str, metrics: &str) {
    let (in_use, capacity) = (gate(metrics, "in_use"), gate(metrics, "capacity"));
    assert!(in_use.len() > 5 && in_use.len() == capacity.len(), "{metrics}");
    for (gate, in_use) in in_use {
        assert!(in_use <= capacity[&gate], "{what}: {in_use} messages beyond {gate}");
    }
}

/// What is told of every gate under this name.
fn gate(metrics: &str, name: &str) -> BTreeMap<String, u64> {
    let name = format!("deepersensor_gate_{name}{{");
    let lines = metrics.lines().filter_map(|line| line.strip_prefix(&name)?.rsplit_once(' '));
    lines.map(|(gate, value)| (gate.to_owned(), value.parse().unwrap())).collect()
}

async fn principal(app: &TestApp, session: &Session) -> Principal {
    app.system().auth.authenticate(&session.access).await.unwrap()
}

/// What freezes the shard of an address: a question about that address.
async fn freeze_shard_of(app: &TestApp, address: IpAddr) -> Frost {
    let limits = app.system().limits.clone();
    Frost::bite(|| {
        let limits = limits.clone();
        async move { limits.take_address(address, 1).await }
    })
    .await
}

async fn freeze_reader(app: &TestApp) -> Frost {
    let db = app.system().db.clone();
    Frost::bite(|| {
        let db = db.clone();
        async move { db.ping().await }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d02_a_frozen_limiter_shard_refuses_its_own_keys_and_no_others() {
    let app = TestApp::start(brisk(Store::Sqlite)).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let here: IpAddr = [192, 0, 2, 1].into();
    let frost = freeze_shard_of(&app, here).await;
    // Which of sixteen a key belongs to nobody can know; but a key belongs to one.
    let mut elsewhere = Vec::new();
    for number in 0..40 {
        let at: IpAddr = [192, 0, 2, 100 + number].into();
        if app.get("/v1/models").from(at).send().await.status == 401 {
            elsewhere.push(at);
        }
    }
    assert!(elsewhere.len() > 20, "{elsewhere:?}");
    let anonymous = |at: IpAddr| app.get("/.well-known/jwks.json").from(at);
    let usual = vec![
        kind("the frozen shard's address", || anonymous(here)),
        kind("one address", || anonymous(elsewhere[0])),
        kind("another address", || anonymous(elsewhere[1])),
        kind("a third address", || anonymous(elsewhere[2])),
        kind("health", || app.get("/healthz")),
        kind("the operators' tree", || Call::new(app.ops_addr(), "GET", "/actors")),
    ];
    live_through(
        "a limiter shard",
        &app,
        frost,
        usual,
        Callers { refused: &["the frozen shard's address"], ..Callers::default() },
    )
    .await;
    app.chat(&ada, &unstored(MODEL, "as before")).send().await.expect_status(200);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d02_a_frozen_ops_actor_is_noticed_by_operators_only() {
    let app = TestApp::start(brisk(Store::Sqlite)).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let visitor = app.sign_up_and_in("visitor@example.org").await;
    let ops = app.system().ops.clone();
    let tree = || {
        let ops = ops.clone();
        async move { ops.tree().await }
    };
    let frost = Frost::bite(tree).await;
    // Probes are answered from what was seen before, however many there are at once.
    join_all((0..200).map(|_| async { app.get("/readyz").send().await.expect_status(200) })).await;
    // More than its mailbox may hold: the rest is refused at once and never gets there.
    let (capacity, asked) = (64, 100);
    assert!(join_all((0..asked).map(|_| tree())).await.iter().all(Result::is_err));
    let refused = gate(&app.metrics().await, "refused_total")["gate=\"ops\"}"];
    assert!(refused >= asked - capacity, "{refused} of {asked} were refused at a gate of {capacity}");
    // Frozen for long, what it saw is too old.
    let callers = Callers { refused: &["the operators' tree"], kept: &["readiness"] };
    live_through("the ops actor", &app, frost, usual(&app, &ada, &visitor), callers).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d06_readiness_ends_when_the_ops_actor_has_stood_still_for_long_and_comes_back_with_it() {
    let app = TestApp::on(Store::Sqlite).await;
    let ops = app.system().ops.clone();
    let frost = Frost::bite(|| {
        let ops = ops.clone();
        async move { ops.tree().await }
    })
    .await;
    until("an old look", async || app.get("/readyz").send().await.status == 503).await;
    let health = app.get("/health").send().await.expect_status(503).json();
    let failed: Vec<_> =
        health["checks"].as_array().unwrap().iter().filter(|check| check["ok"] == false).collect();
    assert_eq!((failed.len(), &failed[0]["name"]), (1, &json!("ops")), "{health:#}");
    assert!(failed[0]["detail"].as_str().unwrap().starts_with("has not looked around for "), "{health:#}");
    assert!(app.metrics().await.lines().any(|line| line == "deepersensor_ready 0"));
    app.get("/healthz").send().await.expect_status(200);
    drop(frost);
    until("a new look", async || app.get("/readyz").send().await.status == 200).await;
    app.finish().await;
}

/// Who is known goes on being served by what was known; who must be looked up waits, and is refused or served.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d02_a_frozen_auth_actor_keeps_waiting_whom_it_does_not_know() {
    let app = TestApp::start(brisk(Store::Sqlite)).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let visitor = app.sign_up_and_in("visitor@example.org").await;
    let eve = app.administrator("eve@example.org").await;
    let mut usual = usual(&app, &ada, &visitor);
    usual.push(kind("an administrator", || app.get("/v1/admin/users").bearer(&eve.access)));
    for kind in &usual {
        (kind.ask)().send().await.expect_status(200);
    }
    let (auth, token) = (app.system().auth.clone(), ada.access.clone());
    let authenticate = || {
        let (auth, token) = (auth.clone(), token.clone());
        async move { auth.authenticate_now(&token).await }
    };
    let frost = Frost::bite(authenticate).await;
    live_through(
        "the auth actor",
        &app,
        frost,
        usual,
        Callers { kept: &["an administrator"], ..Callers::default() },
    )
    .await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d02_frozen_readers_of_the_store_are_missed_by_those_who_read() {
    let app = TestApp::start(impatient(Store::Postgres)).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let visitor = app.sign_up_and_in("visitor@example.org").await;
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(freeze_reader(&app).await);
    }
    // Readiness tells, when it notices, that the store is away.
    let callers = Callers { refused: &["the list of conversations", "a log-in"], kept: &["readiness"] };
    live_through("all readers", &app, all, usual(&app, &ada, &visitor), callers).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d02_one_frozen_reader_of_the_store_is_missed_by_nobody() {
    let app = TestApp::start(brisk(Store::Postgres)).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let visitor = app.sign_up_and_in("visitor@example.org").await;
    let frost = freeze_reader(&app).await;
    live_through("one of four readers", &app, frost, usual(&app, &ada, &visitor), Callers::default()).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d02_a_frozen_writer_of_the_store_is_missed_by_those_who_write() {
    let app = TestApp::start(impatient(Store::Sqlite)).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let visitor = app.sign_up_and_in("visitor@example.org").await;
    let (db, owner) = (app.system().db.clone(), Uuid::now_v7().into());
    let until = app.system().clock().now();
    let renew = || {
        let db = db.clone();
        async move { db.renew_leases(owner, until).await }
    };
    let frost = Frost::bite(renew).await;
    live_through(
        "the writer",
        &app,
        frost,
        usual(&app, &ada, &visitor),
        Callers { refused: &["a stored chat", "a log-in"], ..Callers::default() },
    )
    .await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d02_a_frozen_password_worker_is_missed_by_those_who_log_in() {
    // The throttle's answers would come before the worker's.
    let app =
        TestApp::start(brisk(Store::Sqlite).set("RATE_LIMIT_ENABLED", false).set("PASSWORD_WORKERS", 1))
            .await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let visitor = app.sign_up_and_in("visitor@example.org").await;
    let log_in = |auth: AuthHandle, email: String| async move {
        auth.log_in(&email, Secret::new(PASSWORD.to_owned()), Origin::default()).await
    };
    // The store answers some questions before the worker has the password; how many is no business of this test.
    let mut tries = (0..8).cycle().take(80);
    let frost = loop {
        let ahead = tries.next().expect("the worker answers at some time");
        let log_in = log_in(app.system().auth.clone(), ada.email.clone());
        let Some(frost) = Frost::try_bite(ahead, log_in).await else { continue };
        let gates = app.actors().await["gates"].clone();
        if gates.as_array().unwrap().iter().any(|gate| gate["name"] == "password" && gate["in_use"] == 1) {
            break frost;
        }
        drop(frost);
        app.quiet().await;
    };
    live_through(
        "the password worker",
        &app,
        frost,
        usual(&app, &ada, &visitor),
        Callers { kept: &["a log-in"], ..Callers::default() },
    )
    .await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d02_a_frozen_model_worker_is_missed_by_those_who_ask_its_model() {
    let models = [Model::new(MODEL).tokens(100_000).tokens_per_s(100.0), Model::new(OTHER).tokens(2)];
    let options = options(Store::Sqlite, models).tune(|config| {
        (config.system.model.queue_limit, config.system.model.queue_per_user) = (2, 2);
    });
    let app = TestApp::start(options).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let mut all = Vec::new();
    for number in 0..2 * CLIENTS {
        all.push(app.sign_up_and_in(&format!("user-{number}@example.org")).await);
    }
    let request = ChatRequest::new(
        ModelName::parse(MODEL).unwrap(),
        vec![ChatMessage::text(Role::User, "a long story")],
    );
    let ada_herself = principal(&app, &ada).await;
    let started =
        app.system().models.start_turn(&ada_herself, request, TurnOptions::default(), TokenReserve::none());
    let mut reader = started.await.unwrap().reader;
    let read_on = move |cx: &mut Context<'_>| {
        loop {
            match reader.poll_events(cx, &mut |_| ()) {
                Poll::Ready(false) => {}
                over => return over,
            }
        }
    };
    let frost = Frost::try_bite(0, poll_fn(read_on)).await.expect("an endless answer");
    // Everybody asks the frozen model for as long as they like to wait; two of them find a place in its queue.
    let next = RefCell::new(all.iter().cycle());
    let usual = vec![
        kind("the frozen model", || {
            let session = next.borrow_mut().next().unwrap();
            app.chat(session, &unstored(MODEL, "me too")).header("x-request-timeout", "60")
        }),
        kind("another model", || app.chat(&ada, &unstored(OTHER, "hello"))).by_one_client(),
        kind("another model, stored", || app.chat(&ada, &prompt(OTHER, "hello"))).by_one_client(),
        kind("the list of models", || app.get("/v1/models").bearer(&ada.access)),
        kind("readiness", || app.get("/readyz")),
    ];
    app.ollama.control().change_model(MODEL, |model| model.tokens = 2);
    live_through(
        "a model's worker",
        &app,
        frost,
        usual,
        Callers { refused: &["the frozen model"], ..Callers::default() },
    )
    .await;
    app.finish().await;
}

/// They only tick, and are asked nothing. Without them the service goes on by what it knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d02_those_that_nobody_asks_are_missed_by_nobody() {
    let app = TestApp::start(brisk(Store::Sqlite)).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let visitor = app.sign_up_and_in("visitor@example.org").await;
    let actors = Actors::of(&app).await;
    for path in [
        "auth_sup/session_cache",
        "auth_sup/key_set",
        "auth_sup/purge",
        "models_sup/router",
        "models_sup/leases",
        "relay/cancels",
        "db_sup/store",
        "upkeep_sup/index",
        "upkeep_sup/purge",
        "db_sup/spill",
    ] {
        let actor = actors.at(path);
        actor.unlink(actor.try_get_supervisor().unwrap());
        actors.kill(path).await;
    }
    live_through("who is asked nothing", &app, (), usual(&app, &ada, &visitor), Callers::default()).await;
    app.finish().await;
}
