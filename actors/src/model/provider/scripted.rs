//! A provider whose answers are written by the test: it can stall, fail and panic where a test needs it to.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::{
    chat::ChatRequest,
    reply::{Delta, FinishReason, Usage, UsageSource},
};
use futures_util::future::{BoxFuture, pending};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

use super::{AnswerStream, Batch, Finish, ModelCard, Provider, UpstreamError};

/// What an answer does next. Each read performs steps up to the first that gives the reader something.
#[derive(Clone)]
pub(crate) enum Step {
    Give(Vec<Delta>),
    Finish(Finish),
    Fail(UpstreamError),
    /// The reading worker dies here.
    Panic,
    /// Silence until the stream is dropped.
    Stall,
    Wait(Duration),
    /// Waits until the test notifies.
    Await(Arc<Notify>),
}

/// A plain text in one piece and its end.
pub(crate) fn answer(text: &str) -> Vec<Step> {
    vec![
        Step::Give(vec![Delta::Content(text.to_owned())]),
        Step::Finish(Finish {
            reason: FinishReason::Stop,
            usage: Some(Usage { prompt_tokens: 1, completion_tokens: 1, source: UsageSource::Reported }),
            load: Duration::ZERO,
        }),
    ]
}

/// Shared by the provider, its streams and the test.
#[derive(Clone)]
pub(crate) struct Script(Arc<Shared>);

struct Shared {
    cards: Mutex<Result<Vec<ModelCard>, UpstreamError>>,
    /// Answers in order; when they run out, `usual`.
    next: Mutex<VecDeque<Result<Vec<Step>, UpstreamError>>>,
    usual: Mutex<Result<Vec<Step>, UpstreamError>>,
    prompts: Mutex<Vec<(String, ChatRequest)>>,
    preload: Mutex<Result<(), UpstreamError>>,
    preloads: AtomicUsize,
    needs_preload: Mutex<bool>,
    open: watch::Sender<usize>,
}

impl Script {
    /// Offers models of these names and answers `usual` to every prompt.
    pub(crate) fn new(models: &[&str], usual: Vec<Step>) -> Self {
        let cards = models.iter().map(|name| ModelCard {
            name: (*name).to_owned(),
            digest: (*name).to_owned(),
            ..ModelCard::default()
        });
        Self(Arc::new(Shared {
            cards: Mutex::new(Ok(cards.collect())),
            next: Mutex::default(),
            usual: Mutex::new(Ok(usual)),
            prompts: Mutex::default(),
            preload: Mutex::new(Ok(())),
            preloads: AtomicUsize::new(0),
            needs_preload: Mutex::new(false),
            open: watch::Sender::new(0),
        }))
    }

    pub(crate) fn provider(&self) -> ScriptedProvider {
        ScriptedProvider(self.clone())
    }

    /// What the next prompt without an answer gets: a stream of steps, or a refusal to begin.
    pub(crate) fn then(&self, answer: Result<Vec<Step>, UpstreamError>) {
        self.0.next.lock().push_back(answer);
    }

    pub(crate) fn always(&self, answer: Result<Vec<Step>, UpstreamError>) {
        *self.0.usual.lock() = answer;
    }

    pub(crate) fn list_as(&self, cards: Result<Vec<ModelCard>, UpstreamError>) {
        *self.0.cards.lock() = cards;
    }

    /// From now on models count as not loaded, and loading ends like this.
    pub(crate) fn preload_as(&self, result: Result<(), UpstreamError>) {
        *self.0.needs_preload.lock() = true;
        *self.0.preload.lock() = result;
    }

    pub(crate) fn preloads(&self) -> usize {
        self.0.preloads.load(Ordering::Relaxed)
    }

    /// The prompts so far, with the model names they were sent under.
    pub(crate) fn prompts(&self) -> Vec<(String, ChatRequest)> {
        self.0.prompts.lock().clone()
    }

    /// Answers not dropped yet; wait on it to see a cancelled one go.
    pub(crate) fn open(&self) -> watch::Receiver<usize> {
        self.0.open.subscribe()
    }
}

pub struct ScriptedProvider(Script);

impl Provider for ScriptedProvider {
    fn list(&self) -> BoxFuture<'_, Result<Vec<ModelCard>, UpstreamError>> {
        Box::pin(async { self.0.0.cards.lock().clone() })
    }

    fn preload<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), UpstreamError>> {
        Box::pin(async {
            self.0.0.preloads.fetch_add(1, Ordering::Relaxed);
            self.0.0.preload.lock().clone()
        })
    }

    fn is_loaded(&self, _: &str) -> bool {
        !*self.0.0.needs_preload.lock()
    }

    fn chat<'a>(
        &'a self,
        model: &'a str,
        request: &'a ChatRequest,
    ) -> BoxFuture<'a, Result<Box<dyn AnswerStream>, UpstreamError>> {
        Box::pin(async move {
            let script = &self.0.0;
            script.prompts.lock().push((model.to_owned(), request.clone()));
            let next = script.next.lock().pop_front();
            let steps = next.unwrap_or_else(|| script.usual.lock().clone())?;
            Ok(Box::new(ScriptedAnswer::new(&self.0, steps)) as Box<dyn AnswerStream>)
        })
    }
}

struct ScriptedAnswer {
    script: Script,
    steps: VecDeque<Step>,
    /// When the wait under way ends; kept here so that a read can be dropped and begun again.
    waking: Option<Instant>,
}

impl ScriptedAnswer {
    fn new(script: &Script, steps: Vec<Step>) -> Self {
        script.0.open.send_modify(|open| *open += 1);
        Self { script: script.clone(), steps: steps.into(), waking: None }
    }
}

impl Drop for ScriptedAnswer {
    fn drop(&mut self) {
        self.script.0.open.send_modify(|open| *open -= 1);
    }
}

impl AnswerStream for ScriptedAnswer {
    fn read<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), UpstreamError>> {
        Box::pin(async move {
            batch.clear();
            loop {
                match self.steps.front().cloned() {
                    None => return Err(UpstreamError::Incomplete),
                    Some(Step::Stall) => pending().await,
                    Some(Step::Panic) => panic!("as the script says"),
                    Some(Step::Wait(wait)) => {
                        sleep_until(*self.waking.get_or_insert_with(|| Instant::now() + wait)).await;
                        self.waking = None;
                    }
                    Some(Step::Await(notify)) => notify.notified().await,
                    Some(Step::Give(deltas)) => {
                        batch.pieces = u32::try_from(deltas.len()).unwrap_or(u32::MAX);
                        batch.deltas = deltas;
                    }
                    Some(Step::Finish(finish)) => batch.finish = Some(finish),
                    Some(Step::Fail(error)) => return Err(error),
                }
                self.steps.pop_front();
                if batch.finish.is_some() || !batch.deltas.is_empty() {
                    return Ok(());
                }
            }
        })
    }

    fn pace(&mut self, _: Option<Duration>) {}
}

#[cfg(test)]
mod tests {
    use domain::{
        chat::{ChatMessage, Role, Sampling},
        model_name::ModelName,
    };
    use futures_util::FutureExt;

    use super::*;

    fn request() -> ChatRequest {
        ChatRequest {
            model: ModelName::parse("m").unwrap(),
            messages: vec![ChatMessage::text(Role::User, "hi")],
            sampling: Sampling::default(),
            tools: Vec::new(),
            format: None,
            think: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_script_is_followed_in_order_and_an_open_answer_is_seen_to_close() {
        let script = Script::new(&["m"], answer("usual"));
        let provider = script.provider();
        let request = request();
        script.then(Err(UpstreamError::Busy));
        script.then(Ok(vec![Step::Wait(Duration::from_secs(5)), Step::Fail(UpstreamError::Incomplete)]));
        assert_eq!(provider.chat("m", &request).await.err(), Some(UpstreamError::Busy));
        let mut batch = Batch::default();
        let mut stream = provider.chat("m", &request).await.unwrap();
        assert_eq!(stream.read(&mut batch).await, Err(UpstreamError::Incomplete));
        let mut open = script.open();
        assert_eq!(*open.borrow_and_update(), 1);
        drop(stream);
        open.changed().await.unwrap();
        assert_eq!(*open.borrow(), 0);
        let mut stream = provider.chat("m", &request).await.unwrap();
        stream.read(&mut batch).await.unwrap();
        assert_eq!(batch.deltas, [Delta::Content("usual".to_owned())]);
        stream.read(&mut batch).await.unwrap();
        assert!(batch.finish.is_some());
        assert_eq!(script.prompts().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_script_can_hold_stall_and_kill_its_reader_and_ask_for_a_preload() {
        let script = Script::new(&["m"], Vec::new());
        assert!(script.provider().is_loaded("m"));
        script.preload_as(Err(UpstreamError::Busy));
        assert!(!script.provider().is_loaded("m"));
        assert_eq!((script.provider().preload("m").await, script.preloads()), (Err(UpstreamError::Busy), 1));

        let (go, mut batch) = (Arc::new(Notify::new()), Batch::default());
        script.always(Err(UpstreamError::NoSuchModel));
        let mut held = ScriptedAnswer::new(&script, vec![Step::Await(Arc::clone(&go)), Step::Stall]);
        for notified in [false, true] {
            if notified {
                go.notify_one();
            }
            let read = tokio::time::timeout(Duration::from_secs(60), held.read(&mut batch)).await;
            assert!(read.is_err(), "neither the wait nor the stall gives anything");
            assert_eq!(held.steps.len(), if notified { 1 } else { 2 });
        }
        let refused = script.provider().chat("m", &request()).await.err();
        assert_eq!(refused, Some(UpstreamError::NoSuchModel));
        let mut fatal = ScriptedAnswer::new(&script, vec![Step::Panic]);
        let died = std::panic::AssertUnwindSafe(fatal.read(&mut batch)).catch_unwind().await;
        assert!(died.is_err());
    }
}
