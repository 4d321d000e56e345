//! Factory workers in the tree: a ractor factory replaces its dead workers itself, where no supervisor sees it.

use ractor::{
    ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent,
    factory::{FactoryMessage, Job, Worker, WorkerId},
};

use super::{panics::caught, spawn::flatten};
use crate::tree::Tree;

/// Shows a factory's worker in the tree, and gives its crashes the same log line and count as any other exit.
///
/// Return it from the worker builder: `Watched::new(worker, "password", &tree)`. A worker that is killed is not
/// seen: nothing of it runs any more. The dead-man's switch, the only one to kill workers, is not used.
pub struct Watched<W> {
    worker: W,
    factory_path: String,
    tree: Tree,
}

impl<W: Worker> Watched<W> {
    /// Wraps a worker of the factory at `factory_path`; it is shown as `{factory_path}/worker-{n}`.
    pub fn new(worker: W, factory_path: impl Into<String>, tree: &Tree) -> Self {
        Self { worker, factory_path: factory_path.into(), tree: tree.clone() }
    }

    fn path(&self, id: WorkerId) -> String {
        format!("{}/worker-{id}", self.factory_path)
    }

    fn settle<T>(
        &self,
        id: WorkerId,
        result: Result<Result<T, ActorProcessingErr>, String>,
    ) -> Result<T, ActorProcessingErr> {
        let result = flatten(result);
        if let Err(error) = &result {
            self.tree.worker_exit(&self.path(id), &error.to_string());
        }
        result
    }
}

impl<W: Worker> Worker for Watched<W> {
    type Key = W::Key;
    type Message = W::Message;
    type Arguments = W::Arguments;
    type State = (WorkerId, W::State);

    async fn pre_start(
        &self,
        id: WorkerId,
        factory: &ActorRef<FactoryMessage<Self::Key, Self::Message>>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let started = caught(self.worker.pre_start(id, factory, arguments)).await;
        Ok((id, self.settle(id, started)?))
    }

    async fn post_start(
        &self,
        id: WorkerId,
        factory: &ActorRef<FactoryMessage<Self::Key, Self::Message>>,
        (_, state): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        self.tree.worker_started(&self.path(id));
        let started = caught(self.worker.post_start(id, factory, state)).await;
        self.settle(id, started)
    }

    async fn post_stop(
        &self,
        id: WorkerId,
        factory: &ActorRef<FactoryMessage<Self::Key, Self::Message>>,
        (_, state): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let stopped = caught(self.worker.post_stop(id, factory, state)).await;
        self.settle(id, stopped)
    }

    async fn handle(
        &self,
        id: WorkerId,
        factory: &ActorRef<FactoryMessage<Self::Key, Self::Message>>,
        job: Job<Self::Key, Self::Message>,
        (_, state): &mut Self::State,
    ) -> Result<Self::Key, ActorProcessingErr> {
        let handled = caught(self.worker.handle(id, factory, job, state)).await;
        self.settle(id, handled)
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorCell,
        event: SupervisionEvent,
        (id, state): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let handled = caught(self.worker.handle_supervisor_evt(me, event, state)).await;
        self.settle(*id, handled)
    }
}
