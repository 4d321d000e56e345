//! The room as its callers see it: a real tree and a real store over model servers that do what the test says.

mod attach;
mod choice;
mod embeddings;
mod fleet;
mod leases;
mod metrics;
mod reload;
mod streams;

use std::{path::PathBuf, sync::Arc, time::Duration};

use domain::{
    account::{Account, User},
    audit::{AuditEntry, AuditEvent},
    chat::{ChatMessage, ChatRequest, Role},
    email::EmailAddress,
    id::UserId,
    limits::{Limits, Priority},
    model_name::ModelName,
    principal::{Credential, Principal, Role as AccountRole},
    reply::{Delta, FailureCode, FinishReason, TokenLogprob},
    secret::Secret,
    turn::TurnStatus,
};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ModelConfig, ModelError, ModelHandle, ModelState, StartedTurn, TurnOptions,
    breaker::PROBE_EVERY,
    provider::{
        AnyProvider, UpstreamError,
        scripted::{Script, Step, answer},
    },
    room::build_over,
};
use crate::{
    clock::{Clock, fresh_id},
    db::{self, DbConfig, DbHandle},
    handle::GateCollector,
    rate_limit::{self, RateLimitConfig, RateLimitHandle, TokenReserve},
    reply::Outcome,
    room::RoomContext,
    supervisor::{Policy, Root, SupervisorHandle, child_name},
    tree::Tree,
};

const PATIENCE: Duration = Duration::from_secs(10);

struct House {
    ctx: RoomContext,
    db: DbHandle,
    models: ModelHandle,
    limits: RateLimitHandle,
    script: Script,
    root: Root,
    dir: PathBuf,
}

impl House {
    async fn open(script: Script, config: ModelConfig) -> Self {
        Self::over(&[&script], config, true).await
    }

    async fn open_without_limiter(script: Script, config: ModelConfig) -> Self {
        Self::over(&[&script], config, false).await
    }

    /// Over several servers, in the order of the configuration; the first is the one that `script` tells of.
    async fn over(scripts: &[&Script], config: ModelConfig, has_limiter: bool) -> Self {
        let id = uuid::Uuid::now_v7();
        let dir = std::env::temp_dir().join(format!("deepersensor-model-{id}"));
        let ctx = RoomContext {
            system: format!("model-{id}").into(),
            clock: Clock::system(),
            tracker: TaskTracker::new(),
            closing: CancellationToken::new(),
            registry: Arc::new(Mutex::new(Registry::default())),
            tree: Tree::new(),
            gates: GateCollector::new(),
        };
        let (db, db_sup) = db::build(&ctx, DbConfig::new(dir.clone())).await.unwrap();
        let upstreams = scripts.iter().map(|script| AnyProvider::Scripted(script.provider())).collect();
        let (limits, limits_sup) = rate_limit::build(&ctx, RateLimitConfig::new(60, 20)).await.unwrap();
        let room = build_over(&ctx, config, upstreams, db.clone(), limits.clone());
        let limits_sup = has_limiter.then(|| (limits_sup, SupervisorHandle::new()));
        let children = std::iter::once((db_sup, SupervisorHandle::new()))
            .chain(limits_sup)
            .chain([(room.spec, room.supervisor)])
            .map(|(spec, handle)| spec.clone().into_child(spec.path, &ctx.system, ctx.tree.clone(), handle))
            .collect();
        let root = Root::start(&ctx.system, Policy::default(), children, ctx.tree.clone()).await.unwrap();
        room.handle.first_catalogue().await;
        let script = scripts[0].clone();
        Self { ctx, db, models: room.handle, limits, script, root, dir }
    }

    async fn somebody(&self) -> Principal {
        let user: UserId = fresh_id();
        let account = Account {
            user: User {
                id: user,
                email: EmailAddress::parse(&format!("{user}@example.org")).unwrap(),
                role: AccountRole::User,
                disabled: false,
                limits: Limits::default(),
                models: None,
                created_at: self.ctx.clock.now(),
            },
            password_hash: Secret::new(String::new()),
        };
        let audit = AuditEntry {
            id: fresh_id(),
            event: AuditEvent::UserCreated,
            actor: Some(user),
            user: Some(user),
            detail: None,
            address: None,
            request_id: None,
            at: self.ctx.clock.now(),
        };
        self.db.create_user(account, audit).await.unwrap();
        Principal {
            user,
            role: AccountRole::User,
            limits: Limits::default(),
            models: None,
            credential: Credential::Session(fresh_id()),
        }
    }

    async fn turn(&self, principal: &Principal) -> StartedTurn {
        self.models.start_turn(principal, ask("hello"), STORED, TokenReserve::none()).await.unwrap()
    }

    fn kill(&self, path: &str) {
        ractor::registry::where_is(child_name(&self.ctx.system, path)).unwrap().kill();
    }

    /// The stored answer of a turn, and how it stands.
    async fn stored(&self, principal: &Principal, turn: &StartedTurn) -> (String, TurnStatus) {
        let page = self.db.messages(principal.user, turn.conversation.unwrap(), None, 50).await.unwrap();
        let reply = page.items.into_iter().find(|message| message.id == turn.message).unwrap();
        (reply.message.content, reply.status)
    }

    async fn close(self) {
        let routing = self.models.0.routing.clone();
        let idle = async {
            for route in routing.table.load().0.values() {
                route.list.all_slots_free().await;
                assert_eq!(route.list.places(), 0, "a place was left behind");
            }
        };
        tokio::time::timeout(PATIENCE, idle).await.expect("a slot was left behind");
        assert_eq!(*self.script.open().borrow(), 0, "an upstream request was left behind");
        self.models.halt(PATIENCE).await;
        self.root.stop().await;
        self.ctx.tracker.close();
        tokio::time::timeout(PATIENCE, self.ctx.tracker.wait()).await.expect("a task was left behind");
        let _ = std::fs::remove_dir_all(self.dir);
    }
}

const STORED: TurnOptions = TurnOptions {
    conversation: None,
    parent: None,
    store: true,
    continue_on_disconnect: false,
    claim: None,
    is_streamed: true,
    priority: Priority::Interactive,
    deadline: None,
};

fn ask(text: &str) -> ChatRequest {
    ChatRequest::new(ModelName::parse("m").unwrap(), vec![ChatMessage::text(Role::User, text)])
}

fn say(text: &str) -> Step {
    Step::Give(vec![Delta::Content(text.to_owned())])
}

/// An answer that says "still " and goes on with "here" when it is told to.
fn held_up() -> (Vec<Step>, Arc<Notify>) {
    let go = Arc::new(Notify::new());
    let mut steps = vec![say("still "), Step::Await(go.clone())];
    steps.extend(answer("here"));
    (steps, go)
}

fn failed(code: FailureCode) -> impl Fn(&Outcome) -> bool {
    move |outcome| matches!(outcome, Outcome::Failed { code: failed, .. } if *failed == code)
}

async fn finished(turn: &mut StartedTurn) -> (String, Outcome, Option<bool>) {
    let (answer, ending) =
        tokio::time::timeout(PATIENCE, turn.reader.finished()).await.expect("the turn ends");
    (answer.content, ending.outcome, ending.stored)
}

async fn until_open(script: &Script, count: usize) {
    tokio::time::timeout(PATIENCE, script.open().wait_for(|open| *open == count)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_panic_mid_stream_ends_its_own_turn_and_nobody_elses() {
    let house =
        House::open(Script::new(&["m"], answer("fine")), ModelConfig { slots: 2, ..ModelConfig::default() })
            .await;
    let ada = house.somebody().await;
    let go = Arc::new(Notify::new());
    house.script.then(Ok(vec![say("first "), Step::Await(go.clone()), say("half"), Step::Panic]));
    let mut doomed = house.turn(&ada).await;
    until_open(&house.script, 1).await;
    let (steps, other_go) = held_up();
    house.script.then(Ok(steps));
    let mut other = house.turn(&ada).await;
    until_open(&house.script, 2).await;

    go.notify_one();
    let (text, outcome, stored) = finished(&mut doomed).await;
    assert!(failed(FailureCode::Internal)(&outcome), "{outcome:?}");
    assert_eq!((text.as_str(), stored), ("first half", Some(true)));
    assert_eq!(house.stored(&ada, &doomed).await, ("first half".to_owned(), TurnStatus::Interrupted));

    other_go.notify_one();
    let (text, outcome, _) = finished(&mut other).await;
    assert_eq!((text.as_str(), outcome), ("still here", Outcome::Complete(FinishReason::Stop)));
    // Both slots serve again, the restarted one too.
    let (mut one, mut two) = (house.turn(&ada).await, house.turn(&ada).await);
    assert_eq!(finished(&mut one).await.0, "fine");
    assert_eq!(finished(&mut two).await.0, "fine");
    house.close().await;
}

#[tokio::test]
async fn a_killed_worker_interrupts_its_turn_and_the_next_one_works() {
    let house = House::open(Script::new(&["m"], answer("fine")), ModelConfig::default()).await;
    let ada = house.somebody().await;
    house.script.then(Ok(vec![say("so far"), Step::Stall]));
    let mut turn = house.turn(&ada).await;
    until_open(&house.script, 1).await;
    house.kill("models_sup/m:latest/worker-0");
    let (text, outcome, _) = finished(&mut turn).await;
    assert!(failed(FailureCode::Internal)(&outcome), "{outcome:?}");
    assert_eq!(house.stored(&ada, &turn).await, (text, TurnStatus::Interrupted));
    let mut next = house.turn(&ada).await;
    assert_eq!(finished(&mut next).await.0, "fine");
    house.close().await;
}

#[tokio::test]
async fn a_turn_cancelled_mid_stream_ends_the_upstream_request_and_is_stored_as_cancelled() {
    let house =
        House::open(Script::new(&["m"], vec![say("so far"), Step::Stall]), ModelConfig::default()).await;
    let ada = house.somebody().await;
    let mut turn = house.turn(&ada).await;
    until_open(&house.script, 1).await;
    turn.reader.cancel();
    until_open(&house.script, 0).await;
    let (_, outcome, stored) = finished(&mut turn).await;
    assert!(failed(FailureCode::Cancelled)(&outcome), "{outcome:?}");
    assert_eq!(stored, Some(true));
    assert_eq!(house.stored(&ada, &turn).await, ("so far".to_owned(), TurnStatus::Cancelled));
    house.close().await;
}

#[tokio::test]
async fn a_caller_that_leaves_the_queue_never_reaches_the_model_server() {
    let house = House::open(Script::new(&["m"], vec![Step::Stall]), ModelConfig::default()).await;
    let ada = house.somebody().await;
    let running = house.turn(&ada).await;
    until_open(&house.script, 1).await;
    let waiting = house.turn(&ada).await;
    assert_eq!(house.models.models()[0].waiting, 1);
    drop(waiting);
    assert_eq!(house.models.models()[0].waiting, 0);
    drop(running);
    until_open(&house.script, 0).await;
    assert_eq!(house.script.prompts().len(), 1);
    house.close().await;
}

#[tokio::test]
async fn a_busy_model_server_is_asked_again_and_is_no_failure() {
    let house = House::open(Script::new(&["m"], answer("fine")), ModelConfig::default()).await;
    let ada = house.somebody().await;
    house.script.then(Err(UpstreamError::Busy));
    let mut turn = house.turn(&ada).await;
    assert_eq!(finished(&mut turn).await.0, "fine");
    house.close().await;
}

#[tokio::test]
async fn d04_a_turn_that_found_no_connection_is_tried_once_more_and_only_once() {
    let house = House::open(Script::new(&["m"], answer("fine")), ModelConfig::default()).await;
    let ada = house.somebody().await;
    let refused = || Err(UpstreamError::Connect("refused".to_owned()));
    house.script.then(refused());
    let mut turn = house.turn(&ada).await;
    assert_eq!(finished(&mut turn).await.0, "fine");
    house.script.then(refused());
    house.script.then(refused());
    let mut turn = house.turn(&ada).await;
    assert!(failed(FailureCode::UpstreamError)(&finished(&mut turn).await.1));
    assert_eq!(house.script.prompts().len(), 4);
    // What the server did with a prompt it got is not known, so it does not get it twice.
    house.script.then(Ok(vec![Step::Fail(UpstreamError::Failed("cut".to_owned()))]));
    let mut turn = house.turn(&ada).await;
    assert!(failed(FailureCode::UpstreamError)(&finished(&mut turn).await.1));
    assert_eq!(house.script.prompts().len(), 5);
    house.close().await;
}

#[tokio::test]
async fn d06_while_the_breaker_is_open_new_turns_are_refused_and_waiting_ones_are_kept() {
    let config = ModelConfig { breaker_failures: 1, ..ModelConfig::default() };
    let house = House::open(Script::new(&["m"], answer("fine")), config).await;
    let ada = house.somebody().await;
    let go = Arc::new(Notify::new());
    let dies = Step::Fail(UpstreamError::Failed("status 500".to_owned()));
    house.script.then(Ok(vec![Step::Await(go.clone()), dies]));
    let mut running = house.turn(&ada).await;
    until_open(&house.script, 1).await;
    let mut waiting = [house.turn(&ada).await, house.turn(&ada).await];
    house.script.probe_as(Err(UpstreamError::Connect("refused".to_owned())));
    go.notify_one();
    assert!(failed(FailureCode::UpstreamError)(&finished(&mut running).await.1));
    while house.script.probes() < 1 {
        let refused = house.models.start_turn(&ada, ask("hello"), STORED, TokenReserve::none()).await.err();
        assert!(
            matches!(refused, Some(ModelError::ServerAway { retry_after }) if retry_after <= PROBE_EVERY),
            "{refused:?}"
        );
        let model = house.models.models().remove(0);
        assert_eq!((model.state, model.running, model.waiting), (ModelState::Unreachable, 0, 2));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(house.script.prompts().len(), 1, "nobody's turn is the probe");
    house.script.probe_as(Ok(()));
    for turn in &mut waiting {
        assert_eq!(finished(turn).await.0, "fine");
    }
    assert_eq!(house.models.models()[0].state, ModelState::Available);
    house.close().await;
}

#[tokio::test]
async fn an_answer_beyond_its_bound_ends_as_too_large_with_its_text_kept() {
    let config = ModelConfig { reply_bytes_max: 8, ..ModelConfig::default() };
    let house = House::open(Script::new(&["m"], vec![say("12345678"), say("9"), Step::Stall]), config).await;
    let ada = house.somebody().await;
    let mut turn = house.turn(&ada).await;
    let (_, outcome, _) = finished(&mut turn).await;
    assert!(failed(FailureCode::ReplyTooLarge)(&outcome), "{outcome:?}");
    assert_eq!(house.stored(&ada, &turn).await, ("12345678".to_owned(), TurnStatus::Failed));
    house.close().await;
}

#[tokio::test]
async fn the_probabilities_of_tokens_come_with_the_answer() {
    let told = |token: &str| TokenLogprob {
        token: token.to_owned(),
        logprob: -0.5,
        bytes: None,
        top_logprobs: vec![],
    };
    let mut steps = vec![Step::Give(vec![
        Delta::Content("so ".to_owned()),
        Delta::Logprobs(vec![told("so "), told("")]),
    ])];
    steps.push(Step::Give(vec![Delta::Content("it is".to_owned()), Delta::Logprobs(vec![told("it is")])]));
    steps.extend(answer(""));
    let house = House::open(Script::new(&["m"], steps), ModelConfig::default()).await;
    let ada = house.somebody().await;
    let mut turn = house.turn(&ada).await;
    let (answer, ending) = turn.reader.finished().await;
    assert_eq!(ending.outcome, Outcome::Complete(FinishReason::Stop));
    assert_eq!(
        (answer.content.as_str(), answer.logprobs),
        ("so it is", vec![told("so "), told(""), told("it is")])
    );
    assert_eq!(house.stored(&ada, &turn).await.0, "so it is");
    house.close().await;
}

#[tokio::test]
async fn a_full_reply_budget_refuses_new_turns() {
    let config = ModelConfig { reply_budget_bytes: 1_000, slots: 2, ..ModelConfig::default() };
    let house = House::open(Script::new(&["m"], vec![say(&"x".repeat(900)), Step::Stall]), config).await;
    let ada = house.somebody().await;
    let mut turn = house.turn(&ada).await;
    assert!(turn.reader.started().await);
    while house.models.reply_bytes().0 < 900 {
        tokio::task::yield_now().await;
    }
    let refused = house.models.start_turn(&ada, ask("more"), STORED, TokenReserve::none()).await.err();
    assert!(matches!(refused, Some(ModelError::NoRoom(_))), "{refused:?}");
    drop(turn);
    until_open(&house.script, 0).await;
    house.close().await;
}

#[tokio::test]
async fn killing_the_router_leaves_streams_and_routes_alone() {
    let (steps, go) = held_up();
    let house = House::open(Script::new(&["m"], steps), ModelConfig::default()).await;
    let ada = house.somebody().await;
    let mut turn = house.turn(&ada).await;
    until_open(&house.script, 1).await;
    house.kill("models_sup/router");
    assert_eq!(house.models.models().len(), 1);
    go.notify_one();
    assert_eq!(finished(&mut turn).await.0, "still here");
    house.close().await;
}

#[tokio::test]
async fn a_model_that_is_gone_ends_its_queue_lets_its_turns_finish_and_may_come_back() {
    let house = House::open(Script::new(&["m"], answer("fine")), ModelConfig::default()).await;
    let ada = house.somebody().await;
    let (steps, go) = held_up();
    house.script.then(Ok(steps));
    let mut running = house.turn(&ada).await;
    until_open(&house.script, 1).await;
    let mut waiting = house.turn(&ada).await;
    let routing = house.models.0.routing.clone();
    let cards = routing.known.load().catalogue.models().map(|model| model.card.clone()).collect();
    house.script.list_as(Ok(Vec::new()));
    routing.refresh().await;
    let (_, outcome, _) = finished(&mut waiting).await;
    assert!(failed(FailureCode::ModelNotFound)(&outcome), "{outcome:?}");
    let refused = house.models.start_turn(&ada, ask("hello"), STORED, TokenReserve::none()).await.err();
    assert!(matches!(refused, Some(ModelError::UnknownModel(_))), "{refused:?}");

    house.script.list_as(Ok(cards));
    routing.refresh().await;
    assert!(house.models.models().is_empty(), "its old worker still has a turn in hand");
    go.notify_one();
    assert_eq!(finished(&mut running).await.0, "still here");
    while !routing.retiring.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    routing.refresh().await;
    let mut back = house.turn(&ada).await;
    assert_eq!(finished(&mut back).await.0, "fine");
    house.close().await;
}

#[tokio::test]
async fn d02_prompts_that_wait_share_a_budget_and_give_it_back() {
    let config = ModelConfig { prompt_budget_bytes: 64 << 10, ..ModelConfig::default() };
    let house = House::open(Script::new(&["m"], answer("fine")), config).await;
    let ada = house.somebody().await;
    let (steps, go) = held_up();
    house.script.then(Ok(steps));
    let start = |bytes| house.models.start_turn(&ada, ask(&"x".repeat(bytes)), STORED, TokenReserve::none());
    let mut running = start(40 << 10).await.unwrap();
    let refused = start(40 << 10).await.err();
    assert!(matches!(refused, Some(ModelError::NoRoom(_))), "{refused:?}");
    let mut small = start(10 << 10).await.unwrap();
    go.notify_one();
    assert_eq!(finished(&mut running).await.0, "still here");
    assert_eq!(finished(&mut small).await.0, "fine");
    let mut large = start(60 << 10).await.unwrap();
    assert_eq!(finished(&mut large).await.0, "fine");
    house.close().await;
}

#[tokio::test]
async fn a_continued_conversation_sends_its_history_and_a_foreign_one_is_unknown() {
    let house = House::open(Script::new(&["m"], answer("an answer")), ModelConfig::default()).await;
    let (ada, eve) = (house.somebody().await, house.somebody().await);
    let mut first = house.turn(&ada).await;
    finished(&mut first).await;
    let more = TurnOptions { conversation: first.conversation, ..STORED };
    let mut second =
        house.models.start_turn(&ada, ask("and more?"), more, TokenReserve::none()).await.unwrap();
    finished(&mut second).await;
    let prompts = house.script.prompts();
    let sent: Vec<&str> = prompts[1].1.messages.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(sent, ["hello", "an answer", "and more?"]);
    let page = house.db.messages(ada.user, first.conversation.unwrap(), None, 50).await.unwrap();
    let said: Vec<&str> = page.items.iter().map(|stored| stored.message.content.as_str()).collect();
    assert_eq!(said, ["hello", "an answer", "and more?", "an answer"]);
    let refused = house.models.start_turn(&eve, ask("let me in"), more, TokenReserve::none()).await.err();
    assert_eq!(refused, Some(ModelError::UnknownConversation), "a17: foreign ids do not exist");
    house.close().await;
}

#[tokio::test]
async fn halting_ends_what_runs_and_what_waits_with_the_text_kept() {
    let house =
        House::open(Script::new(&["m"], vec![say("so far"), Step::Stall]), ModelConfig::default()).await;
    let ada = house.somebody().await;
    let mut running = house.turn(&ada).await;
    until_open(&house.script, 1).await;
    let mut waiting = house.turn(&ada).await;
    house.models.halt(PATIENCE).await;
    for turn in [&mut running, &mut waiting] {
        let (_, outcome, stored) = finished(turn).await;
        assert!(failed(FailureCode::ServerShuttingDown)(&outcome), "{outcome:?}");
        assert_eq!(stored, Some(true));
    }
    assert_eq!(house.stored(&ada, &running).await.1, TurnStatus::Interrupted);
    house.close().await;
}
