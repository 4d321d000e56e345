//! The service as a process of its own before a model that takes the same time for every answer.

use std::{pin::pin, time::Duration};

use support::{
    fake_ollama::{Config, FakeOllama, Model},
    gateway::Gateway,
    process::{Scratch, memory},
};
use tokio::time::{MissedTickBehavior, interval};

use super::{Size, callers::TOKENS};
use crate::harness::{Database, MODEL, Store, canaries, start_process};

/// Often enough to see a peak that lasts.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(super) struct Ground {
    pub(super) gateway: Gateway,
    pub(super) fake: FakeOllama,
    pub(super) database: Database,
    _scratch: Scratch,
}

impl Ground {
    pub(super) async fn start(size: &Size) -> Self {
        let model = Model::new(MODEL).parallel(size.slots).prefill(size.service).tokens(TOKENS);
        let fake = FakeOllama::start(Config { logged_requests: 0, ..Config::with([model]) }).await.unwrap();
        let scratch = Scratch::new("overload", None).unwrap();
        let database = Database::make(Store::Sqlite, &scratch.path().join("data")).await;
        let (slots, queue) = (size.slots.to_string(), size.queue().to_string());
        let settings = [
            ("OLLAMA_BASE_URL", fake.url()),
            ("OLLAMA_NUM_PARALLEL", slots),
            ("MODEL_QUEUE_PER_USER", queue.clone()),
            ("MODEL_QUEUE_LIMIT", queue),
            // On, and above what any one caller sends.
            ("RATE_LIMIT_REQUESTS_PER_MINUTE", "6000".to_owned()),
            ("RATE_LIMIT_BURST", "1000".to_owned()),
        ];
        let settings: Vec<_> = settings.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let gateway = start_process(&scratch, &database, &settings).await;
        Self { gateway, fake, database, _scratch: scratch }
    }

    /// How long the model takes for an answer from now on.
    pub(super) fn set_service_time(&self, time: Duration) {
        assert!(self.fake.control().change_model(MODEL, |model| model.prefill = time));
    }

    /// Bytes of memory that the service has.
    pub(super) fn memory(&self) -> u64 {
        memory(self.gateway.pid(), "VmRSS").unwrap()
    }

    /// Does `work` and watches the service's memory meanwhile, in bytes, from its beginning to its end.
    pub(super) async fn watched<T>(&self, work: impl Future<Output = T>) -> (T, Vec<u64>) {
        let (mut work, mut looks) = (pin!(work), vec![self.memory()]);
        let mut every = interval(LOOK_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                done = &mut work => {
                    looks.push(self.memory());
                    return (done, looks);
                }
                _ = every.tick() => looks.push(self.memory()),
            }
        }
    }

    /// Asserts that the model was never asked for more at once than it has slots, and that nothing broke.
    pub(super) fn finish(self, size: &Size) {
        let counters = self.fake.control().counters();
        assert_eq!(counters.max_in_flight, size.slots as u64, "{counters:#?}");
        assert_eq!((counters.in_flight, counters.cancellations, counters.busy), (0, 0, 0), "{counters:#?}");
        let said = self.gateway.said().unwrap();
        canaries::assert_none("the log", &said);
        let is_error = |line: &&str| line.contains(r#""level":"ERROR""#);
        assert_eq!(said.lines().find(is_error), None);
    }
}
