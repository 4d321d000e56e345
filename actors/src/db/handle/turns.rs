//! Turns: begun, kept alive, settled.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    id::{InstanceId, TurnId, UserId},
    reply::Answer as Reply,
    turn::{BeginTurn, Begun, Checkpoint, Settlement, StoredTurn},
};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::db::{
    DbError, DbHandle, OnSettled, SettlePermit,
    lane::{Answer, Job},
    message::{Sweep, Write},
};

/// How long the disk has at the end for what the database did not take.
const LAST_WRITE: Duration = Duration::from_millis(300);

impl DbHandle {
    /// Stores the caller's messages and an assistant row `streaming`, in one commit with the ledger's row, or opens that
    /// row alone; and has the turn's key, if it has one, stand for it. If the key stands for another turn already, says
    /// which and writes nothing.
    ///
    /// # Errors
    ///
    /// [`DbError::NotFound`] when the conversation does not exist or belongs to somebody else, or has no such parent, or the
    /// account is deleted. [`DbError::Conflict`] when the key was freed and taken again meanwhile: ask again.
    pub async fn begin_turn(&self, begin: BeginTurn) -> Result<Begun, DbError> {
        self.write(begin.turn.as_uuid(), Write::BeginTurn(Box::new(begin))).await
    }

    /// Opens the ledger's row of a turn that is not stored and has no key, so that it is known of should this process die.
    /// Nobody waits for it: it lingers like the row's settlement, which writes the row where this did not.
    pub fn open_turn(&self, begin: BeginTurn) {
        let lane = self.lane(begin.turn.as_uuid());
        lane.place_open(Write::OpenTurn(Box::new(begin)));
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
    /// waited for by the caller. While the database is away the settlement goes to the disk, which counts as settled; if
    /// that takes it neither, `on_settled` hears of it once, and both are tried again until one does.
    pub fn settle(&self, permit: SettlePermit, settlement: Settlement, on_settled: OnSettled) {
        let lane = self.lane(settlement.turn.as_uuid());
        lane.place(Job::new(Write::Settle(Box::new(settlement)), Answer::Settled(on_settled), permit.0));
    }

    /// Has every settlement written now, those that linger or were kept included, and returns when none is left: what the
    /// database has not taken [`LAST_WRITE`] before the time is up goes to the disk, which from then on is the next service's.
    pub(crate) async fn settled(&self, by: Instant) {
        let hurry = || self.lanes.iter().for_each(|lane| lane.hurry());
        hurry();
        if timeout_at(by - LAST_WRITE, self.unsettled.none_left()).await.is_err() {
            self.spill.give_up_database();
            hurry();
            // Whoever asks also asks what is left.
            let _ = timeout_at(by, self.unsettled.none_left()).await;
        }
        self.spill.leave();
    }

    /// Settlements on the disk, for a database that was away.
    pub(crate) fn spilled(&self) -> u64 {
        self.spill.settlements()
    }

    /// Whether the disk takes settlements, as far as is known; `None` if none are kept there.
    pub(crate) fn takes_ends_on_disk(&self) -> Option<bool> {
        self.spill.has_disk().then(|| !self.spill.is_failing())
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

    /// Marks streaming turns that nobody runs as interrupted, as an `owner` who lives sees them at this time; returns how
    /// many. A turn whose lease ran out is dead; so is one whose end was given up, and where no other service can be on the
    /// store, every other owner's.
    pub async fn sweep_dead_turns(&self, owner: InstanceId, now: DateTime<Utc>) -> Result<u64, DbError> {
        self.sweep(owner, now, Some(now)).await
    }

    /// The same by an `owner` who cannot tell yet whose lease ran out because it is dead.
    pub async fn sweep_own_turns(&self, owner: InstanceId, now: DateTime<Utc>) -> Result<u64, DbError> {
        self.sweep(owner, now, None).await
    }

    async fn sweep(
        &self,
        owner: InstanceId,
        now: DateTime<Utc>,
        lapsed: Option<DateTime<Utc>>,
    ) -> Result<u64, DbError> {
        let (sole, given_up) = (self.is_exclusive.then_some(owner), self.unsettled.given_up());
        let sweep = Sweep { now, lapsed, sole, given_up: given_up.clone() };
        let swept = self.write(Uuid::nil(), Write::SweepDead(sweep)).await?;
        self.unsettled.let_go(&given_up);
        Ok(swept)
    }

    /// A turn of this user's with its answer, as far as they are written; the answer is empty where it is not stored, or no
    /// more.
    pub async fn turn(&self, user: UserId, turn: TurnId) -> Result<Option<(StoredTurn, Reply)>, DbError> {
        self.read(move |store| store.turn(user, turn)).await
    }

    /// Asks whoever runs a turn of this user's to end it; whether it runs.
    ///
    /// # Errors
    ///
    /// It may have been asked or not: ask again.
    pub async fn request_cancel(&self, user: UserId, turn: TurnId) -> Result<bool, DbError> {
        self.write(turn.as_uuid(), Write::RequestCancel { user, turn }).await
    }

    /// The running turns of `owner` that somebody wants to end, so many that a look finds a bounded number of them.
    pub async fn cancel_requests(&self, owner: InstanceId) -> Result<Vec<TurnId>, DbError> {
        self.read(move |store| store.cancel_requests(owner)).await
    }
}
