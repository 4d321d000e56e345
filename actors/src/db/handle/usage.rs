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
use tokio::time::timeout;

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
        let reports = Arc::clone(&self.reports).acquire_owned();
        let turn = timeout(self.call_timeout, reports).await.map_err(|_| DbError::Overloaded)?;
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
    let mut groups = Arc::clone(&store).usage(query.clone(), after, limit + 1).await?;
    let has_more = groups.len() > limit as usize;
    groups.truncate(limit as usize);
    let total: Tally = if is_first && !has_more {
        groups.iter().map(|group| group.tally).sum()
    } else {
        let all = UsageQuery { by: Dimensions::default(), ..query };
        store.usage(all, None, 1).await?.into_iter().map(|group| group.tally).sum()
    };
    let next = if has_more { groups.last().map(|group| group.of.clone()) } else { None };
    Ok(UsageReport { groups, next, total })
}
