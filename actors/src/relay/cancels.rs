//! The CancelsActor: ends the turns of this instance that another one was asked to end.
//!
//! The store remembers such a wish, so it is looked for while turns run; the other instance's word through Redis only has it
//! looked for at once.
//!
//! # When it breaks
//!
//! It remembers nothing: its successor looks at its first tick. While the store is away nobody can wish anything either.

use std::{sync::Arc, time::Duration};

use domain::id::InstanceId;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio_util::task::TaskTracker;

use super::{
    metrics::RelayMetrics,
    rounds::Rounds,
    world::{LiveTurns, Records},
};

pub(super) enum CancelsMessage {
    Look,
}

#[derive(Clone)]
pub(super) struct Cancels {
    pub instance: InstanceId,
    pub every: Duration,
    pub live: Arc<dyn LiveTurns>,
    pub records: Arc<dyn Records>,
    pub metrics: RelayMetrics,
    pub tracker: TaskTracker,
    pub looks: Arc<Rounds>,
}

pub(super) struct CancelsActor;

impl Actor for CancelsActor {
    type Msg = CancelsMessage;
    type State = Cancels;
    type Arguments = Cancels;

    async fn pre_start(
        &self,
        me: ActorRef<CancelsMessage>,
        cancels: Cancels,
    ) -> Result<Cancels, ActorProcessingErr> {
        me.send_interval(cancels.every, || CancelsMessage::Look);
        Ok(cancels)
    }

    async fn handle(
        &self,
        _: ActorRef<CancelsMessage>,
        CancelsMessage::Look: CancelsMessage,
        cancels: &mut Cancels,
    ) -> Result<(), ActorProcessingErr> {
        cancels.look();
        Ok(())
    }
}

impl Cancels {
    /// Looks, in a task of its own: the store may be slow. Wishes that come meanwhile are looked for by the same task.
    pub(super) fn look(&self) {
        if self.live.is_empty() {
            return;
        }
        let Some(look) = self.looks.want() else { return };
        let cancels = self.clone();
        self.tracker.spawn(async move {
            let mut look = Some(look);
            while let Some(looking) = look {
                match cancels.records.cancel_requests(cancels.instance).await {
                    Ok(turns) => turns.into_iter().for_each(|turn| {
                        if cancels.live.cancel(turn) {
                            cancels.metrics.cancels.inc();
                        }
                    }),
                    Err(error) => tracing::debug!(%error, "relay.cancels.unseen"),
                }
                look = looking.next();
            }
        });
    }
}
