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

use domain::{
    chat::ChatRequest,
    embedding::EmbedRequest,
    reply::{FailureCode, FinishReason, Usage},
};
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
    turn::{Embedding, Job, Work},
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

/// Texts in one call of a model server.
const EMBEDDED_AT_ONCE: usize = 16;

/// The vectors of one answer: 2,048 of 4,096 numbers.
const VECTORS_BYTES_MAX: usize = 32 << 20;

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
            if seat.server.refuses_for().is_some() {
                seat.list.pass_on();
            }
            tokio::select! {
                () = seat.server.worth_asking() => {}
                () = seat.halt.cancelled() => return Ok(()),
            }
            let Some((job, mut running)) = seat.list.next(seat.index) else { return Ok(()) };
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
            Box::pin(job.carrier.clone().around(seat.run(job))).await;
            drop(busy);
            drop(stream);
            running.finished(progress.cost());
        }
    }
}

impl Seat {
    async fn run(&self, mut job: Job) {
        job.progress.taken();
        drop(std::mem::take(&mut job.waiting));
        let generating = Span::start("model.generate");
        told::begun(&generating, &job, &self.model, self.server.upstream());
        let end = tokio::select! {
            biased;
            () = job.writer.cancelled() => End::Cancelled,
            () = self.halt.cancelled() => End::Interrupted(FailureCode::ServerShuttingDown),
            end = generating.around(self.answer(&job)) => end,
        };
        told::generated(&generating, &job, &end);
        drop(generating);
        job.writer.end(end);
    }

    async fn answer(&self, job: &Job) -> End {
        let (mut busy, mut was_retried) = (0, false);
        loop {
            match self.try_once(job).await {
                Err(UpstreamError::Busy) if busy < BUSY_TRIES => {
                    busy += 1;
                    tokio::time::sleep(busy_wait(job)).await;
                    self.server.worth_asking().await;
                }
                Err(UpstreamError::Connect(_)) if !was_retried && self.server.may_retry() => {
                    was_retried = true;
                    tokio::time::sleep(spread(job, RETRY_WAIT_MIN, RETRY_WAIT_SPREAD_MS)).await;
                }
                Err(error) => return end_of(&error, self.server.model(), job.turn),
                Ok(end) => return end,
            }
        }
    }

    /// Ollama is busy for models that are not loaded only, so a load is as worth trying again as an answer.
    async fn try_once(&self, job: &Job) -> Result<End, UpstreamError> {
        let loading = |eta| job.writer.notice(Notice { loading: true, position: 0, eta });
        let _stay = Span::start("model.load.wait").around(self.server.enter(loading)).await?;
        job.progress.loaded();
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

    /// Calls of the model server for a few texts each: it takes a slot for each text of a call, so many at once would keep everybody
    /// else waiting (ollama-wire §6).
    async fn embed(&self, job: &Job, embedding: &Embedding) -> Result<End, UpstreamError> {
        job.progress.asked();
        job.writer.started();
        let EmbedRequest { model, inputs, dimensions, truncate } = &embedding.request;
        let mut vectors = Vec::with_capacity(inputs.len());
        let mut usage: Option<Usage> = None;
        let mut bytes = 0;
        for inputs in inputs.chunks(EMBEDDED_AT_ONCE) {
            let few = EmbedRequest {
                model: model.clone(),
                inputs: inputs.to_vec(),
                dimensions: *dimensions,
                truncate: *truncate,
            };
            let made = self.server.embed(&few).await?;
            if made.vectors.len() != inputs.len() {
                return Err(UpstreamError::Garbage("as many vectors as texts were asked for".to_owned()));
            }
            bytes += made.vectors.iter().map(|vector| size_of_val(&**vector)).sum::<usize>();
            if bytes > VECTORS_BYTES_MAX {
                return Ok(End::Failed {
                    code: FailureCode::ReplyTooLarge,
                    message: "the vectors outgrew what one answer may hold; ask for fewer texts".to_owned(),
                });
            }
            vectors.extend(made.vectors);
            if let Some(more) = made.usage {
                let sum = usage.get_or_insert(Usage { source: more.source, ..Usage::default() });
                sum.prompt_tokens = sum.prompt_tokens.saturating_add(more.prompt_tokens);
            }
            job.progress.received(0);
        }
        job.progress.finished(usage, Duration::ZERO);
        embedding.made(vectors);
        Ok(End::Complete(FinishReason::Stop))
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
                        message: "the answer outgrew what one answer may hold; the text so far was kept"
                            .to_owned(),
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
