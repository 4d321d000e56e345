//! Looks once a second how far the replica has come; see [`super::store::Replica`].
//!
//! # When it breaks
//!
//! Without it the replica counts as too far behind after some seconds, and the primary answers.

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::store::Store;

/// Between the end of one look and the next.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) struct ReplicaWatch;

/// Time to look.
pub(super) struct Look;

impl Actor for ReplicaWatch {
    type Msg = Look;
    type State = Arc<dyn Store>;
    type Arguments = Self::State;

    async fn pre_start(
        &self,
        me: ActorRef<Look>,
        store: Self::State,
    ) -> Result<Self::State, ActorProcessingErr> {
        me.cast(Look)?;
        Ok(store)
    }

    async fn handle(
        &self,
        me: ActorRef<Look>,
        Look: Look,
        store: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        store.look_at_replica().await;
        // Ends with the actor.
        me.send_after(LOOK_EVERY, || Look);
        Ok(())
    }
}
