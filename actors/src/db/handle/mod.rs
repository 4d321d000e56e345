//! The room's handle: each method is one read or one change.

mod accounts;
mod audit;
mod claims;
mod conversations;
mod grants;
mod held;
mod purge;
mod search;
mod sessions;
mod turns;
mod usage;

use std::sync::Arc;

use domain::conversation::{PAGE_LIMIT_MAX, Page};
use futures_util::future::BoxFuture;
use ractor::factory::{FactoryMessage, Job as FactoryJob, JobOptions};
use tokio::{sync::oneshot, time::timeout};
use uuid::Uuid;

use super::{
    Ailment, DbError, DbHandle,
    lane::{Answer, Job, Lane, lane_of},
    message::{Write, Written},
    room::PATH,
    store::Store,
    worker::ReadMessage,
};
use crate::handle::AskError;

pub use self::{
    accounts::{SetPassword, UserSearch},
    grants::NextKey,
    sessions::{RotateSession, Touched},
};

impl DbHandle {
    /// Asks the database for a sign of life: to answer and, unless the last change was written, to write one. `None` says
    /// nothing about it: the question or the change did not get there, because the room is busy or being restarted.
    pub async fn ping(&self) -> Option<Result<(), Ailment>> {
        match self.ask(|store| store.ping()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Some(Err(Ailment::Silent(error))),
            Err(AskError::Timeout) => return Some(Err(Ailment::Silent(DbError::Timeout))),
            Err(AskError::Overloaded | AskError::Down | AskError::Died) => return None,
        }
        if self.writing.works() {
            return Some(Ok(()));
        }
        // A room that crashes too often may have no writer left.
        if self.refuse_if_degraded().is_err() {
            return None;
        }
        match self.change(Uuid::nil(), Write::Probe).await {
            Ok(written) => Some(written.map(drop).map_err(Ailment::Unwritable)),
            Err(AskError::Timeout) => Some(Err(Ailment::Unwritable(DbError::Timeout))),
            Err(AskError::Overloaded | AskError::Down | AskError::Died) => None,
        }
    }

    pub(super) async fn read<T, Q>(&self, query: Q) -> Result<T, DbError>
    where
        T: Send + 'static,
        Q: FnOnce(Arc<dyn Store>) -> BoxFuture<'static, Result<T, DbError>> + Send + 'static,
    {
        self.refuse_if_degraded()?;
        self.ask(query).await.map_err(unanswered)?
    }

    async fn ask<T, Q>(&self, query: Q) -> Result<Result<T, DbError>, AskError>
    where
        T: Send + 'static,
        Q: FnOnce(Arc<dyn Store>) -> BoxFuture<'static, Result<T, DbError>> + Send + 'static,
    {
        let job = |permit, reply| {
            FactoryMessage::Dispatch(FactoryJob {
                key: (),
                msg: ReadMessage::new(query, permit, reply),
                options: JobOptions::default(),
                accepted: None,
            })
        };
        self.reads.ask(job).await
    }

    /// One page: asks for one item more than are shown, which tells whether there is more. `cursor` is the place of an item,
    /// from which its caller reads on.
    async fn page<T, C, Q>(
        &self,
        limit: u32,
        cursor: impl Fn(&T) -> C,
        query: Q,
    ) -> Result<Page<T, C>, DbError>
    where
        T: Send + 'static,
        Q: FnOnce(Arc<dyn Store>, u32) -> BoxFuture<'static, Result<Vec<T>, DbError>> + Send + 'static,
    {
        let limit = limit.clamp(1, PAGE_LIMIT_MAX);
        Ok(cut(self.read(move |store| query(store, limit + 1)).await?, limit, cursor))
    }

    async fn write<T>(&self, lane: Uuid, write: Write) -> Result<T, DbError>
    where
        T: TryFrom<Written, Error = DbError>,
    {
        self.refuse_if_degraded()?;
        self.change(lane, write).await.map_err(unanswered)??.try_into()
    }

    /// Has a change written, and says what the database made of it, or why nobody knows.
    pub(super) async fn change(
        &self,
        lane: Uuid,
        write: Write,
    ) -> Result<Result<Written, DbError>, AskError> {
        let lane = self.lane(lane);
        let permit = lane.reserve().ok_or(AskError::Overloaded)?;
        let (caller, answer) = oneshot::channel();
        lane.place(Job::new(write, Answer::Caller(caller), permit));
        match timeout(self.call_timeout, answer).await {
            Ok(Ok(written)) => Ok(written),
            Ok(Err(_)) => Err(AskError::Died),
            Err(_) => Err(AskError::Timeout),
        }
    }

    pub(super) fn lane(&self, id: Uuid) -> &Lane {
        lane_of(&self.lanes, id)
    }

    fn refuse_if_degraded(&self) -> Result<(), DbError> {
        if self.tree.is_degraded(PATH) {
            return Err(DbError::Away("the room crashes too often".into()));
        }
        Ok(())
    }
}

/// The page that `items` begin with, of which one more was asked for than it may hold.
fn cut<T, C>(mut items: Vec<T>, limit: u32, cursor: impl Fn(&T) -> C) -> Page<T, C> {
    let has_more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| has_more).map(cursor);
    Page { items, next }
}

/// What a caller is told whom the database did not answer.
fn unanswered(error: AskError) -> DbError {
    match error {
        AskError::Overloaded => DbError::Overloaded,
        AskError::Timeout => DbError::Timeout,
        AskError::Down | AskError::Died => DbError::Unavailable(error.to_string()),
    }
}
