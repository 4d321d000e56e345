//! The one connection of a process to Redis, and its breaker.
//!
//! ```text
//! closed ── lost connection, or 5 failures in a row ──▶ open ── each second: connect, decide something ──▶ closed
//! ```
//!
//! No caller is ever the one who tries whether the server is back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use domain::quota::Quota;
use redis::{Client, Cmd, RedisError, Value, aio::MultiplexedConnection};

use super::{
    memory_advice,
    scripts::{self, Scripts},
};
use crate::{
    rate_limit::{
        Scope,
        key::{Charges, Key},
        metrics::RedisMetrics,
    },
    redis::{CONNECT_PATIENCE, connect},
    room::RoomContext,
};

/// Failures in a row that open the breaker.
const FAILURES: u32 = 5;
/// Between two attempts to reach a server that is away.
const PROBE_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Link {
    client: Client,
    /// `None` while the breaker is open.
    live: ArcSwapOption<Live>,
    failures: AtomicU32,
    /// For each answer; no shorter than connecting or a question may take.
    answer_patience: Duration,
    /// Whether the operator was told what the server's memory is not fit for.
    has_advised: AtomicBool,
    metrics: RedisMetrics,
    ctx: RoomContext,
}

/// A connection that worked, and what the server calls our scripts.
pub(super) struct Live {
    connection: MultiplexedConnection,
    pub scripts: Scripts,
}

/// Why questions got no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer in time")]
    Late,
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error("an answer that makes no sense")]
    Nonsense,
}

impl Link {
    /// Connects, if the server answers soon; else goes on trying.
    pub(super) async fn start(
        client: Client,
        question_patience: Duration,
        metrics: RedisMetrics,
        ctx: &RoomContext,
    ) -> Arc<Self> {
        let link = Arc::new(Self {
            client,
            live: ArcSwapOption::empty(),
            failures: AtomicU32::new(0),
            answer_patience: CONNECT_PATIENCE.max(question_patience),
            has_advised: AtomicBool::new(false),
            metrics,
            ctx: ctx.clone(),
        });
        if let Err(error) = link.connect().await {
            link.tell_down(&error);
            link.probe();
        }
        link
    }

    /// What to ask; `None` while there is nobody to ask.
    pub(super) fn live(&self) -> Option<Arc<Live>> {
        self.live.load_full()
    }

    pub(super) fn worked(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// Counts a failure of `live`, or opens the breaker at once if there is no asking it again.
    pub(super) fn failed(self: &Arc<Self>, live: &Arc<Live>, failure: &Failure) {
        let is_lost = matches!(failure, Failure::Redis(error) if error.is_unrecoverable_error());
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 < FAILURES && !is_lost {
            return;
        }
        // Only one of those who saw this connection fail opens the breaker, and none who saw an older one.
        let seen = self.live.compare_and_swap(live, None);
        if seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, live)) {
            self.tell_down(failure);
            self.probe();
        }
    }

    fn tell_down(&self, failure: &Failure) {
        self.metrics.up.set(0);
        tracing::warn!(event = "redis", outcome = "down", %failure, "limits are counted by this instance alone");
    }

    fn probe(self: &Arc<Self>) {
        let link = Arc::clone(self);
        self.ctx.tracker.spawn(async move {
            let give_up = link.ctx.closing.clone();
            let reconnect = async {
                loop {
                    tokio::time::sleep(PROBE_EVERY).await;
                    if link.connect().await.is_ok() {
                        return;
                    }
                }
            };
            // Who is about to stop needs no other's counts.
            let _ = give_up.run_until_cancelled(reconnect).await;
        });
    }

    async fn connect(&self) -> Result<(), Failure> {
        let mut connection = connect(&self.client, self.answer_patience).await?;
        let scripts = Scripts::load(&mut connection).await?;
        let live = Arc::new(Live { connection, scripts });
        live.decide_something().await?;
        if !self.has_advised.swap(true, Ordering::Relaxed) {
            memory_advice::give(&mut live.connection.clone()).await;
        }
        self.worked();
        self.live.store(Some(live));
        self.metrics.up.set(1);
        tracing::info!(event = "redis", outcome = "up", "limits are counted with all instances");
        Ok(())
    }
}

impl Live {
    /// Asks all at once; each reply may be an error of its own.
    pub(super) async fn ask(&self, questions: &[Cmd]) -> Result<Vec<Value>, Failure> {
        let mut replies = self.send(questions.iter()).await?;
        let is_forgotten =
            |reply: &Value| matches!(reply, Value::ServerError(error) if error.code() == "NOSCRIPT");
        let forgotten: Vec<_> = (0..replies.len()).filter(|at| is_forgotten(&replies[*at])).collect();
        if !forgotten.is_empty() {
            // Their names stay what they were: they are hashes.
            Scripts::load(&mut self.connection.clone()).await?;
            let again = self.send(forgotten.iter().map(|at| &questions[*at])).await?;
            for (at, reply) in forgotten.into_iter().zip(again) {
                replies[at] = reply;
            }
        }
        Ok(replies)
    }

    async fn send(&self, questions: impl Iterator<Item = &Cmd>) -> Result<Vec<Value>, Failure> {
        let mut pipe = redis::pipe();
        let mut count = 0;
        for question in questions {
            pipe.add_command(question.clone());
            count += 1;
        }
        let replies: Vec<Value> = pipe.ignore_errors().query_async(&mut self.connection.clone()).await?;
        if replies.len() == count { Ok(replies) } else { Err(Failure::Nonsense) }
    }

    /// A decision like any other: a server that can only read, or has no memory left, is not back.
    async fn decide_something(&self) -> Result<(), Failure> {
        let quota = Quota { permits: 1_000, period: Duration::from_secs(1), burst: 1_000 };
        let probe = Charges::one(Scope::Address, Key::NOBODY, quota, 1);
        let command = self.scripts.take(&probe).ok_or(Failure::Nonsense)?;
        let reply = self.ask(&[command]).await?.pop().ok_or(Failure::Nonsense)?;
        let reply = reply.extract_error()?;
        scripts::decision(&probe, reply).map(drop).ok_or(Failure::Nonsense)
    }
}
