//! Texts that become vectors: a turn like any other, but for what its slot does.
//!
//! ```text
//! texts ── a few at a time ──▶ model server ──▶ vectors so far ── the turn is complete ──▶ the caller
//! ```
//!
//! A model server takes one of its slots for each text of a call, so a call with many would keep everybody else waiting; between
//! two calls cancelling, a shutdown and the age of the turn are noticed as they are within one (ollama-wire §6).
//!
//! # Bounds
//!
//! Texts wait within the budget of all prompts. Vectors take at most [`VECTORS_BYTES_MAX`] and count in the budget of all replies.
//!
//! # When it breaks
//!
//! What a server made before it refused a call for being busy or unreachable is kept, and it goes on from there. Another server
//! begins anew: its vectors need not lie in the same space.

use std::{sync::Arc, time::Duration};

use domain::{
    embedding::{EmbedRequest, Embeddings},
    model_name::ModelName,
    reply::{FailureCode, FinishReason, Usage, UsageSource},
};
use parking_lot::Mutex;

use super::{provider::UpstreamError, turn::Job, worker::Seat};
use crate::reply::End;

/// Texts in one call of a model server.
pub(super) const EMBEDDED_AT_ONCE: usize = 16;

/// The vectors of one answer: 2,048 of 4,096 numbers.
pub(super) const VECTORS_BYTES_MAX: usize = 32 << 20;

/// Texts to be turned into vectors, and those that were.
pub(super) struct Embedding {
    model: ModelName,
    calls: Vec<EmbedRequest>,
    made: Arc<Mutex<Made>>,
}

/// Where the vectors of an embedding are when its turn is complete.
pub(super) struct Vectors(Arc<Mutex<Made>>);

/// What came of the calls so far.
#[derive(Default)]
struct Made {
    calls: usize,
    vectors: Vec<Vec<f32>>,
    bytes: usize,
    usage: Usage,
}

impl Embedding {
    pub fn new(request: EmbedRequest) -> (Self, Vectors) {
        let EmbedRequest { model, inputs, dimensions, truncate } = request;
        let mut calls = Vec::with_capacity(inputs.len().div_ceil(EMBEDDED_AT_ONCE));
        let mut inputs = inputs.into_iter();
        while inputs.len() > 0 {
            let inputs = inputs.by_ref().take(EMBEDDED_AT_ONCE).collect();
            calls.push(EmbedRequest { model: model.clone(), inputs, dimensions, truncate });
        }
        let made = Arc::default();
        (Self { model, calls, made: Arc::clone(&made) }, Vectors(made))
    }

    pub const fn model(&self) -> &ModelName {
        &self.model
    }

    pub fn memory_bytes(&self) -> usize {
        self.calls.iter().map(EmbedRequest::memory_bytes).sum()
    }

    pub fn estimated_tokens(&self) -> u32 {
        self.calls.iter().map(EmbedRequest::estimated_tokens).fold(0, u32::saturating_add)
    }

    /// Forgets what was made: another server is asked.
    pub fn start_over(&self) {
        *self.made.lock() = Made::default();
    }

    /// The next call; `None` when all texts are vectors.
    fn next(&self) -> Option<&EmbedRequest> {
        self.calls.get(self.made.lock().calls)
    }

    /// What it cost so far if this call, which is under way, costs what it should.
    fn usage_with(&self, under_way: &EmbedRequest) -> Usage {
        let done = self.made.lock().usage;
        sum(done, estimate(under_way))
    }

    /// Keeps what the call brought; says what all cost so far and how many bytes all vectors take.
    fn add(&self, call: &EmbedRequest, more: Embeddings) -> (Usage, usize) {
        let mut made = self.made.lock();
        let usage = more.usage.unwrap_or_else(|| estimate(call));
        made.usage = if made.calls == 0 { usage } else { sum(made.usage, usage) };
        made.calls += 1;
        for mut vector in more.vectors {
            vector.shrink_to_fit();
            made.bytes += size_of::<Vec<f32>>() + size_of_val(&*vector);
            made.vectors.push(vector);
        }
        (made.usage, made.bytes)
    }
}

impl Vectors {
    /// What was made. Only when the turn is complete is that a vector for each text.
    pub fn take(self) -> Vec<Vec<f32>> {
        std::mem::take(&mut self.0.lock().vectors)
    }
}

/// The vectors of one call if they are what was asked for: one for each text, all of the same length, of finite numbers.
pub(super) fn checked(made: Embeddings, texts: usize) -> Result<Embeddings, UpstreamError> {
    let length = made.vectors.first().map_or(0, Vec::len);
    let wrong = if made.vectors.len() != texts {
        "not as many vectors as texts"
    } else if length == 0 || made.vectors.iter().any(|vector| vector.len() != length) {
        "vectors of no or of several lengths"
    } else if made.vectors.iter().flatten().any(|number| !number.is_finite()) {
        "a vector of what is no number"
    } else {
        return Ok(made);
    };
    Err(UpstreamError::Garbage(wrong.to_owned()))
}

fn estimate(call: &EmbedRequest) -> Usage {
    Usage { prompt_tokens: call.estimated_tokens(), completion_tokens: 0, source: UsageSource::Estimated }
}

/// Known as well as the worse known of both.
fn sum(one: Usage, other: Usage) -> Usage {
    let is_reported = [one, other].iter().all(|usage| usage.source == UsageSource::Reported);
    Usage {
        prompt_tokens: one.prompt_tokens.saturating_add(other.prompt_tokens),
        completion_tokens: 0,
        source: if is_reported { UsageSource::Reported } else { UsageSource::Estimated },
    }
}

impl Seat {
    /// Calls the model server until all texts are vectors.
    pub(super) async fn embed(&self, job: &Job, embedding: &Embedding) -> Result<End, UpstreamError> {
        let mut usage = Usage::default();
        while let Some(call) = embedding.next() {
            job.progress.asked();
            job.progress.spends(embedding.usage_with(call));
            let more = self.server.embed(call).await?;
            job.writer.started();
            job.progress.received(0);
            let bytes;
            (usage, bytes) = embedding.add(call, more);
            job.progress.spends(usage);
            if bytes > VECTORS_BYTES_MAX || job.writer.hold(bytes).is_err() {
                return Ok(End::Failed {
                    code: FailureCode::ReplyTooLarge,
                    message: "the vectors outgrew what one answer may hold; ask for fewer texts at once"
                        .to_owned(),
                });
            }
        }
        job.progress.finished(Some(usage), Duration::ZERO);
        Ok(End::Complete(FinishReason::Stop))
    }
}
