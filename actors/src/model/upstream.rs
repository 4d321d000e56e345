//! One model server as the room sees it: its provider, whether it is worth asking, and what it holds in memory.
//!
//! It outlives the router, so a router's death forgets neither an open breaker nor a load under way.
//!
//! # When it breaks
//!
//! Loads and probes are tasks of the room, begun when there is something to do. One that dies leaves nothing stuck: who
//! waits for a load asks again, and a breaker whose prober died is closed.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use domain::{model_name::ModelName, rendezvous::Affinity};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ModelConfig, Timeouts, UpstreamConfig, UpstreamKind,
    breaker::{Breaker, PROBE_EVERY, Phase},
    provider::{AnyProvider, ModelCard, Provider, UpstreamError},
    residents::{Driver, Occupancy, ResidencyRules, Residents, Standing, Stay, Step},
    retry_budget::RetryBudget,
};

/// How long a server that may be back has to answer.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);

/// What the operator decided about one server.
#[derive(Debug, Clone)]
pub(super) struct UpstreamRules {
    pub name: Arc<str>,
    pub weight: u32,
    /// Whether models are loaded there at all.
    pub has_memory: bool,
    pub residency: ResidencyRules,
    /// Failures in a row that open its breaker.
    pub breaker_failures: u32,
}

impl UpstreamRules {
    pub fn of(config: &ModelConfig, server: &UpstreamConfig) -> Self {
        Self {
            name: server.name.as_str().into(),
            weight: server.weight,
            // The built-in model is asked to load like any other, so that tests and trials see it.
            has_memory: server.kind.has_memory() || server.kind == UpstreamKind::Demo,
            residency: config.residency_of(server),
            breaker_failures: config.breaker_failures,
        }
    }
}

/// What a server is called and its share of the turns; a reload may change both while it stays the same server.
struct Title {
    name: Arc<str>,
    weight: u32,
}

pub(super) struct Upstream {
    title: ArcSwap<Title>,
    provider: AnyProvider,
    breaker: Breaker,
    has_memory: bool,
    residents: Arc<Residents>,
    retries: RetryBudget,
    /// Models it sends on to somebody else's machine, as it last listed them.
    elsewhere: ArcSwap<HashSet<String>>,
    /// Whether an operator lets no turn begin here any more.
    draining: watch::Sender<bool>,
    /// Whether it answered when it last had to.
    answers: AtomicBool,
    /// How often it failed us, by [`UpstreamError::kind`].
    failures: [AtomicU64; UpstreamError::KINDS.len()],
    /// Turns it failed before they said anything and that went to another server.
    moved: AtomicU64,
    tracker: TaskTracker,
    /// Ends loads and probes.
    halt: CancellationToken,
}

impl Upstream {
    pub fn new(
        rules: UpstreamRules,
        provider: AnyProvider,
        tracker: TaskTracker,
        halt: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            title: ArcSwap::from_pointee(Title { name: rules.name, weight: rules.weight }),
            provider,
            breaker: Breaker::new(rules.breaker_failures),
            has_memory: rules.has_memory,
            residents: Residents::new(rules.residency),
            retries: RetryBudget::new(),
            elsewhere: ArcSwap::default(),
            draining: watch::Sender::new(false),
            answers: AtomicBool::new(true),
            failures: Default::default(),
            moved: AtomicU64::new(0),
            tracker,
            halt,
        })
    }

    /// Goes by other rules from now on; what is under way goes on by those it began with.
    pub fn reconfigure(&self, rules: UpstreamRules, timeouts: Timeouts) {
        self.title.store(Arc::new(Title { name: rules.name, weight: rules.weight }));
        self.residents.set_rules(rules.residency);
        self.provider.set_timeouts(timeouts);
    }

    pub fn name(&self) -> Arc<str> {
        self.title.load().name.clone()
    }

    pub fn weight(&self) -> u32 {
        self.title.load().weight
    }

    /// How much it wants this key; see [`domain::rendezvous`].
    pub fn score(&self, key: Affinity) -> f64 {
        let title = self.title.load();
        key.score(&title.name, title.weight)
    }

    pub fn provider(&self) -> &dyn Provider {
        self.provider.as_provider()
    }

    /// What it offers; on the way, what it holds is learnt. Bounded by the provider's own timeouts.
    pub async fn list(self: &Arc<Self>) -> Result<Vec<ModelCard>, UpstreamError> {
        let asked_at = Instant::now();
        let (cards, loaded) = tokio::join!(self.provider().list(), self.provider().loaded());
        if let Ok(loaded) = loaded {
            self.residents.learn(loaded, asked_at);
        }
        self.answers.store(cards.is_ok(), Ordering::Relaxed);
        if let Ok(cards) = &cards {
            let elsewhere = cards.iter().filter(|card| runs_elsewhere(card)).map(|card| card.name.clone());
            self.elsewhere.store(Arc::new(elsewhere.collect()));
        }
        match &cards {
            Err(error @ UpstreamError::Connect(_)) => self.failed(error),
            // Says little about turns: it may be slow where they are not.
            Err(error) => self.count(error),
            Ok(_) => {}
        }
        cards
    }

    /// Enters `model`, waiting for it to be loaded if need be; see [`super::residents`]. `tell` hears how long that should take.
    ///
    /// # Errors
    ///
    /// What the load failed of, which is counted already; [`UpstreamError::Busy`] is worth another try.
    pub async fn enter(
        self: &Arc<Self>,
        model: &Arc<str>,
        tell: impl Fn(Option<Duration>),
    ) -> Result<Stay, UpstreamError> {
        self.retries.earn();
        if !self.holds_in_memory(model) {
            return Ok(Stay::elsewhere());
        }
        let waiting = match self.residents.enter(model) {
            Ok(stay) => return Ok(stay),
            Err(waiting) => waiting,
        };
        if let Some(driver) = self.residents.driver() {
            let (upstream, halt) = (self.clone(), self.halt.clone());
            self.tracker.spawn(async move { halt.run_until_cancelled(upstream.drive(driver)).await });
        }
        waiting.entered(tell).await
    }

    /// Loads and unloads, one after another, until nobody waits.
    async fn drive(self: &Arc<Self>, mut driver: Driver) {
        loop {
            match driver.next() {
                Step::Rest => return,
                Step::Wait(until) => driver.change(until).await,
                Step::Load(model) => {
                    self.worth_asking().await;
                    let begun = Instant::now();
                    let result = self.provider().preload(&model).await;
                    match &result {
                        Ok(()) => {
                            let seconds = begun.elapsed().as_secs_f64();
                            tracing::info!(upstream = %self.name(), %model, seconds, "model loaded");
                        }
                        Err(error) => {
                            tracing::warn!(upstream = %self.name(), %model, %error, "model was not loaded");
                            self.failed(error);
                        }
                    }
                    driver.loaded(&model, result);
                }
                Step::Unload(model) => {
                    let result = match self.provider().unload(&model).await {
                        // It is gone altogether.
                        Err(UpstreamError::NoSuchModel) => Ok(()),
                        result => result,
                    };
                    match &result {
                        Ok(()) => tracing::info!(upstream = %self.name(), %model, "model unloaded"),
                        Err(error) => {
                            tracing::warn!(upstream = %self.name(), %model, %error, "model was not unloaded");
                            self.failed(error);
                        }
                    }
                    driver.unloaded(&model, result);
                }
            }
        }
    }

    /// A turn was answered.
    pub fn worked(&self) {
        self.answers.store(true, Ordering::Relaxed);
        self.breaker.worked();
    }

    /// Counts a failure for the metrics, and nothing else.
    pub fn count(&self, error: &UpstreamError) {
        self.failures[error.kind()].fetch_add(1, Ordering::Relaxed);
    }

    /// A turn that it failed before it said anything goes to another server.
    pub fn moved_on(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }

    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// How often it failed us, by kind.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        UpstreamError::KINDS.into_iter().zip(self.failures.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// Counts a failure, also against the server if it is its own; the one that opens the breaker has the server probed.
    pub fn failed(self: &Arc<Self>, error: &UpstreamError) {
        self.count(error);
        if error.is_the_servers_own() && self.breaker.failed() {
            tracing::warn!(upstream = %self.name(), %error, "model server fails; its breaker is open");
            let (upstream, halt) = (self.clone(), self.halt.clone());
            self.tracker.spawn(async move { halt.run_until_cancelled(upstream.probe()).await });
        }
    }

    async fn probe(self: &Arc<Self>) {
        let _prober = Prober(self);
        loop {
            sleep(PROBE_EVERY).await;
            self.breaker.probing();
            tracing::debug!(upstream = %self.name(), "probing the model server; its breaker is half-open");
            if let Ok(Ok(())) = timeout(PROBE_PATIENCE, self.provider().probe()).await {
                break;
            }
            self.breaker.still_away();
        }
        // What it held before, it may hold no more.
        let asked_at = Instant::now();
        if let Ok(Ok(loaded)) = timeout(PROBE_PATIENCE, self.provider().loaded()).await {
            self.residents.learn(loaded, asked_at);
        }
        self.answers.store(true, Ordering::Relaxed);
        tracing::info!(upstream = %self.name(), "model server answers again; its breaker is closed");
    }

    /// Waits until it is worth asking.
    pub async fn worth_asking(&self) {
        self.breaker.closed().await;
    }

    /// Lets turns begin here or not; those that run go on. Says whether that was otherwise before.
    pub fn set_draining(&self, drains: bool) -> bool {
        self.draining.send_if_modified(|draining| std::mem::replace(draining, drains) != drains)
    }

    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Whether turns may begin here now.
    pub fn takes_turns(&self) -> bool {
        !self.is_draining() && self.breaker.phase() == Phase::Closed
    }

    /// Waits until turns may begin here. Bounded by whoever waits.
    pub async fn will_take_turns(&self) {
        while !self.takes_turns() {
            self.breaker.closed().await;
            // The sender is ours, so it cannot be gone.
            let _ = self.draining.subscribe().wait_for(|draining| !draining).await;
        }
    }

    /// Waits until its breaker is not closed.
    pub async fn given_up(&self) {
        self.breaker.opened().await;
    }

    /// Whether a turn may be tried once more now.
    pub fn may_retry(&self) -> bool {
        self.breaker.phase() == Phase::Closed && self.retries.take()
    }

    /// How long until it is known whether it is back; `None` while it is worth asking.
    pub fn refuses_for(&self) -> Option<Duration> {
        self.breaker.refuses_for()
    }

    pub fn breaker(&self) -> Phase {
        self.breaker.phase()
    }

    /// Whether it answers, as far as we know.
    pub fn is_up(&self) -> bool {
        self.breaker.phase() == Phase::Closed && self.answers.load(Ordering::Relaxed)
    }

    pub fn standing(&self, model: &str) -> Standing {
        if !self.holds_in_memory(model) {
            return Standing { is_loaded: true, is_awaited: false };
        }
        self.residents.standing(model)
    }

    /// Whether the model has to be loaded here before it answers.
    fn holds_in_memory(&self, model: &str) -> bool {
        self.has_memory && !self.elsewhere.load().contains(model)
    }

    pub fn occupancy(&self) -> Occupancy {
        self.residents.occupancy()
    }
}

fn runs_elsewhere(card: &ModelCard) -> bool {
    card.is_remote || ModelName::parse(&card.name).is_ok_and(|name| name.canonical().is_cloud())
}

/// Closes the breaker when the probing ends, however it ends: nobody else would.
struct Prober<'a>(&'a Upstream);

impl Drop for Prober<'_> {
    fn drop(&mut self) {
        self.0.breaker.close();
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::provider::scripted::{Script, answer},
        *,
    };

    fn away() -> UpstreamError {
        UpstreamError::Connect("refused".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn d06_only_the_servers_own_failures_open_its_breaker() {
        let upstream = Script::new(&["m"], answer("x")).upstream();
        let none_of_its_own = [
            UpstreamError::Busy,
            UpstreamError::Rejected("no".to_owned()),
            UpstreamError::Declined("status 401".to_owned()),
            UpstreamError::NoSuchModel,
            UpstreamError::Incomplete,
            UpstreamError::IdleTimeout(Duration::ZERO),
        ];
        for error in none_of_its_own.iter().cycle().take(1_000) {
            upstream.failed(error);
        }
        assert_eq!((upstream.breaker(), upstream.is_up()), (Phase::Closed, true));
        let its_own = [
            away(),
            UpstreamError::Failed("status 500".to_owned()),
            UpstreamError::Garbage("<html>".to_owned()),
            UpstreamError::FirstByteTimeout(Duration::ZERO),
            away(),
        ];
        for error in &its_own {
            assert_eq!(upstream.breaker(), Phase::Closed);
            upstream.failed(error);
            // What is none of its own says nothing either way.
            upstream.failed(&UpstreamError::Busy);
        }
        assert_eq!((upstream.breaker(), upstream.is_up()), (Phase::Open, false));
    }

    #[tokio::test(start_paused = true)]
    async fn d06_a_server_that_is_away_is_probed_each_second_and_what_it_held_is_asked_anew() {
        let script = Script::new(&["m"], answer("x"));
        script.probe_as(Err(away()));
        let upstream = script.upstream_with(|rules| rules.breaker_failures = 1);
        let model: Arc<str> = "m".into();
        drop(upstream.enter(&model, |_| ()).await.unwrap());
        sleep(PROBE_EVERY).await;
        assert!(upstream.standing("m").is_loaded);
        script.list_as(Err(away()));
        assert_eq!(upstream.list().await, Err(away()));
        assert!(!upstream.may_retry());
        script.holds(&[]);
        for probes in 1..=5 {
            sleep(PROBE_EVERY).await;
            tokio::task::yield_now().await;
            assert_eq!((script.probes(), upstream.breaker()), (probes, Phase::Open));
        }
        script.probe_as(Ok(()));
        let back = Instant::now();
        upstream.worth_asking().await;
        assert!(back.elapsed() <= PROBE_EVERY);
        assert!(upstream.is_up() && upstream.may_retry() && !upstream.standing("m").is_loaded);
        sleep(PROBE_EVERY * 10).await;
        assert_eq!(script.probes(), 6, "nobody probes what answers");
    }

    #[tokio::test(start_paused = true)]
    async fn a_model_that_runs_elsewhere_takes_no_memory_here() {
        let script = Script::new(&["gpt-oss:20b-cloud", "m"], answer("x"));
        let upstream = script.upstream_with(|rules| rules.residency.limit = Some(1));
        upstream.list().await.unwrap();
        let (cloud, here): (Arc<str>, Arc<str>) = ("gpt-oss:20b-cloud".into(), "m".into());
        let told = |_| panic!("nobody waits");
        let _stay = upstream.enter(&cloud, told).await.unwrap();
        assert!(upstream.standing(&cloud).is_loaded);
        let _other = upstream.enter(&here, |_| ()).await.unwrap();
        assert_eq!(script.deeds(), ["load m"]);
    }
}
