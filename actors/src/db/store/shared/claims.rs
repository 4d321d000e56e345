//! Keys on their way to stand for a turn, and free again.

use domain::turn::Settlement;

use super::super::{Connection, claims};
use crate::db::{
    DbError,
    store::{Applied, plan::Plan},
};

/// A key may be freed between the statement that finds it taken and the one that asks by which turn.
const TRIES: u32 = 2;

/// Has each key of a batch stand for one turn, and takes out of the batch the turns it does not stand for.
pub(super) async fn take(
    db: &mut Connection,
    plan: &mut Plan<'_>,
    answers: &mut Applied,
) -> Result<(), DbError> {
    let with_keys = plan.with_keys();
    if with_keys.is_empty() {
        return Ok(());
    }
    let mut standings = Vec::new();
    for _ in 0..TRIES {
        claims::insert(db, &with_keys).await?;
        standings = claims::standings(db, &with_keys).await?;
        if standings.len() == with_keys.len() {
            break;
        }
    }
    plan.keep_holders(&standings, answers);
    Ok(())
}

/// Frees the keys of turns that ended with nothing to answer with. Comes before they are settled: one that was settled
/// already keeps its key.
pub(super) async fn free(db: &mut Connection, settlements: &[&Settlement]) -> Result<(), DbError> {
    let freed: Vec<_> = settlements
        .iter()
        .filter(|settlement| settlement.frees_its_key())
        .map(|settlement| settlement.turn)
        .collect();
    if freed.is_empty() { Ok(()) } else { claims::release_unsettled(db, &freed).await }
}
