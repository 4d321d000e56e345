//! How a turn's end reaches the store and its readers.
//!
//! A stored turn tells its readers the end only after the commit (or with `stored: false` when that failed); a turn of
//! which only the usage row is kept tells them at once, unless a key stands for it. Both work from `Drop`: the lane's place was reserved at admission.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{
    id::{ApiKeyId, InstanceId, TurnId, UserId},
    limits::Priority,
    reply::{Answer, FailureCode},
    turn::{Claim, Settlement, StoredReply, StoredTurn, TurnStatus},
};

use super::{metrics::ModelMetrics, told, turn::Progress, turns::Registered};
use crate::{
    clock::Clock,
    db::{DbHandle, SettlePermit},
    rate_limit::TokenReserve,
    reply::{End, Ending, OnEnd, Outcome},
    trace::Carrier,
};

/// What is known of a turn at its admission.
pub(super) struct Facts {
    pub turn: TurnId,
    pub user: UserId,
    pub key: Option<ApiKeyId>,
    pub claim: Option<Claim>,
    pub owner: InstanceId,
    pub priority: Priority,
    pub model: String,
    pub stored: Option<StoredReply>,
    pub created_at: DateTime<Utc>,
    pub progress: Arc<Progress>,
    pub reserve: TokenReserve,
    /// Its entry among the turns of this instance.
    pub registered: Registered,
    /// The request that asked for it.
    pub carrier: Carrier,
}

/// Makes the hook that settles a turn however it ends.
pub(super) fn settle(
    facts: Facts,
    db: DbHandle,
    permit: SettlePermit,
    clock: Clock,
    metrics: Arc<ModelMetrics>,
) -> OnEnd {
    Box::new(move |end, closer| {
        // Whoever ended it, it is this request's end.
        let _entered = facts.carrier.enter();
        let status = status_of(&end);
        let usage = facts.progress.usage();
        let timings = facts.progress.timings();
        if end != End::NotBegun {
            metrics.ended(facts.priority, status, &timings, usage);
        }
        if is_paid_for(&end) {
            facts.reserve.settle(usage.total_tokens());
        } else {
            // Nobody pays for a fault that is not theirs.
            drop(facts.reserve);
        }
        let outcome = end.into_outcome();
        let (failure, finish_reason) = match &outcome {
            Outcome::Complete(reason) => (None, Some(*reason)),
            Outcome::Failed { code, .. } => (Some(*code), None),
        };
        told::ended(&facts.carrier, &facts.model, status, failure, finish_reason, usage, timings);
        let settlement = Settlement {
            turn: facts.turn,
            user: facts.user,
            key: facts.key,
            model: facts.model,
            stored: facts.stored,
            status,
            failure,
            finish_reason,
            answer: if facts.stored.is_some() { closer.answer() } else { Answer::default() },
            usage,
            timings,
            created_at: facts.created_at,
            ended_at: clock.now(),
        };
        let last = StoredTurn {
            turn: facts.turn,
            user: facts.user,
            model: settlement.model.clone(),
            stored: facts.stored,
            status,
            failure,
            finish_reason,
            usage: Some(usage),
            timings: Some(timings),
            owner: Some(facts.owner),
            created_at: facts.created_at,
            ended_at: Some(settlement.ended_at),
        };
        let registered = facts.registered;
        let ending = Ending { outcome, usage, timings, stored: None };
        // Whoever asks with the same key must find what the store says of it.
        if facts.stored.is_some() || facts.claim.is_some() {
            let is_kept = facts.stored.is_some();
            let tell = Box::new(move |result: Result<(), _>| {
                registered.ended(last);
                closer.close(Ending { stored: is_kept.then_some(result.is_ok()), ..ending });
            });
            db.settle(permit, settlement, tell);
        } else {
            registered.ended(last);
            closer.close(ending);
            db.settle(permit, settlement, Box::new(|_| ()));
        }
    })
}

/// Whether the caller pays for what was generated: all that was wanted, or all until it was unwanted or too much.
const fn is_paid_for(end: &End) -> bool {
    match end {
        End::Complete(_)
        | End::Cancelled
        | End::Expired
        | End::Failed { code: FailureCode::ReplyTooLarge, .. } => true,
        End::Failed { .. } | End::Shed { .. } | End::NotBegun | End::Interrupted(_) => false,
    }
}

fn status_of(end: &End) -> TurnStatus {
    match end {
        End::Complete(_) => TurnStatus::Complete,
        End::Failed { code: FailureCode::ServerShuttingDown, .. } | End::Interrupted(_) => {
            TurnStatus::Interrupted
        }
        End::Failed { .. } | End::Shed { .. } | End::Expired => TurnStatus::Failed,
        End::Cancelled | End::NotBegun => TurnStatus::Cancelled,
    }
}
