//! Handles: how one part asks an actor for something without hanging or filling its mailbox.
//!
//! ```text
//! caller ── ask ──▶ Gate (try_enter) ──▶ Slot (current address) ──▶ mailbox ──▶ actor
//!                     │ full: Overloaded    │ empty or dead: Down      │ no answer: Died / Timeout
//! ```
//!
//! ractor's mailboxes have no bound, so the bound is the gate: its permit rides *inside* the message and comes
//! back when the message is dropped, whether handled, discarded, lost in a panic or flushed at death. A caller
//! that gives up therefore does not make room that is not there. The permit also tells the actor whom it works for
//! ([`Permit::carrier`]).
//!
//! # When it breaks
//!
//! A restarted actor has a new address; the slot names it, so a handle outlives any number of restarts. Between
//! death and respawn every call fails at once with [`AskError::Down`].

mod gate;
mod slot;
#[cfg(test)]
mod tests;

use std::time::Duration;

use ractor::{Message, RpcReplyPort, rpc::CallResult};

pub use self::{
    gate::{Gate, GateCollector, GateUse, Permit},
    slot::Slot,
};

/// Why a call got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AskError {
    /// The gate is full; nothing was sent. Shed the request.
    #[error("too much is already waiting")]
    Overloaded,
    /// There is no living actor at the address; nothing was handled. A later try may succeed.
    #[error("the actor is not running")]
    Down,
    /// The message was dropped without an answer. The work may or may not have been done.
    #[error("the actor died before it answered")]
    Died,
    /// No answer within the deadline. The work may still be done.
    #[error("no answer within the deadline")]
    Timeout,
}

/// The address of one supervised actor, its gate and the deadline of its answers.
pub struct Handle<M: Message> {
    slot: Slot<M>,
    gate: Gate,
    timeout: Duration,
}

impl<M: Message> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { slot: self.slot.clone(), gate: self.gate.clone(), timeout: self.timeout }
    }
}

impl<M: Message> Handle<M> {
    /// Makes a handle whose calls wait at most `timeout` for their answer.
    pub fn new(slot: Slot<M>, gate: Gate, timeout: Duration) -> Self {
        Self { slot, gate, timeout }
    }

    /// Sends what `build` makes and waits for the answer.
    ///
    /// `build` runs only when there is room and must put the permit into the message. Dropping the future
    /// abandons the answer, not the message.
    ///
    /// # Errors
    ///
    /// After [`AskError::Died`] and [`AskError::Timeout`] repeat only what is idempotent.
    pub async fn ask<R: Send + 'static>(
        &self,
        build: impl FnOnce(Permit, RpcReplyPort<R>) -> M,
    ) -> Result<R, AskError> {
        let permit = self.gate.try_enter().ok_or(AskError::Overloaded)?;
        let actor = self.slot.load().ok_or(AskError::Down)?;
        match actor.call(|port| build(permit, port), Some(self.timeout)).await {
            Ok(CallResult::Success(answer)) => Ok(answer),
            Ok(CallResult::Timeout) => Err(AskError::Timeout),
            Ok(CallResult::SenderError) => Err(AskError::Died),
            Err(_) => Err(AskError::Down),
        }
    }

    /// Sends what `build` makes and does not wait.
    ///
    /// # Errors
    ///
    /// [`AskError::Overloaded`] or [`AskError::Down`]: nothing was sent. `Ok` promises delivery to the mailbox,
    /// not handling.
    pub fn tell(&self, build: impl FnOnce(Permit) -> M) -> Result<(), AskError> {
        let permit = self.gate.try_enter().ok_or(AskError::Overloaded)?;
        let actor = self.slot.load().ok_or(AskError::Down)?;
        actor.cast(build(permit)).map_err(|_| AskError::Down)
    }

    /// Where the actor's current address is published.
    pub fn slot(&self) -> &Slot<M> {
        &self.slot
    }

    /// The bound of the actor's mailbox.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }
}
