//! The service as a process on one store, through all its lives, before one model server.

use std::{
    path::PathBuf,
    time::{Duration, Instant as StdInstant},
};

use serde_json::json;
use support::{
    clock,
    fake_ollama::{self, FakeOllama},
    gateway::Gateway,
    process::Scratch,
};
use tokio::time::Instant;

use super::{
    caller::{SLOTS, models},
    kept::overdue,
    questions,
    scene::{Life, Scene},
};
use crate::harness::{Call, Database, PASSWORD, Store, clock_ahead, start_process, until};

/// People who ask, each from several places at once.
const ACCOUNTS: usize = 4;

/// Longer than a lease and the sweep that follows it.
const PAST_EVERY_LEASE: &str = "+45s";

pub(super) struct Ground {
    pub(super) ollama: FakeOllama,
    pub(super) database: Database,
    gateway: Option<Gateway>,
    pub(super) scene: Scene,
    /// Access tokens of the accounts.
    pub(super) accounts: Vec<String>,
    /// When each life ended.
    pub(super) kills: Vec<Instant>,
    /// The questions that reached the model server.
    calls: Vec<String>,
    /// The slowest start.
    pub(super) slowest_start: Duration,
    scratch: Scratch,
}

impl Ground {
    pub(super) async fn lay(store: Store) -> Self {
        let scratch = Scratch::new("kill", None).unwrap();
        let database = Database::make(store, &scratch.path().join("data")).await;
        let ollama = FakeOllama::start(fake_ollama::Config::with(models())).await.unwrap();
        let mut ground = Self {
            ollama,
            database,
            gateway: None,
            scene: Scene::empty(),
            accounts: Vec::new(),
            kills: Vec::new(),
            calls: Vec::new(),
            slowest_start: Duration::ZERO,
            scratch,
        };
        let life = ground.start(&[]).await;
        for account in 0..ACCOUNTS {
            let credentials = json!({"email": format!("{account}@example.org"), "password": PASSWORD});
            let post = |path: &str| Call::new(life.addr, "POST", path).json(&credentials).send();
            post("/v1/auth/signup").await.expect_status(201);
            let tokens = post("/v1/auth/login").await.expect_status(200).json();
            ground.accounts.push(tokens["access_token"].as_str().unwrap().to_owned());
        }
        ground.scene.enter(life);
        ground
    }

    /// Begins the next life, and returns when it is ready for turns.
    async fn start(&mut self, more: &[(&str, String)]) -> Life {
        let data_dir = self.scratch.path().join("data").display().to_string();
        let (server, slots) = (format!("http://{}", self.ollama.addr()), SLOTS.to_string());
        let mut settings = vec![
            ("DATA_DIR", data_dir.as_str()),
            ("OLLAMA_BASE_URL", &server),
            ("OLLAMA_NUM_PARALLEL", &slots),
            ("JWT_ACCESS_TTL_SECS", "86400"),
            ("RATE_LIMIT_REQUESTS_PER_MINUTE", "1000000"),
            ("RATE_LIMIT_BURST", "1000000"),
            // One less than each account has callers, so that some wait for others of their own.
            ("STREAMS_PER_USER", "2"),
        ];
        settings.extend(more.iter().map(|(name, value)| (*name, value.as_str())));
        let (begun, dead) = (StdInstant::now(), clock::now());
        let gateway = start_process(&self.scratch, &self.database, &settings).await;
        let life = Life { number: self.kills.len(), addr: gateway.addr };
        let ready = async || Call::new(life.addr, "GET", "/readyz").send().await.status == 200;
        until("the service to be ready", ready).await;
        self.slowest_start = self.slowest_start.max(begun.elapsed());
        self.gateway = Some(gateway);
        until("the sweep of what the dead left", async || overdue(&self.database, dead).await == 0).await;
        life
    }

    /// Kills the service where it stands, and starts it again.
    pub(super) async fn kill(&mut self) {
        self.die();
        let life = self.start(&[]).await;
        self.scene.enter(life);
    }

    /// Kills it for the last time.
    pub(super) fn die(&mut self) {
        self.kills.push(Instant::now());
        self.gateway.take().unwrap().kill();
        self.scene.leave();
        let log = std::fs::read_to_string(self.log()).unwrap();
        let complaint = log.lines().find(|line| line.contains(r#""level":"ERROR""#));
        assert_eq!(complaint, None);
        self.hear();
    }

    fn log(&self) -> PathBuf {
        self.scratch.path().join("gateway.log")
    }

    /// A life that is not killed, in which no lease of the dead is left: by a clock that is ahead, or by waiting them out. Where others
    /// may be at work on the store, it takes nobody for dead before it has reached it for a whole lease.
    pub(super) async fn afterlife(&mut self, waits: bool) -> Life {
        let life =
            if waits { self.start(&[]).await } else { self.start(&clock_ahead(PAST_EVERY_LEASE)).await };
        let streaming = "SELECT count(*) FROM turns WHERE status = 'streaming'";
        for _ in 0..2 {
            if self.database.number(streaming).await > 0 {
                tokio::time::sleep(Duration::from_secs(15)).await;
            }
        }
        until("no turn to stream", async || self.database.number(streaming).await == 0).await;
        life
    }

    /// Takes in what the model server was asked.
    fn hear(&mut self) {
        self.calls.extend(questions(self.ollama.control().take_requests()));
    }

    /// All the questions that reached the model server.
    pub(super) async fn calls(&mut self) -> &[String] {
        let fake = self.ollama.control();
        fake.wait_until(|seen| seen.in_flight == 0, crate::harness::PATIENCE).await.unwrap();
        self.hear();
        &self.calls
    }

    /// Ends the last life in peace.
    pub(super) async fn finish(mut self) {
        let ended = self.gateway.take().unwrap().terminate(Duration::from_secs(40)).await.unwrap();
        assert!(ended.0.success(), "{}", ended.0);
        self.database.remove().await;
    }
}
