//! A ModelWorker: one slot of one model on one upstream, as an actor.
//!
//! It takes turns from its model's WaitingList and runs each to its end inside `handle`: the busy worker *is* the slot. A
//! turn whose user has as many running as may goes back to the list.
//! Cancellation races the whole turn, so a caller that leaves frees the slot and ends the upstream request wherever
//! the turn is: loading, before the first token or mid-stream.
//!
//! # When it breaks
//!
//! A panic or a kill drops the turn in hand, which settles as interrupted with its text so far; the supervisor brings the
//! worker back, and it looks at the list again. Other turns do not notice.

use std::{sync::Arc, time::Duration};

use domain::{chat::ChatRequest, reply::FailureCode};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    checkpoint::Checkpoints,
    failure::end_of,
    metrics::ModelMetrics,
    provider::{Batch, UpstreamError},
    server::ModelServer,
    streams::{Admission, Streams},
    told,
    turn::{FailedTry, Job, Work},
    waiting_list::WaitingList,
};
use crate::{
    bell::Bell,
    db::DbHandle,
    reply::{End, Notice},
    trace::Span,
};

/// While only the end is wanted and other turns want the processor too, reads closer together than this wait, so that one
/// read brings more. A turn alone is not slowed: it would wait two milliseconds to save nobody anything.
const UNARY_PACE: Duration = Duration::from_millis(1);

/// How often a busy model server is asked again for one turn.
const BUSY_TRIES: u32 = 10;
const BUSY_WAIT_MIN: Duration = Duration::from_millis(500);
const BUSY_WAIT_SPREAD_MS: u64 = 1_500;

/// A turn that found no connection is tried once more, after this long and up to that much longer.
const RETRY_WAIT_MIN: Duration = Duration::from_millis(50);
const RETRY_WAIT_SPREAD_MS: u64 = 200;

pub(super) enum WorkerMessage {
    /// Look at the list.
    Wake,
}

/// What a worker needs, kept outside it so that its successor has the same.
pub(super) struct Seat {
    pub index: usize,
    /// By its canonical name.
    pub model: Arc<str>,
    pub list: Arc<WaitingList>,
    pub bell: Bell<WorkerMessage>,
    pub server: Arc<ModelServer>,
    pub streams: Arc<Streams>,
    pub db: DbHandle,
    pub checkpoint_every: Duration,
    pub checkpoint_bytes: usize,
    pub metrics: Arc<ModelMetrics>,
    /// Cancelled when running turns must end now.
    pub halt: CancellationToken,
}

pub(super) struct ModelWorker;

impl Actor for ModelWorker {
    type Msg = WorkerMessage;
    type State = Arc<Seat>;
    type Arguments = Arc<Seat>;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        seat: Arc<Seat>,
    ) -> Result<Arc<Seat>, ActorProcessingErr> {
        Ok(seat)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        WorkerMessage::Wake: WorkerMessage,
        seat: &mut Arc<Seat>,
    ) -> Result<(), ActorProcessingErr> {
        loop {
            seat.bell.about_to_check();
            if seat.halt.is_cancelled() {
                return Ok(());
            }
            if !seat.server.takes_turns() {
                seat.list.pass_on();
            }
            tokio::select! {
                () = seat.server.will_take_turns() => {}
                () = seat.halt.cancelled() => return Ok(()),
            }
            let Some((job, mut running)) = seat.list.next(seat.index) else { return Ok(()) };
            if seat.has_failed(&job) {
                job.end_as_failed();
                continue;
            }
            let stream = match Box::pin(job.carrier.around(seat.streams.ask(&job))).await {
                Admission::Run(stream) => stream,
                Admission::Wait(refused) => {
                    let user = job.user;
                    running.put_back(job);
                    seat.streams.hold(user, &seat.list, refused);
                    continue;
                }
            };
            running.begin();
            let progress = job.progress.clone();
            let busy = seat.metrics.busy();
            // Boxed, so that an idle worker holds a pointer rather than the whole turn.
            let back = Box::pin(job.carrier.clone().around(seat.run(job))).await;
            drop(busy);
            drop(stream);
            match back {
                Some(job) => running.move_on(job),
                None => running.finished(progress.cost()),
            }
        }
    }
}

impl Seat {
    /// Runs the turn to its end, or gives it back for another server.
    async fn run(&self, mut job: Job) -> Option<Job> {
        job.progress.taken();
        drop(std::mem::take(&mut job.waiting));
        let generating = Span::start("model.generate");
        told::begun(&generating, &job, &self.model, &self.server.upstream());
        let answered = tokio::select! {
            biased;
            () = job.writer.cancelled() => Ok(End::Cancelled),
            () = self.halt.cancelled() => Ok(End::Interrupted(FailureCode::ServerShuttingDown)),
            end = generating.around(self.answer(&job)) => end,
        };
        let (Ok(end) | Err(end)) = &answered;
        told::generated(&generating, &job, end);
        drop(generating);
        match answered {
            Ok(end) => job.writer.end(end),
            Err(end) => return Some(self.given_back(job, end)),
        }
        None
    }

    /// How the turn ended, or would end if there were no other server to ask (`Err`).
    async fn answer(&self, job: &Job) -> Result<End, End> {
        let (mut busy, mut was_retried) = (0, false);
        loop {
            match self.try_once(job).await {
                Err(UpstreamError::Busy) if busy < BUSY_TRIES => {
                    busy += 1;
                    tokio::time::sleep(busy_wait(job)).await;
                    tokio::select! {
                        biased;
                        () = self.server.worth_asking() => {}
                        () = self.lost_to_others(job) => busy = BUSY_TRIES,
                    }
                }
                Err(error) if self.is_for_others(job, &error) => {
                    return Err(end_of(&error, self.server.model(), job.turn));
                }
                Err(UpstreamError::Connect(_)) if !was_retried && self.may_retry(job) => {
                    was_retried = true;
                    tokio::time::sleep(spread(job, RETRY_WAIT_MIN, RETRY_WAIT_SPREAD_MS)).await;
                }
                Err(error) => return Ok(end_of(&error, self.server.model(), job.turn)),
                Ok(end) => return Ok(end),
            }
        }
    }

    /// Ollama is busy for models that are not loaded only, so a load is as worth trying again as an answer.
    async fn try_once(&self, job: &Job) -> Result<End, UpstreamError> {
        let loading = |eta| job.writer.notice(Notice { loading: true, position: 0, eta });
        let awaited = Span::start("model.load.wait");
        let _stay = tokio::select! {
            biased;
            stay = awaited.around(self.server.enter(loading)) => stay?,
            () = self.lost_to_others(job) => return Err(UpstreamError::Connect("its breaker is open".to_owned())),
        };
        job.progress.loaded();
        drop(awaited);
        let (call, end) = match &job.work {
            Work::Chat(request) => {
                let call = Span::call("upstream.chat.post");
                let end = call.around(self.stream(job, request)).await;
                (call, end)
            }
            Work::Embed(embedding) => {
                let call = Span::call("upstream.embed.post");
                let end = call.around(self.embed(job, embedding)).await;
                (call, end)
            }
        };
        end.inspect_err(|error| call.fail(error.label()))
    }

    /// One call of the model server. An error after the first piece is an ending too, never a reason to try again.
    async fn stream(&self, job: &Job, request: &ChatRequest) -> Result<End, UpstreamError> {
        job.progress.asked();
        let mut stream = self.server.chat(request).await?;
        job.writer.started();
        let mut checkpoints = Checkpoints::new(self.checkpoint_every, self.checkpoint_bytes, Instant::now());
        let mut batch = Batch::default();
        // When the last text came.
        let mut last: Option<Instant> = None;
        loop {
            let may_wait = self.list.running() > 1 && job.writer.only_end_wanted();
            stream.pace(may_wait.then_some(UNARY_PACE));
            // A read that is given up loses nothing.
            let read = tokio::select! {
                biased;
                read = stream.read(&mut batch) => read,
                () = checkpoints.overdue() => Ok(()),
            };
            let now = Instant::now();
            if !batch.deltas.is_empty() {
                match last.replace(now) {
                    None => self.server.worked(),
                    Some(before) => self.metrics.gaps.observe(now - before),
                }
                job.progress.received(batch.pieces);
                if job.writer.push(batch.deltas.drain(..)).is_err() {
                    return Ok(End::Failed {
                        code: FailureCode::ReplyTooLarge,
                        message: "the answer outgrew what one answer may hold".to_owned(),
                    });
                }
            }
            match read {
                Err(error) if last.is_some() => {
                    self.server.broke_off(&error);
                    return Ok(end_of(&error, self.server.model(), job.turn));
                }
                Err(error) => {
                    self.server.failed(&error);
                    return Err(error);
                }
                Ok(()) => {}
            }
            if let Some(finish) = batch.finish.take() {
                self.server.worked();
                job.progress.finished(finish.usage, finish.load);
                return Ok(End::Complete(finish.reason));
            }
            if let Some(checkpoint) = checkpoints.due(job, now) {
                self.db.checkpoint(checkpoint);
            }
        }
    }
}

/// Half a second to two, spread by the turn's identity so that turns refused together do not come back together.
fn busy_wait(job: &Job) -> Duration {
    spread(job, BUSY_WAIT_MIN, BUSY_WAIT_SPREAD_MS)
}

fn spread(job: &Job, min: Duration, spread_ms: u64) -> Duration {
    min + Duration::from_millis(job.turn.as_uuid().as_u128() as u64 % spread_ms)
}

/// One retry elsewhere: what a server failed before the answer's first byte is asked of another, once.
impl Seat {
    /// Whether this server has failed the turn before: it only comes back where no other takes turns any more.
    fn has_failed(&self, job: &Job) -> bool {
        job.failed_at.as_ref().is_some_and(|failed| self.server.is_on(&failed.server))
    }

    /// Whether the turn, of which nothing was said yet, is worth asking of another server than the one that failed it so.
    fn is_for_others(&self, job: &Job, error: &UpstreamError) -> bool {
        // What it refused, others would refuse too.
        let is_of_this_server = error.is_the_servers_own()
            || matches!(error, UpstreamError::Busy | UpstreamError::NoSuchModel | UpstreamError::Incomplete);
        is_of_this_server && self.has_others(job)
    }

    /// Whether it may be tried once more here: what was tried elsewhere has had its retry.
    fn may_retry(&self, job: &Job) -> bool {
        job.failed_at.is_none() && self.server.may_retry()
    }

    fn has_others(&self, job: &Job) -> bool {
        job.failed_at.is_none() && !job.is_late(Instant::now()) && self.list.has_elsewhere(self.server.host())
    }

    /// Resolves when this server is given up while the turn could be answered by another.
    async fn lost_to_others(&self, job: &Job) {
        loop {
            self.server.given_up().await;
            if self.has_others(job) {
                return;
            }
            self.server.worth_asking().await;
        }
    }

    /// The turn as it waits again. `end` is how it ends if nobody else can be asked after all.
    fn given_back(&self, mut job: Job, end: End) -> Job {
        tracing::info!(
            model = %self.model, upstream = %self.server.upstream(), turn = %job.turn,
            "the turn is asked of another model server"
        );
        job.progress.put_back();
        job.work.start_over();
        job.waiting = job.carrier.span("model.queue.wait");
        job.failed_at = Some(FailedTry { server: self.server.host().clone(), end });
        job
    }
}
