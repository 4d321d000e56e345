//! What the tests stand on.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    sync::{Arc, OnceLock},
    time::Duration,
};

use chrono::DateTime;
use domain::{
    chat::ToolCall,
    id::{ConversationId, InstanceId, MessageId, TurnId, UserId},
    reply::{Answer, Delta, FailureCode, FinishReason, Position, Timings, Usage, UsageSource},
    secret::Secret,
    turn::{StoredReply, StoredTurn, TurnStatus},
};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use prometheus_client::encoding::text::encode as print;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::{
    clock::{Clock, fresh_id},
    db::DbError,
    relay::*,
    reply::{End, Ending, Event, OnDisconnect, Outcome, ReplyLog, ReplyWriter, channel},
    supervisor::{SupervisorHandle, spawn_supervisor},
};

/// Longer than anything here takes on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What the store knows; all instances share it.
#[derive(Default)]
pub(super) struct Book {
    turns: Mutex<HashMap<TurnId, (StoredTurn, Answer)>>,
    cancels: Mutex<HashMap<InstanceId, Vec<TurnId>>>,
}

impl Book {
    pub(super) fn change(&self, turn: TurnId, change: impl FnOnce(&mut (StoredTurn, Answer))) {
        change(self.turns.lock().get_mut(&turn).unwrap());
    }

    pub(super) fn throw_away(&self, turn: TurnId) {
        self.turns.lock().remove(&turn);
    }

    pub(super) fn read(&self, turn: TurnId) -> (StoredTurn, Answer) {
        self.turns.lock().get(&turn).cloned().unwrap()
    }

    pub(super) fn want_cancelled(&self, owner: InstanceId, turn: TurnId) {
        self.cancels.lock().entry(owner).or_default().push(turn);
    }
}

impl Records for Book {
    fn turn(
        &self,
        user: UserId,
        turn: TurnId,
    ) -> BoxFuture<'_, Result<Option<(StoredTurn, Answer)>, DbError>> {
        let found = self.turns.lock().get(&turn).filter(|(stored, _)| stored.user == user).cloned();
        Box::pin(async { Ok(found) })
    }

    fn cancel_requests(&self, owner: InstanceId) -> BoxFuture<'_, Result<Vec<TurnId>, DbError>> {
        let wanted = self.cancels.lock().get(&owner).cloned().unwrap_or_default();
        Box::pin(async { Ok(wanted) })
    }
}

/// The turns of one instance.
#[derive(Default)]
struct Here(Mutex<HashMap<TurnId, (UserId, ReplyLog)>>);

impl LiveTurns for Here {
    fn observe(&self, user: UserId, turn: TurnId) -> Option<ReplyReader> {
        self.0.lock().get(&turn).filter(|(owner, _)| *owner == user)?.1.observe().ok()
    }

    fn cancel(&self, turn: TurnId) -> bool {
        self.0.lock().get(&turn).is_some_and(|(_, log)| log.cancel())
    }

    fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

/// The room of one instance.
pub(super) struct Room {
    pub relay: RelayHandle,
    pub instance: InstanceId,
    here: Arc<Here>,
    book: Arc<Book>,
    budget: ReplyBudget,
    supervisor: SupervisorHandle,
    ctx: RoomContext,
}

/// Quick to notice that nobody says anything.
pub(super) fn quick(redis: Option<String>) -> RelayConfig {
    RelayConfig {
        silence: Duration::from_millis(1_500),
        look_every: Duration::from_millis(100),
        ..RelayConfig::new(redis.map(Secret::new))
    }
}

pub(super) async fn room(book: &Arc<Book>, config: RelayConfig) -> Room {
    let name = format!("relay-{}", Uuid::now_v7());
    let ctx = RoomContext::new(&name, Clock::system());
    let (instance, here, budget) = (fresh_id(), Arc::<Here>::default(), ReplyBudget::new(64 << 20));
    let has_redis = config.redis_url.is_some();
    let (live, records) = (Arc::clone(&here), Arc::clone(book));
    let world = World { instance, live, records, budget: budget.clone(), bytes_max: 4 << 20 };
    let (relay, spec) = build(&ctx, config, world).unwrap();
    let supervisor = SupervisorHandle::new();
    spawn_supervisor(None, &ctx.system, spec, ctx.tree.clone(), supervisor.clone()).await.unwrap();
    let room = Room { relay, instance, here, book: Arc::clone(book), budget, supervisor, ctx };
    if has_redis {
        room.until("the server is heard", |room| room.metric("deepersensor_relay_up") == 1).await;
    }
    room
}

/// A turn that a script writes.
pub(super) struct Script {
    pub turn: TurnId,
    pub user: UserId,
    pub writer: Option<ReplyWriter>,
    /// Its first reader.
    pub reader: Option<ReplyReader>,
    ending: Arc<OnceLock<Ending>>,
    book: Arc<Book>,
}

impl Room {
    /// A turn of this instance; `None` where its answer is not stored.
    pub(super) fn begin(&self, is_stored: bool, on_disconnect: OnDisconnect) -> Script {
        let (mut writer, reader) = channel(&self.budget, 4 << 20, on_disconnect);
        let (turn, user): (TurnId, UserId) = (fresh_id(), fresh_id());
        self.here.0.lock().insert(turn, (user, reader.log()));
        let stored = is_stored.then(|| StoredReply {
            conversation: fresh_id::<ConversationId>(),
            message: fresh_id::<MessageId>(),
        });
        let row = StoredTurn {
            turn,
            user,
            model: "any".to_owned(),
            stored,
            status: TurnStatus::Streaming,
            failure: None,
            finish_reason: None,
            usage: None,
            timings: None,
            owner: Some(self.instance),
            created_at: DateTime::UNIX_EPOCH,
            ended_at: None,
        };
        self.book.turns.lock().insert(turn, (row, Answer::default()));
        let ending = Arc::<OnceLock<Ending>>::default();
        let told = Arc::clone(&ending);
        writer.settle_with(Box::new(move |end, closer| {
            closer.close(told.get().cloned().unwrap_or_else(|| ending_as(end.into_outcome(), None)));
        }));
        let book = Arc::clone(&self.book);
        Script { turn, user, writer: Some(writer), reader: Some(reader), ending, book }
    }

    /// Forgets a turn, as an instance does that is gone.
    pub(super) fn forget(&self, turn: TurnId) {
        self.here.0.lock().remove(&turn);
    }

    /// Reads it behind `from`.
    pub(super) fn follow(&self, turn: TurnId, from: Position) -> Result<ReplyReader, RelayError> {
        let (turn, answer) = self.book.read(turn);
        self.relay.follow(turn, &answer, from)
    }

    pub(super) fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        print(&mut text, &self.ctx.registry.lock()).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
    }

    pub(super) fn gate(&self, name: &str) -> u64 {
        self.ctx.gates.snapshot().iter().find(|gate| gate.name == name).unwrap().in_use
    }

    pub(super) async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let give_up = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < give_up, "waited in vain: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) async fn kill(&self, child: &str) {
        assert!(self.supervisor.kill(child).await.unwrap());
    }

    /// Stops the room and sees that nothing of it is left.
    pub(super) async fn end(self) {
        self.relay.halt();
        self.supervisor.stop().await;
        self.ctx.tracker.close();
        timeout(PATIENCE, self.ctx.tracker.wait()).await.expect("no task is left");
        assert_eq!([self.gate("followed_turns"), self.gate("told_turns")], [0, 0]);
        assert!(self.relay.following.followed.lock().is_empty());
    }
}

fn ending_as(outcome: Outcome, stored: Option<bool>) -> Ending {
    let usage = Usage { prompt_tokens: 3, completion_tokens: 5, source: UsageSource::Reported };
    let timings = Timings { total: Duration::from_millis(77), ..Timings::default() };
    Ending { outcome, usage, timings, stored }
}

impl Script {
    pub(super) fn push(&self, delta: Delta) {
        let writer = self.writer.as_ref().unwrap();
        writer.started();
        writer.push([delta]).unwrap();
    }

    pub(super) fn say(&self, text: &str) {
        self.push(Delta::Content(text.to_owned()));
    }

    /// Everything so far goes into the store, if it is kept there.
    pub(super) fn checkpoint(&self) {
        let answer = self.writer.as_ref().unwrap().answer();
        self.book.change(self.turn, |(row, kept)| {
            if row.stored.is_some() {
                *kept = answer;
            }
        });
    }

    /// Settles it as complete, then tells its readers.
    pub(super) fn complete(&mut self) -> Ending {
        self.checkpoint();
        let mut stored = None;
        let outcome = Outcome::Complete(FinishReason::Stop);
        self.book.change(self.turn, |(row, _)| {
            stored = row.stored.map(|_| true);
            let Ending { usage, timings, .. } = ending_as(outcome.clone(), None);
            (row.status, row.finish_reason) = (TurnStatus::Complete, Some(FinishReason::Stop));
            (row.usage, row.timings) = (Some(usage), Some(timings));
        });
        let ending = ending_as(outcome, stored);
        self.ending.set(ending.clone()).unwrap();
        self.writer.take().unwrap().end(End::Complete(FinishReason::Stop));
        ending
    }

    /// The store says that its lease ran out.
    pub(super) fn swept(&self) {
        self.book.change(self.turn, |(row, _)| {
            (row.status, row.failure) = (TurnStatus::Interrupted, Some(FailureCode::Internal));
        });
    }
}

/// What a reader was told.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Heard {
    pub answer: Answer,
    pub at: Position,
    pub is_started: bool,
    pub endings: Vec<Ending>,
}

impl Heard {
    pub(super) fn text(&self) -> &str {
        &self.answer.content
    }

    fn take(&mut self, event: Event<'_>) {
        assert!(self.endings.is_empty(), "{event:?} after the end");
        match event {
            Event::Queued(_) | Event::Logprobs { .. } => {}
            Event::Started => self.is_started = true,
            Event::Content { text, end } => {
                self.answer.content.push_str(text);
                self.at = end;
            }
            Event::Thinking { text, end } => {
                self.answer.thinking.push_str(text);
                self.at = end;
            }
            Event::ToolCall { call, end } => {
                self.answer.tool_calls.push(call.clone());
                self.at = end;
            }
            Event::Ended { ending, end } => {
                self.endings.push(ending.clone());
                self.at = end;
            }
        }
    }

    /// Takes the next that comes; says whether the turn has ended.
    pub(super) async fn more(&mut self, reader: &mut ReplyReader) -> bool {
        let read = poll_fn(|cx| reader.poll_events(cx, &mut |event| self.take(event)));
        timeout(PATIENCE, read).await.expect("something comes")
    }

    pub(super) async fn until(&mut self, reader: &mut ReplyReader, is_enough: impl Fn(&Self) -> bool) {
        while !is_enough(self) {
            let is_over = self.more(reader).await;
            assert!(!is_over || is_enough(self), "it ended before: {self:?}");
        }
    }

    /// All the rest.
    pub(super) async fn rest(mut self, reader: &mut ReplyReader) -> Self {
        while !self.more(reader).await {}
        assert_eq!(self.endings.len(), 1, "{self:?}");
        self
    }

    /// The text that both together have heard, this one first.
    pub(super) fn and(&self, next: &Self) -> Answer {
        Answer {
            content: self.answer.content.clone() + &next.answer.content,
            thinking: self.answer.thinking.clone() + &next.answer.thinking,
            tool_calls: [self.answer.tool_calls.clone(), next.answer.tool_calls.clone()].concat(),
            logprobs: Vec::new(),
        }
    }
}

pub(super) fn call(number: usize) -> ToolCall {
    ToolCall {
        id: format!("call-{number}"),
        name: "look".to_owned(),
        arguments: serde_json::json!({ "number": number }),
    }
}

pub(super) async fn heard(mut reader: ReplyReader) -> Heard {
    Heard::default().rest(&mut reader).await
}

pub(super) async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("in time")
}
