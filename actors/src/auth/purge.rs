//! PurgeActor: has sessions that ended long ago removed from the store, at start and once an hour.
//!
//! # When it breaks
//!
//! It keeps nothing: the store itself tells what is left. What a dead one, or a store that was away, left undone is done
//! in the next round. Several instances share the work.

use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{message::PurgeMessage, throttle::FAMILIAR};
use crate::{
    clock::Clock,
    db::{DbError, DbHandle},
};

const PURGE_EVERY: Duration = Duration::from_hours(1);

/// Sessions removed in one transaction.
const BATCH: u32 = 1_000;

pub(super) struct PurgeActor {
    pub(super) db: DbHandle,
    pub(super) clock: Clock,
}

impl Actor for PurgeActor {
    type Msg = PurgeMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<PurgeMessage>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(me.cast(PurgeMessage::Purge)?)
    }

    /// One batch per message, so that a stop waits for no more than that; the store bounds how long one takes.
    async fn handle(
        &self,
        me: ActorRef<PurgeMessage>,
        PurgeMessage::Purge: PurgeMessage,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let has_more = self.purge().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "auth.purge.failed");
            false
        });
        if has_more {
            me.cast(PurgeMessage::Purge)?;
        } else {
            me.send_after(PURGE_EVERY, || PurgeMessage::Purge);
        }
        Ok(())
    }
}

impl PurgeActor {
    /// Removes one batch; whether there may be more.
    async fn purge(&self) -> Result<bool, DbError> {
        // A session tells where its owner is known from, also after its end.
        let sessions = self.db.purge_sessions(self.clock.now() - FAMILIAR, BATCH).await?;
        if sessions > 0 {
            tracing::info!(sessions, "auth.purge.done");
        }
        Ok(sessions >= u64::from(BATCH))
    }
}
