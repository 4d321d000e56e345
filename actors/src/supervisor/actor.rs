//! The supervisor's actor: turns messages and exit events into steps on its list of children.

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr, SupervisionEvent};

use super::{
    ChildSpec, Kind, SupervisorHandle, SupervisorSpec, child_name,
    children::{Children, Epoch},
    exit::Cause,
    spawn::{spawn_child, spawn_top},
};
use crate::{
    handle::Permit,
    tree::{Status, Tree},
};

/// How long a leaf may take to come up before the attempt counts as failed.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(10);

/// What a supervisor can be asked; made by its [`SupervisorHandle`] and by itself.
pub struct SupervisorMessage {
    command: Command,
    _permit: Option<Permit>,
}

pub(super) enum Command {
    Ensure(Arc<ChildSpec>, RpcReplyPort<bool>),
    Remove(String, RpcReplyPort<()>),
    Kill(String, RpcReplyPort<bool>),
    Barrier(RpcReplyPort<()>),
    /// The backoff of a dead child is over.
    Respawn(Epoch),
    /// The child has run for long enough to count as healthy, if it still does.
    Healthy(Epoch),
    /// The child was asked to leave and should have left by now.
    Overdue(Epoch),
}

impl SupervisorMessage {
    pub(super) fn asked(permit: Permit, command: Command) -> Self {
        Self { command, _permit: Some(permit) }
    }

    /// A message to itself: at most one timer of each sort per child, so it needs no permit.
    pub(super) fn timer(command: Command) -> Self {
        Self { command, _permit: None }
    }
}

/// Starts a supervisor and all its children, and publishes it in `handle`.
///
/// # Errors
///
/// At its first start: a child did not come up; those before it were stopped again. Give up.
pub async fn spawn_supervisor(
    parent: Option<ActorCell>,
    system: &str,
    spec: SupervisorSpec,
    tree: Tree,
    handle: SupervisorHandle,
) -> Result<ActorRef<SupervisorMessage>, SpawnErr> {
    let name = child_name(system, &spec.path);
    let path = spec.path.clone();
    let arguments = Arguments { spec, tree: tree.clone(), handle: handle.clone() };
    let supervisor = match parent {
        Some(parent) => spawn_child(&parent, name, Supervisor, arguments).await?,
        None => spawn_top(name, Supervisor, arguments).await?,
    };
    tree.started(&path, Kind::Supervisor, Status::Running, supervisor.get_id().to_string());
    Ok(supervisor)
}

struct Supervisor;

struct Arguments {
    spec: SupervisorSpec,
    tree: Tree,
    handle: SupervisorHandle,
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = Children;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        me: ActorRef<SupervisorMessage>,
        Arguments { spec, tree, handle }: Arguments,
    ) -> Result<Children, ActorProcessingErr> {
        // A child may ask for siblings as soon as it runs: what it sends waits here until all of them are up.
        handle.slot().publish(me.clone());
        let mut children = Children::new(me, spec, tree, handle.lasting.clone());
        if let Err(error) = children.start_all().await {
            handle.slot().clear();
            return Err(error);
        }
        Ok(children)
    }

    async fn handle(
        &self,
        _: ActorRef<SupervisorMessage>,
        SupervisorMessage { command, _permit }: SupervisorMessage,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        match command {
            Command::Ensure(spec, reply) => {
                let is_taken = children.ensure(spec).await?;
                // A caller that left has lost nothing: asking again is idempotent.
                let _ = reply.send(is_taken);
            }
            Command::Remove(id, reply) => children.remove(&id, reply),
            Command::Kill(id, reply) => {
                // Whoever asked and left sees it in the tree.
                let _ = reply.send(children.kill(&id));
            }
            Command::Barrier(reply) => {
                let _ = reply.send(());
            }
            Command::Respawn(epoch) => children.respawn(epoch).await?,
            Command::Healthy(epoch) => children.recover(epoch),
            Command::Overdue(epoch) => children.kill_overdue(epoch),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<SupervisorMessage>,
        event: SupervisionEvent,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        let (who, cause) = match event {
            SupervisionEvent::ActorFailed(who, error) => (who, Cause::Crashed(error.to_string())),
            SupervisionEvent::ActorTerminated(who, _, reason) => (who, ended(reason)),
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => return Ok(()),
        };
        children.child_exited(&who, cause).await
    }

    async fn post_stop(
        &self,
        _: ActorRef<SupervisorMessage>,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        children.stop_all().await;
        Ok(())
    }
}

/// ractor says "killed" and "cancelled" by the reason of an otherwise normal exit.
pub(super) fn ended(reason: Option<String>) -> Cause {
    match reason.as_deref() {
        Some("killed" | "actor_task_cancelled") => Cause::Killed,
        _ => Cause::Stopped(reason),
    }
}
