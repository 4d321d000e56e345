//! The top of the tree, and who learns that it gave up.

use std::future::Future;

use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::watch;

use super::{
    ChildSpec, Kind, Policy, ROOT, Strategy, SupervisorHandle, SupervisorSpec,
    actor::ended,
    child_name,
    exit::{self, Cause, Decision, Report},
    spawn::spawn_top,
    spawn_supervisor,
};
use crate::tree::{Status, Tree};

/// A running tree: one root supervisor over an ordered list of children, and a guardian that hears of its end.
pub struct Root {
    guardian: ActorRef<()>,
    handle: SupervisorHandle,
    failure: watch::Receiver<Option<String>>,
    tree: Tree,
}

impl Root {
    /// Starts the children in order and returns when all of them are up.
    ///
    /// # Errors
    ///
    /// A child did not come up; those before it were stopped again. End the process.
    pub async fn start(
        system: &str,
        policy: Policy,
        children: Vec<ChildSpec>,
        tree: Tree,
    ) -> Result<Self, SpawnErr> {
        let (failed, failure) = watch::channel(None);
        let arguments = Ears { failed, tree: tree.clone() };
        let guardian = spawn_top(child_name(system, "guardian"), Guardian, arguments).await?;
        let spec = SupervisorSpec {
            path: ROOT.to_owned(),
            strategy: Strategy::OneForOne,
            policy,
            children: children.into(),
        };
        let handle = SupervisorHandle::new();
        let above = Some(guardian.get_cell());
        match spawn_supervisor(above, system, spec, tree.clone(), handle.clone()).await {
            Ok(_) => Ok(Self { guardian, handle, failure, tree }),
            Err(error) => {
                guardian.stop(None);
                Err(error)
            }
        }
    }

    /// The root as a supervisor: children can be added to the end of the list at run time.
    pub fn handle(&self) -> &SupervisorHandle {
        &self.handle
    }

    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Resolves with the cause when the root gave up: everything under it is gone, so end the process.
    ///
    /// Never resolves after [`stop`](Self::stop).
    pub fn failed(&self) -> impl Future<Output = String> + Send + use<> {
        let mut failure = self.failure.clone();
        async move {
            let cause = match failure.wait_for(Option::is_some).await {
                Ok(cause) => cause.clone(),
                Err(_) => None,
            };
            match cause {
                Some(cause) => cause,
                None => std::future::pending().await,
            }
        }
    }

    /// Stops everything in reverse order of starting and waits for it.
    pub async fn stop(&self) {
        self.handle.stop().await;
        // The exit event is in the guardian's mailbox before `wait` returns, and goes before a drain.
        let _ = self.guardian.drain_and_wait(None).await;
    }
}

/// The one actor without a supervisor: it does nothing that could fail.
struct Guardian;

struct Ears {
    failed: watch::Sender<Option<String>>,
    tree: Tree,
}

impl Actor for Guardian {
    type Msg = ();
    type State = Ears;
    type Arguments = Ears;

    async fn pre_start(&self, _: ActorRef<()>, ears: Ears) -> Result<Ears, ActorProcessingErr> {
        Ok(ears)
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        event: SupervisionEvent,
        ears: &mut Ears,
    ) -> Result<(), ActorProcessingErr> {
        let (who, cause) = match event {
            SupervisionEvent::ActorFailed(who, error) => (who, Cause::Crashed(error.to_string())),
            SupervisionEvent::ActorTerminated(who, _, reason) => (who, ended(reason)),
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => return Ok(()),
        };
        let decision = if cause.is_crash() { Decision::Escalate } else { Decision::Stop };
        let report = Report {
            path: ROOT,
            kind: Kind::Supervisor,
            actor_id: Some(who.get_id().to_string()),
            cause,
            decision,
            status: Status::Stopped,
            backoff: std::time::Duration::ZERO,
            restarts_in_window: 0,
        };
        exit::record(&ears.tree, &report);
        if decision == Decision::Escalate {
            ears.failed.send_replace(Some(report.cause.to_string()));
        }
        Ok(())
    }
}
