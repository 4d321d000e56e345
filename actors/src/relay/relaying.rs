//! The turns of this instance that others are told of.
//!
//! Each has one task, however many ask. It reads the turn's log from its beginning, as one who does not keep the turn alive,
//! and writes what it reads into the turn's stream until the end, or until nobody has asked for a while.
//!
//! # When it breaks
//!
//! The turn never notices. A server that does not take what is written ends the telling; the next who asks has it begin anew.

use std::{collections::HashMap, future::poll_fn, sync::Arc, time::Duration};

use domain::id::{TurnId, UserId};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    RelayConfig,
    link::Link,
    stream::TurnStream,
    wire::{Piece, entries},
    world::LiveTurns,
};
use crate::{
    handle::{Gate, Permit},
    reply::ReplyReader,
};

/// Between two writes of one turn: what comes meanwhile goes together.
const PACE: Duration = Duration::from_millis(20);

/// How often an owner says that it lives while its turn says nothing.
const ALIVE_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Relaying {
    pub config: RelayConfig,
    pub link: Arc<Link>,
    pub live: Arc<dyn LiveTurns>,
    pub gate: Gate,
    pub tracker: TaskTracker,
    pub halt: CancellationToken,
    /// Until when each turn is told of; bounded by the gate.
    pub told: Mutex<HashMap<TurnId, Instant>>,
}

impl Relaying {
    /// Somebody follows this turn: tells of it for a while, if it lives here and there is room.
    pub(super) fn wanted(self: &Arc<Self>, user: UserId, turn: TurnId) {
        let until = Instant::now() + self.config.interest;
        let mut told = self.told.lock();
        if let Some(known) = told.get_mut(&turn) {
            *known = until;
            return;
        }
        // Whoever asks follows the store instead where this says no.
        let Some(reader) = self.live.observe(user, turn) else { return };
        let Some(permit) = self.gate.try_enter() else { return };
        told.insert(turn, until);
        drop(told);
        self.tracker.spawn(Arc::clone(self).tell(turn, reader, permit));
    }

    async fn tell(self: Arc<Self>, turn: TurnId, mut reader: ReplyReader, _permit: Permit) {
        let mut place = Place { relaying: &self, turn, is_left: false };
        let mut stream = TurnStream::new(turn, self.config.stream_bytes);
        loop {
            let mut pieces = Vec::new();
            let read = poll_fn(|cx| reader.poll_events(cx, &mut |event| pieces.extend(Piece::of(event))));
            let is_over = tokio::select! {
                biased;
                // First, so that the end of a turn is told however the service stops.
                is_over = read => is_over,
                () = self.halt.cancelled() => return,
                () = sleep(ALIVE_EVERY) => false,
            };
            if pieces.is_empty() {
                pieces.push(Piece::Alive);
            }
            if let Err(error) = stream.write(&self.link, entries(pieces)).await {
                tracing::debug!(%error, "relay.turn.untold");
                return;
            }
            if is_over || !place.is_wanted() {
                return;
            }
            sleep(PACE).await;
        }
    }
}

/// A turn's place on the list of those that are told of; left however the telling ends.
struct Place<'a> {
    relaying: &'a Relaying,
    turn: TurnId,
    is_left: bool,
}

impl Place<'_> {
    /// Whether somebody has asked lately; if not, the place is left under the same lock, so that the next who asks begins anew.
    fn is_wanted(&mut self) -> bool {
        let mut told = self.relaying.told.lock();
        let is_wanted = told.get(&self.turn).is_some_and(|until| Instant::now() < *until);
        if !is_wanted {
            told.remove(&self.turn);
            self.is_left = true;
        }
        is_wanted
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.is_left {
            self.relaying.told.lock().remove(&self.turn);
        }
    }
}
