//! `/api/embed` and the older `/api/embeddings`.

use std::io;
use std::time::Instant;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Server;
use super::answer::refusal;
use super::ask::{Api, Refused, keep_alive};
use super::counters::Visit;
use super::http::response::{ERROR_JSON, JSON, Wire};
use super::json::{self, Members};
use super::lines::nanos;
use super::scenario::{BUSY, Scenario};

/// Whose endpoint is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `/api/embed`
    Ollama,
    /// `/api/embeddings`
    Old,
    /// `/v1/embeddings`
    OpenAi,
}

pub(crate) async fn embed(
    server: &Server,
    body: &Members,
    shape: Shape,
    wire: &mut Wire<'_>,
    cut: &CancellationToken,
) -> io::Result<()> {
    match embedded(server, body, shape, cut).await {
        Ok(reply) => wire.reply(200, JSON, &json::to_go(&reply)).await,
        Err((status, body)) => wire.reply(status, ERROR_JSON, &body).await,
    }
}

async fn embedded(
    server: &Server,
    body: &Members,
    shape: Shape,
    cut: &CancellationToken,
) -> Result<Value, (u16, String)> {
    let api = if shape == Shape::OpenAi { Api::OpenAiChat } else { Api::Chat };
    let refused = |status, message: &str| api.refusal(status, message);
    let name = body.field("model").and_then(Value::as_str).unwrap_or_default();
    let Some(model) = server.find(name) else {
        return Err(refused(404, &format!("model \"{name}\" not found, try pulling it first")));
    };
    let input = body.field(if shape == Shape::Old { "prompt" } else { "input" });
    let inputs = inputs(input).ok_or_else(|| refused(400, "invalid input type"))?;
    let keep_alive = body.field("keep_alive").map(keep_alive).transpose();
    let keep_alive = keep_alive.map_err(|Refused(status, message)| refused(status, &message))?;
    let must_fit = shape == Shape::OpenAi || body.field("truncate") == Some(&Value::Bool(false));
    let mut visit = Visit::begin(&server.stats, cut, &model.name);
    let asked_at = Instant::now();
    if let Some(refusal) = refusal(server, model.scenario, &model, api) {
        visit.finish();
        return Err(refusal);
    }
    let Ok(lease) = server.scheduler.lease(&model, "", keep_alive).await else {
        visit.finish();
        return Err(refused(503, BUSY));
    };
    let loaded_at = Instant::now();
    let own = model.details.embedding_length.unwrap_or(8);
    let dimensions = body.field("dimensions").and_then(Value::as_u64).map_or(own, |wanted| wanted.min(own));
    let mut vectors = Vec::with_capacity(inputs.len());
    for text in &inputs {
        // Each input waits for a slot of its own. The semaphore is never closed.
        let _slot = lease.slots.clone().acquire_owned().await;
        if model.scenario == Scenario::StallBeforeHeaders {
            std::future::pending().await
        }
        let is_too_long = model
            .details
            .context_length
            .is_some_and(|length| text.split_whitespace().count() as u64 > length);
        if must_fit && is_too_long {
            visit.finish();
            return Err(refused(400, "the input length exceeds the context length"));
        }
        tokio::time::sleep(model.prefill).await;
        vectors.push(vector(text, usize::try_from(dimensions).unwrap_or(8)));
    }
    visit.finish();
    let words: usize = inputs.iter().map(|text| text.split_whitespace().count()).sum();
    Ok(match shape {
        Shape::Old => json!({ "embedding": vectors.into_iter().next().unwrap_or_default() }),
        Shape::OpenAi => {
            let data: Vec<Value> = vectors
                .into_iter()
                .enumerate()
                // Whoever reads them must go by the index.
                .rev()
                .map(|(index, embedding)| json!({ "object": "embedding", "index": index, "embedding": embedding }))
                .collect();
            json!({ "object": "list", "data": data, "model": name,
                    "usage": { "prompt_tokens": words, "total_tokens": words } })
        }
        Shape::Ollama => json!({
            "model": name,
            "embeddings": vectors,
            "total_duration": nanos(asked_at.elapsed()),
            "load_duration": nanos(loaded_at - asked_at),
            "prompt_eval_count": words,
        }),
    })
}

/// A vector for `text`, of length one.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut state = text.bytes().fold(1_u32, |hash, byte| hash.wrapping_mul(16_777_619) ^ u32::from(byte));
    let mut vector: Vec<f32> = (0..dimensions)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from(u16::try_from(state >> 16).unwrap_or_default()) / 32_768.0 - 1.0
        })
        .collect();
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::EPSILON);
    vector.iter_mut().for_each(|x| *x /= norm);
    vector
}

/// The inputs of an embedding request.
fn inputs(value: Option<&Value>) -> Option<Vec<&str>> {
    match value {
        None => Some(Vec::new()),
        Some(Value::String(text)) if text.is_empty() => Some(Vec::new()),
        Some(Value::String(text)) => Some(vec![text]),
        Some(Value::Array(texts)) => texts.iter().map(Value::as_str).collect(),
        Some(_) => None,
    }
}
