//! A supervisor as the rooms see it: a list of children that outlives the actor which minds them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    ChildSpec, SupervisorMessage,
    actor::{Command, START_TIMEOUT},
};
use crate::handle::{AskError, Gate, Handle, Slot};

/// Requests to one supervisor that may wait at a time.
const REQUEST_LIMIT: usize = 1_024;
/// A request may wait behind one child that does not come up.
const REQUEST_TIMEOUT: Duration = START_TIMEOUT.saturating_add(Duration::from_secs(5));

/// The address of a supervisor; survives its restarts, as do the children added here.
#[derive(Clone)]
pub struct SupervisorHandle {
    calls: Handle<SupervisorMessage>,
    pub(super) lasting: Arc<Lasting>,
}

/// What a supervisor must not forget when it dies.
#[derive(Default)]
pub(super) struct Lasting {
    /// Children added at run time, in the order of adding. Only the living supervisor writes it.
    pub(super) added: Mutex<Vec<Arc<ChildSpec>>>,
    has_started: AtomicBool,
}

impl Lasting {
    /// Whether an earlier incarnation came up.
    pub(super) fn has_started(&self) -> bool {
        self.has_started.load(Ordering::Acquire)
    }

    pub(super) fn mark_started(&self) {
        self.has_started.store(true, Ordering::Release);
    }
}

impl Default for SupervisorHandle {
    fn default() -> Self {
        let calls = Handle::new(Slot::new(), Gate::new("supervisor", REQUEST_LIMIT), REQUEST_TIMEOUT);
        Self { calls, lasting: Arc::default() }
    }
}

impl SupervisorHandle {
    /// Makes the handle of a supervisor that is yet to be spawned.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sees to it that the child exists, and is kept alive from now on.
    ///
    /// Idempotent by id: a child that exists is left alone, whatever its spec says. `Ok` means that it is
    /// supervised; one that did not come up at once is tried again.
    ///
    /// # Errors
    ///
    /// Try again later; [`AskError::Overloaded`] also says that the supervisor has all the children it may have.
    pub async fn ensure(&self, child: ChildSpec) -> Result<(), AskError> {
        let child = Arc::new(child);
        let is_taken = self
            .calls
            .ask(|permit, reply| SupervisorMessage::asked(permit, Command::Ensure(child, reply)))
            .await?;
        if is_taken { Ok(()) } else { Err(AskError::Overloaded) }
    }

    /// Stops a child that was added by [`ensure`](Self::ensure) and forgets it; answers when it is gone.
    ///
    /// Idempotent: an unknown id is an id that is gone. The other children are minded meanwhile.
    ///
    /// # Errors
    ///
    /// Try again later. After [`AskError::Timeout`] the child may still be on its way out.
    pub async fn remove(&self, id: &str) -> Result<(), AskError> {
        let id = id.to_owned();
        self.calls.ask(|permit, reply| SupervisorMessage::asked(permit, Command::Remove(id, reply))).await
    }

    /// Kills a leaf where it stands. What follows is what follows any crash: it is told of, counted and restarted. Says
    /// whether there was a living one of this id.
    ///
    /// # Errors
    ///
    /// Try again later.
    pub async fn kill(&self, id: &str) -> Result<bool, AskError> {
        let id = id.to_owned();
        self.calls.ask(|permit, reply| SupervisorMessage::asked(permit, Command::Kill(id, reply))).await
    }

    /// Answers when the supervisor has dealt with all that happened before.
    ///
    /// # Errors
    ///
    /// The supervisor is not running or did not answer.
    pub async fn barrier(&self) -> Result<(), AskError> {
        self.calls.ask(|permit, reply| SupervisorMessage::asked(permit, Command::Barrier(reply))).await
    }

    /// Stops the supervisor, its children first in reverse order, and waits for it.
    ///
    /// For one without a parent: a parent would start it again.
    pub async fn stop(&self) {
        if let Some(supervisor) = self.calls.slot().load() {
            supervisor.stop(Some("asked to stop".into()));
            // Every wait inside its stopping is bounded, so this one is too.
            let _ = supervisor.wait(None).await;
        }
    }

    pub(super) fn slot(&self) -> &Slot<SupervisorMessage> {
        self.calls.slot()
    }

    /// The bound of its mailbox, to be watched by a [`GateCollector`](crate::handle::GateCollector).
    pub fn gate(&self) -> &Gate {
        self.calls.gate()
    }
}
