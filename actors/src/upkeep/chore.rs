//! Work that is done step by step, then left alone for a while, then begun anew.

use std::{marker::PhantomData, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio_util::sync::CancellationToken;

use crate::db::DbError;

/// After how many failures in a row the log is told, once.
const FAILURES_TOLD: u32 = 2;

pub(super) trait Chore: Send + Sync + 'static {
    /// Its actor's name, and its word in the log.
    const NAME: &'static str;
    /// From the end of one round to the beginning of the next, and from a failure to the next try.
    const EVERY: Duration;

    /// Does a bounded part; whether there may be more.
    fn step(&mut self) -> impl Future<Output = Result<bool, DbError>> + Send;
}

/// Does one chore; one step for each message, so that a stop or a restart waits for no more than that.
pub(super) struct ChoreActor<C>(PhantomData<fn(C)>);

/// Time for the next step.
pub(super) struct Step;

pub(super) struct ChoreState<C> {
    chore: C,
    closing: CancellationToken,
    /// How many steps failed, one after the other.
    failures: u32,
}

impl<C> ChoreActor<C> {
    pub(super) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<C: Chore> Actor for ChoreActor<C> {
    type Msg = Step;
    type State = ChoreState<C>;
    type Arguments = (C, CancellationToken);

    async fn pre_start(
        &self,
        me: ActorRef<Step>,
        (chore, closing): Self::Arguments,
    ) -> Result<ChoreState<C>, ActorProcessingErr> {
        me.cast(Step)?;
        Ok(ChoreState { chore, closing, failures: 0 })
    }

    async fn handle(
        &self,
        me: ActorRef<Step>,
        Step: Step,
        ChoreState { chore, closing, failures }: &mut ChoreState<C>,
    ) -> Result<(), ActorProcessingErr> {
        // What the store has in hand already is done without us.
        let Some(done) = closing.run_until_cancelled(chore.step()).await else { return Ok(()) };
        if let Err(error) = &done {
            *failures = failures.saturating_add(1);
            // One alone is what a restart in the db room looks like.
            if *failures == FAILURES_TOLD {
                tracing::warn!(chore = C::NAME, %error, "upkeep fails, and is tried again until it works");
            }
        } else {
            *failures = 0;
        }
        if done.unwrap_or(false) {
            me.cast(Step)?;
        } else {
            me.send_after(C::EVERY, || Step);
        }
        Ok(())
    }
}
