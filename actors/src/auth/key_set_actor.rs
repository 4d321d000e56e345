//! KeySetActor: looks at the list of signing keys' generations again and again.
//!
//! It waits for nothing: each look runs on the tracker and swaps the set itself. Its state is that look, so its death
//! costs at most one poll.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::task::TaskTracker;

use super::{key_set::KeySets, key_times::POLLS_OF_LEAD, message::KeySetMessage};
use crate::{
    clock::Clock,
    db::{DbError, DbHandle},
};

/// The store's own deadline is shorter; this one holds even if it forgets it.
const LOOK_DEADLINE: Duration = Duration::from_secs(6);

pub(super) struct KeySetActor(pub(super) Arc<Lookout>);

/// What a look needs; outlives the actor.
pub(super) struct Lookout {
    pub(super) sets: Arc<KeySets>,
    pub(super) db: DbHandle,
    pub(super) clock: Clock,
    pub(super) tracker: TaskTracker,
    /// Looks in a row that saw nothing.
    pub(super) missed: AtomicU32,
}

impl Actor for KeySetActor {
    type Msg = KeySetMessage;
    /// The look under way: there is only one at a time.
    type State = Option<JoinHandle<()>>;
    type Arguments = ();

    async fn pre_start(
        &self,
        me: ActorRef<KeySetMessage>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        // The timer ends with this incarnation.
        me.send_interval(self.0.sets.times.poll, || KeySetMessage::Look);
        Ok(None)
    }

    async fn handle(
        &self,
        _: ActorRef<KeySetMessage>,
        KeySetMessage::Look: KeySetMessage,
        looking: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if looking.as_ref().is_none_or(JoinHandle::is_finished) {
            let lookout = Arc::clone(&self.0);
            *looking = Some(self.0.tracker.spawn(async move { lookout.look().await }));
        }
        Ok(())
    }
}

impl Lookout {
    async fn look(&self) {
        let read = timeout(LOOK_DEADLINE, self.db.signing_keys()).await;
        match read.unwrap_or(Err(DbError::Timeout)) {
            Ok(generations) => {
                self.missed.store(0, Ordering::Relaxed);
                if self.sets.learn(&generations, self.clock.now()).is_err() {
                    tracing::error!("auth.keys.not_derived");
                }
            }
            // Told once for each outage, and only if it may matter: by now another instance's new key can be signing.
            Err(error) if self.missed.fetch_add(1, Ordering::Relaxed) + 1 == POLLS_OF_LEAD => {
                tracing::warn!(%error, "auth.keys.not_read");
            }
            Err(_) => {}
        }
    }
}
