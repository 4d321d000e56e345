//! Spawning so that a panic is an exit like any other.

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};

use super::panics::caught;

/// An actor whose panics are errors that say where they happened.
struct Guarded<A>(A);

/// Starts `actor` linked to `supervisor` under `name` (see [`child_name`](super::child_name)).
///
/// # Errors
///
/// The name is taken or `pre_start` failed, by an error or a panic: nothing runs. The supervisor tries again.
pub async fn spawn_child<A: Actor>(
    supervisor: &ActorCell,
    name: String,
    actor: A,
    arguments: A::Arguments,
) -> Result<ActorRef<A::Msg>, SpawnErr> {
    let (actor, _) = supervisor.spawn_linked(Some(name), Guarded(actor), arguments).await?;
    Ok(actor)
}

/// Starts an actor that has no supervisor: the top of a tree.
pub(super) async fn spawn_top<A: Actor>(
    name: String,
    actor: A,
    arguments: A::Arguments,
) -> Result<ActorRef<A::Msg>, SpawnErr> {
    #[expect(clippy::disallowed_methods, reason = "the top of the tree has nobody above it")]
    let (actor, _) = Guarded::spawn(Some(name), Guarded(actor), arguments).await?;
    Ok(actor)
}

/// Makes a panic an error beside the actor's own.
pub(super) fn flatten<T>(
    result: Result<Result<T, ActorProcessingErr>, String>,
) -> Result<T, ActorProcessingErr> {
    result.unwrap_or_else(|panic| Err(panic.into()))
}

impl<A: Actor> Actor for Guarded<A> {
    type Msg = A::Msg;
    type State = A::State;
    type Arguments = A::Arguments;

    async fn pre_start(
        &self,
        me: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        flatten(caught(self.0.pre_start(me, arguments)).await)
    }

    async fn post_start(
        &self,
        me: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        flatten(caught(self.0.post_start(me, state)).await)
    }

    async fn post_stop(
        &self,
        me: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        flatten(caught(self.0.post_stop(me, state)).await)
    }

    async fn handle(
        &self,
        me: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        flatten(caught(self.0.handle(me, message, state)).await)
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        flatten(caught(self.0.handle_supervisor_evt(me, event, state)).await)
    }
}
