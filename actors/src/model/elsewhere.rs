//! What other instances may have of this room's turns: to read them along, and to end them.

use std::sync::Arc;

use domain::id::{TurnId, UserId};

use super::{ModelHandle, turns::Turns};
use crate::{
    relay::{LiveTurns, World},
    reply::ReplyReader,
};

impl LiveTurns for Turns {
    fn observe(&self, user: UserId, turn: TurnId) -> Option<ReplyReader> {
        self.find(user, turn)?.log.observe().ok()
    }

    fn cancel(&self, turn: TurnId) -> bool {
        Turns::cancel(self, turn)
    }

    fn is_empty(&self) -> bool {
        !self.has_live()
    }
}

impl ModelHandle {
    /// What the relay room stands on.
    pub(crate) fn world(&self) -> World {
        let room = &*self.0;
        World {
            instance: room.leases.instance,
            live: room.turns.clone(),
            records: Arc::new(room.routing.db.clone()),
            budget: room.budget.clone(),
            bytes_max: room.routing.live.load().config.reply_bytes_max,
        }
    }
}
