//! DbWorker: answers reads. A query rides to it as a closure that knows its own reply port, so a new query is one
//! method of the store and one line of the handle. A read that its factory drops unasked, because it stops, drops the port
//! with it, which tells the caller.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use ractor::{
    ActorProcessingErr, ActorRef, RpcReplyPort,
    factory::{FactoryMessage, Job, Worker, WorkerId},
};
use tokio::time::{Instant, timeout};

use super::{DbError, metrics::DbMetrics, store::Store};
use crate::handle::Permit;

/// Asks the store and answers whoever wanted to know.
trait Question: Send {
    fn ask(self: Box<Self>, state: WorkerState) -> BoxFuture<'static, ()>;
}

struct Read<T, Q> {
    query: Q,
    reply: RpcReplyPort<Result<T, DbError>>,
    permit: Permit,
}

impl<T, Q> Question for Read<T, Q>
where
    T: Send + 'static,
    Q: FnOnce(Arc<dyn Store>) -> BoxFuture<'static, Result<T, DbError>> + Send + 'static,
{
    fn ask(self: Box<Self>, state: WorkerState) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Self { query, reply, permit } = *self;
            if reply.is_closed() {
                return;
            }
            let started = Instant::now();
            let asking = permit.carrier().around(timeout(state.limit, query(state.store)));
            let result = asking.await.unwrap_or(Err(DbError::Timeout));
            state.metrics.read(&result, started.elapsed());
            // The caller may have left meanwhile.
            let _ = reply.send(result);
        })
    }
}

/// One read; empty once it was taken to be answered.
pub(super) struct ReadMessage(Option<Box<dyn Question>>);

impl ReadMessage {
    pub(super) fn new<T, Q>(query: Q, permit: Permit, reply: RpcReplyPort<Result<T, DbError>>) -> Self
    where
        T: Send + 'static,
        Q: FnOnce(Arc<dyn Store>) -> BoxFuture<'static, Result<T, DbError>> + Send + 'static,
    {
        Self(Some(Box::new(Read { query, reply, permit })))
    }
}

#[derive(Clone)]
pub(super) struct WorkerState {
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: DbMetrics,
    /// How long a query may take before its connection is given up.
    pub(super) limit: Duration,
}

pub(super) struct DbWorker;

impl Worker for DbWorker {
    type Key = ();
    type Message = ReadMessage;
    type Arguments = WorkerState;
    type State = WorkerState;

    async fn pre_start(
        &self,
        _: WorkerId,
        _: &ActorRef<FactoryMessage<(), ReadMessage>>,
        state: WorkerState,
    ) -> Result<WorkerState, ActorProcessingErr> {
        // Infallible: a worker that cannot start takes its factory with it. The pool connects when it is asked.
        Ok(state)
    }

    async fn handle(
        &self,
        _: WorkerId,
        _: &ActorRef<FactoryMessage<(), ReadMessage>>,
        mut job: Job<(), ReadMessage>,
        state: &mut WorkerState,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(question) = job.msg.0.take() {
            question.ask(state.clone()).await;
        }
        Ok(())
    }
}
