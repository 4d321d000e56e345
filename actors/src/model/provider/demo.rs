//! The built-in demo model: deterministic text at the pace of a real model, and vectors, so that the service can be tried without
//! one.
//!
//! It never pretends: its name and its first sentence say what it is.

use std::time::Duration;

use domain::{
    chat::{ChatRequest, Format, Role},
    embedding::{EmbedRequest, Embeddings},
    reply::{Delta, FinishReason, Usage, UsageSource},
};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep_until};

use super::{AnswerStream, Batch, Finish, ModelCard, Provider, UpstreamError};

/// The one model it offers.
pub(super) const NAME: &str = "deepersensor-demo:latest";

const TOKENS_PER_SECOND: u32 = 40;

/// Numbers in a vector.
const DIMENSIONS: u32 = 64;

/// The most words of the prompt it repeats.
const QUOTED_WORDS_MAX: usize = 24;

const CONTEXT_LENGTH: u32 = 8_192;

const REMARKS: [&str; 6] = [
    "A real model would now say something about it.",
    "Connect an Ollama server to get real answers.",
    "The words come one by one, as those of a real model do.",
    "The same prompt always gets the same reply.",
    "What you see has passed the queue, a worker and the reply log.",
    "Hang up at any time: the slot is free at once.",
];

/// The demo model's provider.
pub struct DemoProvider {
    per_token: Duration,
}

impl Default for DemoProvider {
    fn default() -> Self {
        Self { per_token: Duration::from_secs(1) / TOKENS_PER_SECOND }
    }
}

impl Provider for DemoProvider {
    fn list(&self) -> BoxFuture<'_, Result<Vec<ModelCard>, UpstreamError>> {
        Box::pin(async {
            Ok(vec![ModelCard {
                name: NAME.to_owned(),
                digest: "demo".to_owned(),
                family: "demo".to_owned(),
                capabilities: ["completion", "embedding"].map(str::to_owned).to_vec(),
                context_length: Some(CONTEXT_LENGTH),
                ..ModelCard::default()
            }])
        })
    }

    fn preload<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<(), UpstreamError>> {
        Box::pin(async move { if model == NAME { Ok(()) } else { Err(UpstreamError::NoSuchModel) } })
    }

    fn loaded(&self) -> BoxFuture<'_, Result<Vec<String>, UpstreamError>> {
        Box::pin(async { Ok(vec![NAME.to_owned()]) })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), UpstreamError>> {
        Box::pin(async { Ok(()) })
    }

    /// There is nothing to free.
    fn unload<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), UpstreamError>> {
        Box::pin(async { Ok(()) })
    }

    fn chat<'a>(
        &'a self,
        model: &'a str,
        request: &'a ChatRequest,
    ) -> BoxFuture<'a, Result<Box<dyn AnswerStream>, UpstreamError>> {
        Box::pin(async move {
            if model != NAME {
                return Err(UpstreamError::NoSuchModel);
            }
            Ok(Box::new(DemoAnswer::new(request, self.per_token)) as Box<dyn AnswerStream>)
        })
    }

    fn embed<'a>(
        &'a self,
        model: &'a str,
        request: &'a EmbedRequest,
    ) -> BoxFuture<'a, Result<Embeddings, UpstreamError>> {
        Box::pin(async move {
            if model != NAME {
                return Err(UpstreamError::NoSuchModel);
            }
            let dimensions = request.dimensions.map_or(DIMENSIONS, |wanted| wanted.min(DIMENSIONS));
            let vectors = request.inputs.iter().map(|text| vector(text, dimensions as usize)).collect();
            let words: usize = request.inputs.iter().map(|text| text.split_whitespace().count()).sum();
            let usage =
                Usage { prompt_tokens: count(words), completion_tokens: 0, source: UsageSource::Reported };
            Ok(Embeddings { vectors, usage: Some(usage) })
        })
    }
}

struct DemoAnswer {
    tokens: std::vec::IntoIter<String>,
    per_token: Duration,
    due: Instant,
    pace: Option<Duration>,
    finish: Finish,
}

impl DemoAnswer {
    fn new(request: &ChatRequest, per_token: Duration) -> Self {
        let mut tokens = tokens(&reply(request));
        let limit = request.sampling.num_predict.and_then(|limit| usize::try_from(limit).ok());
        let is_cut = limit.is_some_and(|limit| limit < tokens.len());
        tokens.truncate(limit.unwrap_or(usize::MAX));
        let words: usize =
            request.messages.iter().map(|message| message.content.split_whitespace().count()).sum();
        Self {
            per_token,
            due: Instant::now() + per_token,
            pace: None,
            finish: Finish {
                reason: if is_cut { FinishReason::Length } else { FinishReason::Stop },
                usage: Some(Usage {
                    prompt_tokens: count(words),
                    completion_tokens: count(tokens.len()),
                    source: UsageSource::Reported,
                }),
                load: Duration::ZERO,
            },
            tokens: tokens.into_iter(),
        }
    }
}

impl AnswerStream for DemoAnswer {
    fn read<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), UpstreamError>> {
        Box::pin(async move {
            batch.clear();
            sleep_until(self.due + self.pace.unwrap_or_default()).await;
            let now = Instant::now();
            let mut text = String::new();
            while self.due <= now
                && let Some(token) = self.tokens.next()
            {
                text.push_str(&token);
                batch.pieces += 1;
                self.due += self.per_token;
            }
            if !text.is_empty() {
                batch.deltas.push(Delta::Content(text));
            }
            if self.tokens.as_slice().is_empty() {
                batch.finish = Some(self.finish);
            }
            Ok(())
        })
    }

    fn pace(&mut self, pace: Option<Duration>) {
        self.pace = pace;
    }
}

fn reply(request: &ChatRequest) -> String {
    if let Some(Format::Json | Format::Schema(_)) = request.format {
        return r#"{"demo": true, "note": "this is a demo model"}"#.to_owned();
    }
    let prompt = request.messages.iter().rev().find(|message| message.role == Role::User);
    let prompt = prompt.map_or("", |message| message.content.as_str());
    let quoted: Vec<&str> = prompt.split_whitespace().take(QUOTED_WORDS_MAX).collect();
    let hash = hash(prompt);
    let remark = |n: u64| {
        usize::try_from((hash >> 8).wrapping_add(n) % REMARKS.len() as u64)
            .ok()
            .and_then(|index| REMARKS.get(index))
            .copied()
            .unwrap_or_default()
    };
    format!(
        "This is the built-in demo model, not a language model. You said: “{}”. {} {} {}",
        quoted.join(" "),
        remark(0),
        remark(1),
        remark(2)
    )
}

/// A vector of length one that is the sum of those of the text's words, so that texts with words in common are near each other.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut sum = vec![0.0_f32; dimensions];
    for word in std::iter::once("").chain(text.split_whitespace()) {
        let mut state = hash(&word.to_lowercase());
        for number in &mut sum {
            // Knuth's generator, whose high bits are good.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *number += (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
        }
    }
    let length = sum.iter().map(|number| number * number).sum::<f32>().sqrt().max(f32::EPSILON);
    sum.iter_mut().for_each(|number| *number /= length);
    sum
}

/// FNV-1a: any function of the text that is the same tomorrow.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Words with the space before them, as models count.
fn tokens(text: &str) -> Vec<String> {
    text.split(' ')
        .enumerate()
        .map(|(index, word)| if index == 0 { word.to_owned() } else { format!(" {word}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use domain::{
        chat::{ChatMessage, Sampling},
        model_name::ModelName,
    };

    use super::*;

    fn request(prompt: &str, num_predict: Option<u32>) -> ChatRequest {
        ChatRequest {
            sampling: Sampling { num_predict, ..Sampling::default() },
            ..ChatRequest::new(ModelName::parse(NAME).unwrap(), vec![ChatMessage::text(Role::User, prompt)])
        }
    }

    async fn answer(request: &ChatRequest) -> (String, u32, Finish) {
        let provider = DemoProvider::default();
        let mut stream = provider.chat(NAME, request).await.unwrap();
        let (mut text, mut pieces, mut batch) = (String::new(), 0, Batch::default());
        loop {
            stream.read(&mut batch).await.unwrap();
            pieces += batch.pieces;
            for delta in &batch.deltas {
                let Delta::Content(content) = delta else { panic!("{delta:?}") };
                text.push_str(content);
            }
            if let Some(finish) = batch.finish {
                return (text, pieces, finish);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_demo_says_that_it_is_one_repeats_itself_and_counts_exactly() {
        let request = request("how are you", None);
        let begun = Instant::now();
        let (text, pieces, finish) = answer(&request).await;
        let took = begun.elapsed();
        assert!(
            text.starts_with("This is the built-in demo model") && text.contains("“how are you”"),
            "{text}"
        );
        assert_eq!(answer(&request).await.0, text);
        let usage = finish.usage.unwrap();
        assert_eq!((usage.prompt_tokens, usage.completion_tokens), (3, pieces));
        assert_eq!(finish.reason, FinishReason::Stop);
        let rate = f64::from(pieces) / took.as_secs_f64();
        assert!((35.0..=42.0).contains(&rate), "{rate} tokens a second");
    }

    #[tokio::test]
    async fn the_demos_vectors_have_length_one_and_are_near_where_words_are_the_same() {
        let embed = async |dimensions, texts: &[&str]| {
            let inputs = texts.iter().map(|text| (*text).to_owned()).collect();
            let model = ModelName::parse(NAME).unwrap();
            let request = EmbedRequest { model, inputs, dimensions, truncate: true };
            DemoProvider::default().embed(NAME, &request).await.unwrap()
        };
        let made =
            embed(None, &["herring gulls eat fish", "gulls eat Fish", "the tax office is closed", ""]).await;
        let product = |a: usize, b: usize| -> f32 {
            made.vectors[a].iter().zip(&made.vectors[b]).map(|(a, b)| a * b).sum()
        };
        for (index, vector) in made.vectors.iter().enumerate() {
            assert!(vector.len() == 64 && (product(index, index) - 1.0).abs() < 1e-4, "{vector:?}");
        }
        assert!(product(0, 1) > product(0, 2) + 0.2, "{} and {}", product(0, 1), product(0, 2));
        assert_eq!(made.usage.unwrap().prompt_tokens, 12);
        assert_eq!(embed(None, &["gulls eat Fish"]).await.vectors[0], made.vectors[1]);
        for (wanted, has) in [(8, 8), (1_000, 64)] {
            assert_eq!(embed(Some(wanted), &["a"]).await.vectors[0].len(), has);
        }
        let gone = EmbedRequest {
            model: ModelName::parse("m").unwrap(),
            inputs: vec!["a".to_owned()],
            dimensions: None,
            truncate: true,
        };
        assert_eq!(DemoProvider::default().embed("m", &gone).await, Err(UpstreamError::NoSuchModel));
    }

    #[tokio::test(start_paused = true)]
    async fn the_demo_keeps_to_the_token_limit() {
        let (text, pieces, finish) = answer(&request("x", Some(3))).await;
        assert_eq!((text.as_str(), pieces, finish.reason), ("This is the", 3, FinishReason::Length));
    }
}
