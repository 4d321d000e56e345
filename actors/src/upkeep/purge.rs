//! Throws away conversations that were left alone for as long as the operator says, and removes what was thrown away and
//! what deleted accounts left behind. Usage stays in the ledger, without a word of what was said.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use chrono::TimeDelta;

use super::{UpkeepConfig, chore::Chore};
use crate::{
    clock::Clock,
    db::{DbError, DbHandle},
};

/// Conversations thrown away in one transaction.
const RETIRED_AT_ONCE: u32 = 500;

pub(super) struct Purge {
    db: DbHandle,
    clock: Clock,
    config: Arc<ArcSwap<UpkeepConfig>>,
    /// Whether messages were removed that the index may still hold words of.
    has_removed: bool,
}

impl Purge {
    pub(super) fn new(db: DbHandle, clock: Clock, config: Arc<ArcSwap<UpkeepConfig>>) -> Self {
        Self { db, clock, config, has_removed: false }
    }

    /// Whether there may be more conversations that were left alone for too long.
    async fn retire(&self) -> Result<bool, DbError> {
        let now = self.clock.now();
        let retention = self.config.load().retention;
        let before = retention.and_then(|kept| now.checked_sub_signed(TimeDelta::from_std(kept).ok()?));
        let Some(before) = before else { return Ok(false) };
        let conversations = self.db.retire_conversations(before, now, RETIRED_AT_ONCE).await?;
        if conversations > 0 {
            tracing::info!(conversations, "upkeep.conversations.retired");
        }
        Ok(conversations >= u64::from(RETIRED_AT_ONCE))
    }
}

impl Chore for Purge {
    const NAME: &'static str = "purge";
    const EVERY: Duration = Duration::from_hours(1);

    async fn step(&mut self) -> Result<bool, DbError> {
        let has_more = self.retire().await?;
        let rows = self.db.purge_conversations().await?;
        if rows > 0 {
            tracing::info!(rows, "upkeep.conversations.purged");
            self.has_removed = true;
            return Ok(true);
        }
        if has_more || !self.has_removed {
            return Ok(has_more);
        }
        self.has_removed = self.db.tidy_index().await? > 0;
        Ok(self.has_removed)
    }
}
