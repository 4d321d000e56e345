//! A stage of puppets: actors that do what they are told and note when they start and stop.
//!
//! Tests wait for entries of the journal; on paused time the clock moves by itself while everybody waits.

mod added;
mod restart;
mod root;
mod stop;
mod worker;

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{sync::watch, time::timeout};

use super::*;
use crate::{handle::Slot, tree::Tree};

/// Far above any wait a test provokes, on the paused clock.
const PATIENCE: Duration = Duration::from_secs(3_600);

#[derive(Clone)]
struct Stage {
    system: &'static str,
    tree: Tree,
    journal: watch::Sender<Vec<String>>,
}

/// One puppet's strings.
#[derive(Clone)]
struct Puppet {
    id: String,
    slot: Slot<Order>,
    /// How many of the next starts panic.
    bad_starts: Arc<AtomicUsize>,
    /// How many of the next starts never end.
    endless_starts: Arc<AtomicUsize>,
    journal: watch::Sender<Vec<String>>,
}

enum Order {
    Panic,
    Fail,
    Leave,
    /// Never comes back from the handler.
    Hang,
}

impl Stage {
    /// `system` keeps tests apart that run at the same time: names are global to the process.
    fn new(system: &'static str) -> Self {
        Self { system, tree: Tree::new(), journal: watch::Sender::new(Vec::new()) }
    }

    fn puppet(&self, id: &str) -> Puppet {
        Puppet {
            id: id.to_owned(),
            slot: Slot::new(),
            bad_starts: Arc::default(),
            endless_starts: Arc::default(),
            journal: self.journal.clone(),
        }
    }

    /// A spec that brings `puppet` to life under the supervisor at `parent`.
    fn spec(&self, parent: &str, puppet: &Puppet) -> ChildSpec {
        let name = child_name(self.system, &child_path(parent, &puppet.id));
        let puppet = puppet.clone();
        ChildSpec::leaf(puppet.id.clone(), move |supervisor| {
            let (name, puppet) = (name.clone(), puppet.clone());
            async move {
                let slot = puppet.slot.clone();
                let actor = spawn_child(&supervisor, name, puppet, ()).await?;
                slot.publish(actor.clone());
                Ok(actor.get_cell())
            }
        })
    }

    /// Starts a supervisor without a parent over `puppets`.
    async fn supervise(&self, strategy: Strategy, puppets: &[&Puppet]) -> SupervisorHandle {
        let children = puppets.iter().map(|puppet| self.spec("sup", puppet)).collect();
        self.supervise_specs(strategy, children).await
    }

    async fn supervise_specs(&self, strategy: Strategy, children: Vec<ChildSpec>) -> SupervisorHandle {
        let handle = SupervisorHandle::new();
        let spec = self.supervisor("sup", strategy, children);
        spawn_supervisor(None, self.system, spec, self.tree.clone(), handle.clone()).await.unwrap();
        handle
    }

    fn supervisor(&self, path: &str, strategy: Strategy, children: Vec<ChildSpec>) -> SupervisorSpec {
        SupervisorSpec {
            path: path.to_owned(),
            strategy,
            policy: Policy::default(),
            children: Arc::new(children),
        }
    }

    fn journal(&self) -> Vec<String> {
        self.journal.borrow().clone()
    }

    fn count(&self, entry: &str) -> usize {
        self.journal.borrow().iter().filter(|noted| *noted == entry).count()
    }

    /// Waits until `entry` was noted `times` times.
    async fn noted(&self, entry: &str, times: usize) {
        let mut journal = self.journal.subscribe();
        let is_there =
            |journal: &Vec<String>| journal.iter().filter(|noted| *noted == entry).count() >= times;
        let waited = timeout(PATIENCE, journal.wait_for(is_there)).await;
        assert!(waited.is_ok(), "{entry} was not noted {times} times: {:?}", self.journal());
    }

    fn node(&self, path: &str) -> Option<crate::tree::Node> {
        self.tree.snapshot().into_iter().find(|node| node.path == path)
    }
}

impl Puppet {
    fn order(&self, order: Order) {
        // A puppet that is down already has nothing left to do wrong.
        let _ = self.slot.load().unwrap().cast(order);
    }

    fn note(&self, verb: &str) {
        self.journal.send_modify(|journal| journal.push(format!("{verb} {}", self.id)));
    }
}

fn take(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok()
}

impl Actor for Puppet {
    type Msg = Order;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Order>, (): ()) -> Result<(), ActorProcessingErr> {
        if take(&self.bad_starts) {
            self.note("refuse");
            panic!("does not want to start");
        }
        if take(&self.endless_starts) {
            self.note("dawdle");
            pending().await
        }
        self.note("start");
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Order>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        self.note("stop");
        Ok(())
    }

    async fn handle(&self, me: ActorRef<Order>, order: Order, (): &mut ()) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Panic => panic!("told to panic"),
            Order::Fail => return Err("told to fail".into()),
            Order::Leave => me.stop(None),
            Order::Hang => {
                self.note("hang");
                pending().await
            }
        }
        Ok(())
    }
}
