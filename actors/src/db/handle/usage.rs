//! Usage: the ledger's rows, and sums over them.

use std::sync::Arc;

#[cfg(doc)]
use domain::{conversation::PAGE_LIMIT_MAX, usage::WHOLE_GROUPS_MAX as LIMIT_MAX};
use domain::{
    conversation::Page,
    id::{TurnId, UserId},
    usage::{
        Dimensions, GroupKey, LedgerEntry, LedgerFilter, Tally, UsageQuery, UsageReport, WHOLE_GROUPS_MAX,
    },
};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::cut;
use crate::db::{DbError, DbHandle, store::Store};

impl DbHandle {
    /// Groups of turns after the cursor, sorted by what they are grouped by, at most `limit` and never more than
    /// [`LIMIT_MAX`]; and the sum over those of all pages.
    ///
    /// A report reads many rows, so no more than half of the readers are at it; who comes then waits.
    ///
    /// # Errors
    ///
    /// [`DbError::Overloaded`] when its time was over before it was its turn.
    pub async fn usage(
        &self,
        query: UsageQuery,
        after: Option<GroupKey>,
        limit: u32,
    ) -> Result<UsageReport, DbError> {
        let turn = self.reader_for_long().await?;
        let limit = limit.clamp(1, WHOLE_GROUPS_MAX);
        self.read(move |store| {
            Box::pin(async move {
                let report = report(store, query, after, limit).await;
                // Given back by who did the work, not by who may have left.
                drop(turn);
                report
            })
        })
        .await
    }

    /// Waits until fewer than half of the readers are at what reads many rows. Keep it until that is done.
    pub(super) async fn reader_for_long(&self) -> Result<OwnedSemaphorePermit, DbError> {
        let turn = Arc::clone(&self.long_reads).acquire_owned();
        timeout(self.call_timeout, turn).await.ok().and_then(Result::ok).ok_or(DbError::Overloaded)
    }

    /// The owner's turns that the filter lets through, newest first; at most [`PAGE_LIMIT_MAX`].
    pub async fn ledger(
        &self,
        owner: UserId,
        filter: LedgerFilter,
        before: Option<TurnId>,
        limit: u32,
    ) -> Result<Page<LedgerEntry>, DbError> {
        let id = |entry: &LedgerEntry| entry.turn.turn.as_uuid();
        self.page(limit, id, move |store, limit| store.ledger(owner, filter, before, limit)).await
    }
}

async fn report(
    store: Arc<dyn Store>,
    query: UsageQuery,
    after: Option<GroupKey>,
    limit: u32,
) -> Result<UsageReport, DbError> {
    let is_first = after.is_none();
    let groups = Arc::clone(&store).usage(query.clone(), after, limit + 1).await?;
    let Page { items: groups, next } = cut(groups, limit, |group| group.of.clone());
    let total: Tally = if is_first && next.is_none() {
        groups.iter().map(|group| group.tally).sum()
    } else {
        let all = UsageQuery { by: Dimensions::default(), ..query };
        store.usage(all, None, 1).await?.into_iter().map(|group| group.tally).sum()
    };
    Ok(UsageReport { groups, next, total })
}
