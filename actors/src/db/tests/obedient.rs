//! A store that writes, waits or is away, as its test says.

use std::sync::Arc;

use domain::{
    id::{InstanceId, TurnId},
    turn::Begun,
};
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::{Clock, fresh_id},
    db::{
        DbConfig, DbError, DbHandle,
        message::{Write, Written},
        room::assemble,
        store::{Applied, PoolUse, Store},
    },
    handle::GateCollector,
    room::RoomContext,
    supervisor::{Policy, Root, SupervisorHandle},
    tree::Tree,
};

pub(super) struct Room {
    pub(super) db: DbHandle,
    pub(super) store: Arc<Obedient>,
    pub(super) root: Root,
}

pub(super) async fn room(config: DbConfig) -> Room {
    let context = RoomContext {
        system: fresh_id::<InstanceId>().to_string().into(),
        clock: Clock::system(),
        tracker: TaskTracker::new(),
        closing: CancellationToken::new(),
        registry: Arc::new(Mutex::new(Registry::default())),
        tree: Tree::new(),
        gates: GateCollector::new(),
    };
    let store =
        Arc::new(Obedient { orders: watch::Sender::default(), acquire_timeout: config.acquire_timeout });
    let (db, spec) = assemble(&context, &config, Arc::clone(&store) as Arc<dyn Store>);
    let (path, tree) = (spec.path.clone(), context.tree.clone());
    let child = spec.into_child(path, &context.system, tree.clone(), SupervisorHandle::new());
    let root = Root::start(&context.system, Policy::default(), vec![child], tree).await.unwrap();
    Room { db, store, root }
}

#[derive(Default)]
struct Orders {
    is_away: bool,
    is_held: bool,
    begun: usize,
    batches: Vec<Vec<&'static str>>,
    /// In the order of their commits.
    settled: Vec<TurnId>,
}

pub(in crate::db) struct Obedient {
    orders: watch::Sender<Orders>,
    acquire_timeout: std::time::Duration,
}

impl Obedient {
    pub(super) fn be_away(&self, is_away: bool) {
        self.orders.send_modify(|orders| orders.is_away = is_away);
    }

    /// Makes every question and every transaction wait.
    pub(super) fn hold(&self) {
        self.orders.send_modify(|orders| orders.is_held = true);
    }

    pub(super) fn release(&self) {
        self.orders.send_modify(|orders| orders.is_held = false);
    }

    /// Resolves when this many transactions were begun.
    pub(super) async fn begun(&self, count: usize) {
        self.orders.subscribe().wait_for(|orders| orders.begun >= count).await.unwrap();
    }

    /// Resolves when this many were committed.
    pub(super) async fn written(&self, count: usize) {
        self.orders.subscribe().wait_for(|orders| orders.batches.len() >= count).await.unwrap();
    }

    pub(super) fn batches(&self) -> Vec<Vec<&'static str>> {
        self.orders.borrow().batches.clone()
    }

    /// The turns whose ends were committed, each as often as it was.
    pub(super) fn settled(&self) -> Vec<TurnId> {
        self.orders.borrow().settled.clone()
    }

    pub(in crate::db) async fn wait(&self) -> Result<(), DbError> {
        let is_away = self.orders.subscribe().wait_for(|orders| !orders.is_held).await.unwrap().is_away;
        if is_away {
            sleep(self.acquire_timeout).await;
            return Err(DbError::Unavailable("told to be away".into()));
        }
        Ok(())
    }
}

fn name(write: &Write) -> &'static str {
    match write {
        Write::BeginTurn(_) => "begin",
        Write::OpenTurn(_) => "open",
        Write::Checkpoint(_) => "checkpoint",
        Write::Settle(_) | Write::Replay(_) => "settle",
        _ => "other",
    }
}

impl Store for Obedient {
    fn apply<'a>(&'a self, batch: &'a [&'a Write]) -> BoxFuture<'a, Result<Applied, DbError>> {
        Box::pin(async move {
            self.orders.send_modify(|orders| orders.begun += 1);
            self.wait().await?;
            let names = batch.iter().map(|write| name(write)).collect();
            let settled = batch.iter().filter_map(|write| Some(write.as_settlement()?.turn));
            self.orders.send_modify(|orders| {
                orders.batches.push(names);
                orders.settled.extend(settled);
            });
            let answer = |write: &&Write| match write {
                Write::BeginTurn(_) => Begun::New.into(),
                _ => Written::Done,
            };
            Ok(batch.iter().map(answer).map(Ok).collect())
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }

    fn pools(&self) -> Vec<PoolUse<'_>> {
        Vec::new()
    }

    fn write_lanes(&self) -> usize {
        1
    }
}
