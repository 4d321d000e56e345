//! A provider whose answers are written by the test: it can stall, fail and panic where a test needs it to.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::{
    chat::ChatRequest,
    embedding::{EmbedRequest, Embeddings},
    reply::{Delta, FinishReason, Usage, UsageSource},
};
use futures_util::future::{BoxFuture, pending};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{AnswerStream, AnyProvider, Batch, Finish, ModelCard, Provider, UpstreamError};
use crate::model::{
    ModelConfig,
    residents::ResidencyRules,
    upstream::{Upstream, UpstreamRules},
};

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

/// What becomes of an embedding.
#[derive(Clone)]
pub(crate) enum Fate {
    Fail(UpstreamError),
    /// These vectors, whatever was asked.
    Make(Vec<Vec<f32>>),
    /// As usual, but the server does not count.
    Uncounted,
    /// Silence until the request is dropped.
    Stall,
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
    /// What becomes of the next embeddings; when they run out, all goes well.
    next_embeddings: Mutex<VecDeque<Fate>>,
    /// The texts of each embedding.
    embedded: Mutex<Vec<Vec<String>>>,
    memory: Mutex<Memory>,
    probe: Mutex<Result<(), UpstreamError>>,
    probes: AtomicUsize,
    open: watch::Sender<usize>,
}

/// What the server holds, how it loads, and what was done to it that never should be.
struct Memory {
    loaded: BTreeSet<String>,
    /// More than these at once are a wrong.
    limit: usize,
    load_takes: Duration,
    /// How the next loads end; when they run out, well.
    next_loads: VecDeque<Result<(), UpstreamError>>,
    next_unloads: VecDeque<Result<(), UpstreamError>>,
    is_loading: bool,
    /// Open answers by model.
    used: BTreeMap<String, usize>,
    /// Loads and unloads in order, such as `load a`.
    deeds: Vec<String>,
    wrongs: Vec<String>,
}

impl Memory {
    fn free() -> Self {
        Self {
            loaded: BTreeSet::new(),
            limit: usize::MAX,
            load_takes: Duration::ZERO,
            next_loads: VecDeque::new(),
            next_unloads: VecDeque::new(),
            is_loading: false,
            used: BTreeMap::new(),
            deeds: Vec::new(),
            wrongs: Vec::new(),
        }
    }
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
            next_embeddings: Mutex::default(),
            embedded: Mutex::default(),
            memory: Mutex::new(Memory::free()),
            probe: Mutex::new(Ok(())),
            probes: AtomicUsize::new(0),
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

    /// The server as the room keeps it, with the defaults of the configuration but for `change`.
    pub(in crate::model) fn upstream_with(&self, change: impl FnOnce(&mut UpstreamRules)) -> Arc<Upstream> {
        let config = ModelConfig::default();
        let mut rules = UpstreamRules {
            name: "scripted".into(),
            weight: 1,
            has_memory: true,
            residency: ResidencyRules { limit: config.max_loaded, min_residence: config.min_residence },
            breaker_failures: config.breaker_failures,
        };
        change(&mut rules);
        let provider = AnyProvider::Scripted(self.provider());
        Upstream::new(rules, provider, TaskTracker::new(), CancellationToken::new())
    }

    pub(in crate::model) fn upstream(&self) -> Arc<Upstream> {
        self.upstream_with(|_| ())
    }

    /// How long a load takes from now on, and how many models may be loaded at once before it counts as a wrong.
    pub(crate) fn memory(&self, load_takes: Duration, limit: usize) {
        let mut memory = self.0.memory.lock();
        (memory.load_takes, memory.limit) = (load_takes, limit);
    }

    /// How the next load without a fate ends.
    pub(crate) fn then_load(&self, result: Result<(), UpstreamError>) {
        self.0.memory.lock().next_loads.push_back(result);
    }

    pub(crate) fn then_unload(&self, result: Result<(), UpstreamError>) {
        self.0.memory.lock().next_unloads.push_back(result);
    }

    /// Somebody else has these models loaded now, and no others.
    pub(crate) fn holds(&self, models: &[&str]) {
        self.0.memory.lock().loaded = models.iter().map(|model| (*model).to_owned()).collect();
    }

    /// Loads and unloads so far, such as `load a`.
    pub(crate) fn deeds(&self) -> Vec<String> {
        self.0.memory.lock().deeds.clone()
    }

    /// What never should have been done: a prompt for a model that is not loaded, one that is unloaded while it is used, two
    /// loads at once, too many models.
    pub(crate) fn wrongs(&self) -> Vec<String> {
        self.0.memory.lock().wrongs.clone()
    }

    pub(crate) fn probe_as(&self, result: Result<(), UpstreamError>) {
        *self.0.probe.lock() = result;
    }

    pub(crate) fn probes(&self) -> usize {
        self.0.probes.load(Ordering::Relaxed)
    }

    /// The texts of each embedding so far.
    pub(crate) fn embedded(&self) -> Vec<Vec<String>> {
        self.0.embedded.lock().clone()
    }

    /// What becomes of the next embeddings that are not spoken for.
    pub(crate) fn then_embed(&self, fates: impl IntoIterator<Item = Fate>) {
        self.0.next_embeddings.lock().extend(fates);
    }

    /// The prompts so far, with the model names they were sent under.
    pub(crate) fn prompts(&self) -> Vec<(String, ChatRequest)> {
        self.0.prompts.lock().clone()
    }

    /// Answers and embeddings not dropped yet; wait on it to see a cancelled one go.
    pub(crate) fn open(&self) -> watch::Receiver<usize> {
        self.0.open.subscribe()
    }
}

pub struct ScriptedProvider(Script);

impl Provider for ScriptedProvider {
    fn list(&self) -> BoxFuture<'_, Result<Vec<ModelCard>, UpstreamError>> {
        Box::pin(async { self.0.0.cards.lock().clone() })
    }

    fn loaded(&self) -> BoxFuture<'_, Result<Vec<String>, UpstreamError>> {
        Box::pin(async { Ok(self.0.0.memory.lock().loaded.iter().cloned().collect()) })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), UpstreamError>> {
        Box::pin(async {
            self.0.0.probes.fetch_add(1, Ordering::Relaxed);
            self.0.0.probe.lock().clone()
        })
    }

    fn preload<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<(), UpstreamError>> {
        Box::pin(async move {
            let takes = {
                let mut memory = self.0.0.memory.lock();
                memory.deeds.push(format!("load {model}"));
                if memory.is_loading {
                    memory.wrongs.push(format!("{model} is loaded beside another"));
                }
                if memory.loaded.len() >= memory.limit && !memory.loaded.contains(model) {
                    let held = memory.loaded.clone();
                    memory.wrongs.push(format!("{model} is loaded beside {held:?}"));
                }
                memory.is_loading = true;
                memory.load_takes
            };
            sleep_until(Instant::now() + takes).await;
            let mut memory = self.0.0.memory.lock();
            memory.is_loading = false;
            memory.next_loads.pop_front().unwrap_or(Ok(()))?;
            memory.loaded.insert(model.to_owned());
            Ok(())
        })
    }

    fn unload<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<(), UpstreamError>> {
        Box::pin(async move {
            let mut memory = self.0.0.memory.lock();
            memory.deeds.push(format!("unload {model}"));
            if memory.used.get(model).is_some_and(|used| *used > 0) {
                memory.wrongs.push(format!("{model} is unloaded while it is used"));
            }
            memory.next_unloads.pop_front().unwrap_or(Ok(()))?;
            memory.loaded.remove(model);
            Ok(())
        })
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
            Ok(Box::new(ScriptedAnswer::new(&self.0, model, steps)) as Box<dyn AnswerStream>)
        })
    }

    /// A text's vector is its length, and it is a token.
    fn embed<'a>(
        &'a self,
        model: &'a str,
        request: &'a EmbedRequest,
    ) -> BoxFuture<'a, Result<Embeddings, UpstreamError>> {
        Box::pin(async move {
            self.0.0.embedded.lock().push(request.inputs.clone());
            let _open = Open::new(&self.0, model);
            let usual = request.inputs.iter().map(|text| vec![text.len() as f32]).collect();
            let prompt_tokens = u32::try_from(request.inputs.len()).unwrap_or_default();
            let usage = Usage { prompt_tokens, completion_tokens: 0, source: UsageSource::Reported };
            let fate = self.0.0.next_embeddings.lock().pop_front();
            let (vectors, usage) = match fate {
                None => (usual, Some(usage)),
                Some(Fate::Uncounted) => (usual, None),
                Some(Fate::Make(vectors)) => (vectors, Some(usage)),
                Some(Fate::Fail(error)) => return Err(error),
                Some(Fate::Stall) => pending().await,
            };
            Ok(Embeddings { vectors, usage })
        })
    }
}

/// A request under way: its model may not be unloaded meanwhile.
struct Open {
    script: Script,
    model: String,
}

impl Open {
    fn new(script: &Script, model: &str) -> Self {
        let mut memory = script.0.memory.lock();
        if !memory.loaded.contains(model) {
            memory.wrongs.push(format!("{model} is asked and not loaded"));
        }
        *memory.used.entry(model.to_owned()).or_default() += 1;
        drop(memory);
        script.0.open.send_modify(|open| *open += 1);
        Self { script: script.clone(), model: model.to_owned() }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        *self.script.0.memory.lock().used.entry(self.model.clone()).or_default() -= 1;
        self.script.0.open.send_modify(|open| *open -= 1);
    }
}

struct ScriptedAnswer {
    _open: Open,
    steps: VecDeque<Step>,
    /// When the wait under way ends; kept here so that a read can be dropped and begun again.
    waking: Option<Instant>,
}

impl ScriptedAnswer {
    fn new(script: &Script, model: &str, steps: Vec<Step>) -> Self {
        Self { _open: Open::new(script, model), steps: steps.into(), waking: None }
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
        chat::{ChatMessage, Role},
        model_name::ModelName,
    };
    use futures_util::FutureExt;

    use super::*;

    fn request() -> ChatRequest {
        ChatRequest::new(ModelName::parse("m").unwrap(), vec![ChatMessage::text(Role::User, "hi")])
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
    async fn a_script_loads_as_it_is_told_and_notes_what_is_wrong() {
        let script = Script::new(&["m"], answer("fine"));
        let provider = script.provider();
        script.memory(Duration::from_secs(1), 1);
        script.then_load(Err(UpstreamError::Busy));
        assert_eq!(provider.preload("m").await, Err(UpstreamError::Busy));
        assert_eq!(provider.loaded().await, Ok(Vec::new()));
        let stray = provider.chat("m", &request()).await.unwrap();
        drop(stray);
        assert_eq!(provider.preload("m").await, Ok(()));
        assert_eq!(provider.loaded().await, Ok(vec!["m".to_owned()]));
        let used = provider.chat("m", &request()).await.unwrap();
        let both = tokio::join!(provider.preload("n"), provider.preload("m"));
        assert_eq!(both, (Ok(()), Ok(())));
        assert_eq!(provider.unload("m").await, Ok(()));
        drop(used);
        assert_eq!(provider.unload("n").await, Ok(()));
        assert_eq!(script.deeds(), ["load m", "load m", "load n", "load m", "unload m", "unload n"]);
        assert_eq!(
            script.wrongs(),
            [
                "m is asked and not loaded",
                "n is loaded beside {\"m\"}",
                "m is loaded beside another",
                "m is unloaded while it is used"
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_script_can_hold_stall_and_kill_its_reader() {
        let script = Script::new(&["m"], Vec::new());
        let (go, mut batch) = (Arc::new(Notify::new()), Batch::default());
        script.always(Err(UpstreamError::NoSuchModel));
        let mut held = ScriptedAnswer::new(&script, "m", vec![Step::Await(Arc::clone(&go)), Step::Stall]);
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
        let mut fatal = ScriptedAnswer::new(&script, "m", vec![Step::Panic]);
        let died = std::panic::AssertUnwindSafe(fatal.read(&mut batch)).catch_unwind().await;
        assert!(died.is_err());
    }
}
