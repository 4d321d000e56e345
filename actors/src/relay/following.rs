//! The turns of other instances that are read here.
//!
//! Each has one [`Mirror`] and one task, however many read it. The task asks the owner to go on telling, and asks the store
//! in its place while the owner cannot be heard.

use std::{collections::HashMap, sync::Arc, time::Duration};

use domain::{
    id::{InstanceId, TurnId},
    reply::{Answer, FailureCode, Position},
    turn::StoredTurn,
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    RelayConfig, RelayError,
    link::{EntryId, Link},
    metrics::RelayMetrics,
    mirror::Mirror,
    stream::ask,
    wire::{Ask, asks_of, decode, encode, stream_of, turn_of},
    world::Records,
};
use crate::{
    handle::{Gate, Permit},
    reply::{End, OnDisconnect, ReplyBudget, ReplyLog, ReplyReader, channel},
};

/// How often a turn is asked for while its owner does not yet forget that somebody follows.
const ASKS_PER_INTEREST: u32 = 3;

pub(super) struct Following {
    pub instance: InstanceId,
    pub config: RelayConfig,
    pub link: Option<Arc<Link>>,
    pub records: Arc<dyn Records>,
    pub budget: ReplyBudget,
    /// Of one answer.
    pub bytes_max: usize,
    pub gate: Gate,
    pub metrics: RelayMetrics,
    pub tracker: TaskTracker,
    pub halt: CancellationToken,
    /// Bounded by the gate.
    pub followed: Mutex<HashMap<TurnId, Arc<Followed>>>,
}

pub(super) struct Followed {
    turn: StoredTurn,
    mirror: Mirror,
    log: ReplyLog,
}

impl Following {
    /// A reader of what lies behind `from`, which the caller may know better than `answer` does.
    pub(super) fn follow(
        self: &Arc<Self>,
        turn: StoredTurn,
        answer: &Answer,
        from: Position,
    ) -> Result<ReplyReader, RelayError> {
        let mut followed = self.followed.lock();
        if let Some(known) = followed.get(&turn.turn) {
            let reader = known.log.attach_ahead(from).map_err(|_| RelayError::Full)?;
            // Attached before this look, it cannot be abandoned any more unless it is now.
            if !known.mirror.is_abandoned() {
                return Ok(reader);
            }
        }
        let permit = self.gate.try_enter().ok_or(RelayError::Full)?;
        let (writer, first) = channel(&self.budget, self.bytes_max, OnDisconnect::Cancel);
        let log = first.log();
        let reader = log.attach_ahead(from).map_err(|_| RelayError::Full)?;
        let new = Arc::new(Followed { mirror: Mirror::new(writer), turn, log });
        followed.insert(new.turn.turn, Arc::clone(&new));
        drop(followed);
        new.mirror.look_at(&new.turn, answer);
        self.tracker.spawn(Arc::clone(self).watch(new, permit));
        Ok(reader)
    }

    /// The streams to read, each behind the entry that was read last.
    pub(super) fn streams(&self) -> Vec<(String, EntryId)> {
        let followed = self.followed.lock();
        followed.iter().map(|(turn, followed)| (stream_of(*turn), followed.mirror.after())).collect()
    }

    /// Takes what was read of the stream of this name.
    pub(super) fn hear(&self, stream: &str, entries: Vec<(EntryId, Vec<u8>)>) {
        let Some(turn) = turn_of(stream) else { return };
        let followed = self.followed.lock().get(&turn).cloned();
        if let Some(followed) = followed {
            for (id, entry) in entries {
                followed.mirror.hear(id, decode(&entry).unwrap_or_default());
            }
        }
    }

    /// Keeps a mirror up to date until it has ended or nobody reads it.
    async fn watch(self: Arc<Self>, followed: Arc<Followed>, _permit: Permit) {
        let mirror = &followed.mirror;
        let mut asked: Option<Instant> = None;
        let mut was_silent = true;
        while !mirror.has_ended() {
            let is_silent = self.is_silent(mirror);
            if is_silent && !was_silent {
                // Whatever became of the stream, it is read from its beginning.
                mirror.read_again();
            }
            was_silent = is_silent;
            let is_due = asked.is_none_or(|at| at.elapsed() >= self.config.interest / ASKS_PER_INTEREST);
            if is_due || is_silent {
                self.ask_owner(&followed.turn).await;
                asked = Some(Instant::now());
            }
            tokio::select! {
                () = mirror.abandoned() => break,
                () = self.halt.cancelled() => {
                    mirror.end(End::Interrupted(FailureCode::ServerShuttingDown));
                    break;
                }
                () = mirror.changed() => {}
                () = sleep(self.config.look_every) => {}
            }
            if !mirror.has_ended() && (mirror.has_gap() || self.is_silent(mirror)) {
                self.look(&followed).await;
            }
        }
        let mut all = self.followed.lock();
        if all.get(&followed.turn.turn).is_some_and(|known| Arc::ptr_eq(known, &followed)) {
            all.remove(&followed.turn.turn);
        }
    }

    fn is_silent(&self, mirror: &Mirror) -> bool {
        let is_up = self.link.as_ref().is_some_and(|link| link.is_up());
        let patience = if mirror.was_heard() { self.config.silence } else { self.config.look_every };
        !is_up || mirror.silent_for() >= patience
    }

    /// Asks for the turn, and has the own listener look for the answer.
    async fn ask_owner(&self, turn: &StoredTurn) {
        let (Some(link), Some(owner)) = (&self.link, turn.owner) else { return };
        let mut pipe = redis::pipe();
        ask(&mut pipe, &asks_of(owner), &encode(&Ask::Follow { user: turn.user, turn: turn.turn }));
        ask(&mut pipe, &asks_of(self.instance), &encode(&Ask::Look));
        // Who is not heard asks again.
        let _ = link.say(&pipe).await;
    }

    /// Asks the store; one that does not answer is asked again.
    async fn look(&self, followed: &Followed) {
        self.metrics.looks.inc();
        let StoredTurn { user, turn, .. } = followed.turn;
        match self.records.turn(user, turn).await {
            Ok(Some((turn, answer))) => followed.mirror.look_at(&turn, &answer),
            Ok(None) => followed.mirror.end(End::Cancelled),
            Err(error) => {
                tracing::debug!(%error, "relay.turn.unseen");
                // A gap would have it asked again at once.
                sleep(self.config.look_every.min(Duration::from_secs(1))).await;
            }
        }
    }
}
