//! Looks around once a second and publishes what it saw; awaits nothing.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::{
    database::{Database, Ping, Sign},
    gates::GateWatch,
    message::{LiveTree, OpsMessage},
    published::Published,
    readiness::{self, LookAround},
};
use crate::{handle::GateCollector, tree::Tree};

/// Time between two looks.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct OpsActor;

/// Where it looks; outlives it.
#[derive(Clone)]
pub(super) struct Sources {
    pub tree: Tree,
    pub gates: GateCollector,
    pub tracker: TaskTracker,
    pub ping: Ping,
    pub around: LookAround,
    pub published: Published,
    /// A spell of refusals outlives whoever told of its beginning.
    pub doors: Arc<Mutex<GateWatch>>,
    /// Whether the database has ever answered.
    pub heard: watch::Sender<bool>,
}

pub(super) struct State {
    sources: Sources,
    database: Database,
}

impl State {
    fn new(sources: Sources) -> Self {
        let database = Database::new(sources.ping.clone(), sources.tracker.clone());
        Self { sources, database }
    }

    fn look(&mut self, me: ActorRef<OpsMessage>) {
        self.database.ask(me);
        self.sources.tree.notice_recoveries();
        self.sources.doors.lock().look(&self.sources.gates.snapshot(), self.sources.tree.news());
        self.publish();
    }

    fn publish(&self) {
        let mut checks = vec![self.database.check(), readiness::actors(&self.sources.tree.snapshot())];
        checks.extend((self.sources.around)().checks());
        self.sources.published.publish(checks);
    }

    fn tree(&self) -> LiveTree {
        LiveTree { nodes: self.sources.tree.snapshot(), gates: self.sources.gates.snapshot() }
    }
}

impl Actor for OpsActor {
    type Msg = OpsMessage;
    type State = State;
    type Arguments = Sources;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        sources: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(State::new(sources))
    }

    async fn post_start(
        &self,
        me: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        state.look(me.clone());
        // Ends with the actor.
        me.send_interval(LOOK_INTERVAL, || OpsMessage::Look);
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // Whoever asked and left has no use for the answer: sending it may fail.
        match message {
            OpsMessage::Tree(_permit, port) => drop(port.send(state.tree())),
            OpsMessage::Look => state.look(me),
            OpsMessage::LookNow(_permit, port) => {
                state.look(me);
                drop(port.send(()));
            }
            OpsMessage::Database(sign) => {
                let answered = sign == Sign::Answered;
                state.database.note(sign);
                state.publish();
                if answered {
                    // Published first: whoever waits for this finds it in the readiness.
                    state.sources.heard.send_replace(true);
                }
            }
        }
        Ok(())
    }
}
