//! Turns: begun, kept alive, settled.

use chrono::{DateTime, Utc};
use domain::{
    id::{InstanceId, TurnId},
    turn::{BeginTurn, Begun, Checkpoint, Settlement},
};
use uuid::Uuid;

use crate::db::{
    DbError, DbHandle, OnSettled, SettlePermit,
    lane::{Answer, Job},
    message::Write,
};

impl DbHandle {
    /// Stores the caller's messages and an assistant row `streaming`, in one commit with the ledger's row, or opens that
    /// row alone.
    ///
    /// # Errors
    ///
    /// [`DbError::NotFound`] when the conversation does not exist or belongs to somebody else, or has no such parent.
    pub async fn begin_turn(&self, begin: BeginTurn) -> Result<Begun, DbError> {
        self.write(begin.turn.as_uuid(), Write::BeginTurn(Box::new(begin))).await
    }

    /// Writes the text so far; a lower `seq` than the stored one, or a settled turn, changes nothing. Nobody waits for it:
    /// when the lane is full the checkpoint is dropped, since a later one covers it.
    pub fn checkpoint(&self, checkpoint: Checkpoint) {
        let lane = self.lane(checkpoint.turn.as_uuid());
        lane.place_checkpoint(Write::Checkpoint(Box::new(checkpoint)));
    }

    /// Reserves the place that the turn's settlement will need.
    ///
    /// # Errors
    ///
    /// [`DbError::Overloaded`]: refuse the turn with 503.
    pub fn reserve_settlement(&self, turn: TurnId) -> Result<SettlePermit, DbError> {
        Ok(SettlePermit(self.lane(turn.as_uuid()).reserve().ok_or(DbError::Overloaded)?))
    }

    /// Hands a turn's end to its lane; synchronous and infallible, so that it can be called from `Drop`.
    ///
    /// `permit` must have been reserved for this turn. Unstored turns (`settlement.stored == None`) may linger up to
    /// [`DbConfig::usage_linger`](crate::db::DbConfig::usage_linger) to share a commit, and their `on_settled` need not be
    /// waited for by the caller. While the database is away `on_settled` hears of it once, and the settlement is tried
    /// again until it is written.
    pub fn settle(&self, permit: SettlePermit, settlement: Settlement, on_settled: OnSettled) {
        let lane = self.lane(settlement.turn.as_uuid());
        lane.place(Job::new(Write::Settle(Box::new(settlement)), Answer::Settled(on_settled), permit.0));
    }

    /// Has every settlement written now, those that linger or were kept included, and resolves when none is left.
    pub(crate) async fn settled(&self) {
        for lane in &*self.lanes {
            lane.hurry();
        }
        self.unsettled.none_left().await;
    }

    /// Settlements on their way to the database.
    pub(crate) fn unsettled(&self) -> usize {
        self.unsettled.count()
    }

    /// Settlements given up since the start.
    pub(crate) fn lost_settlements(&self) -> u64 {
        self.metrics.lost_settlements.get()
    }

    /// Extends the lease of all streaming turns of `owner`.
    pub async fn renew_leases(&self, owner: InstanceId, until: DateTime<Utc>) -> Result<(), DbError> {
        self.write(owner.as_uuid(), Write::RenewLeases { owner, until }).await
    }

    /// Marks streaming turns whose lease ran out as interrupted; returns how many.
    pub async fn sweep_expired_turns(&self, now: DateTime<Utc>) -> Result<u64, DbError> {
        self.write(Uuid::nil(), Write::SweepExpired { now }).await
    }
}
