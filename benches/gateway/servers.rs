//! The three programs of a run: the fake Ollama, nginx as a plain proxy, and the service itself.
//!
//! Fake server and load share one core, the measured systems the other. Dropping a server ends its process; if the
//! benchmark is killed, they end with it.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::json;
use support::{
    client::{Connection, with_body},
    gateway,
    nginx::{self, Nginx},
    process::{Scratch, Service},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    process::{Family, pinned},
    request::MODEL,
};

const START_PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Changes on their way into the store.
const WRITING: &str = "deepersensor_gate_in_use{gate=\"db_write\"}";
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
const EMAIL: &str = "load@example.org";
const PASSWORD: &str = "a long enough passphrase";

/// Where everything is found and kept.
pub struct Place {
    pub gateway: PathBuf,
    pub fake: PathBuf,
    pub load_core: usize,
    pub system_core: usize,
    /// Holds the gateway's data and all logs; one account lives through all its restarts.
    pub scratch: Scratch,
}

/// How the fake model answers.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// 0 is full speed.
    pub tokens_per_second: u32,
    pub stamps: bool,
}

impl Pace {
    pub const FULL: Self = Self { tokens_per_second: 0, stamps: false };

    pub const fn stamped(tokens_per_second: u32) -> Self {
        Self { tokens_per_second, stamps: true }
    }
}

pub struct FakeOllama {
    _service: Service,
    pub addr: SocketAddr,
}

impl FakeOllama {
    /// Starts it with `slots` answers at once.
    pub async fn start(place: &Place, pace: Pace, slots: usize) -> Result<Self> {
        /// Longer than any answer asked for.
        const TOKENS_MAX: &str = "100000";
        let out = place.scratch.path().join("fake.out");
        let mut command = pinned(place.load_core, &place.fake)?;
        command.args(["--models", MODEL, "--tokens", TOKENS_MAX, "--slots", &slots.to_string()]);
        command.args(["--tokens-per-s", &pace.tokens_per_second.to_string()]);
        if pace.stamps {
            command.arg("--stamp-tokens");
        }
        command.stdout(File::create(&out)?).stderr(File::create(place.scratch.path().join("fake.err"))?);
        let mut service = Service::start(command, None, &place.scratch, "TERM")?;
        let give_up = Instant::now() + START_PATIENCE;
        loop {
            let said = fs::read_to_string(&out)?;
            if let Some(url) = said.strip_suffix('\n') {
                let addr =
                    url.trim_start_matches("http://").parse().context("no address of the fake server")?;
                return Ok(Self { _service: service, addr });
            }
            ensure!(service.ended()?.is_none() && Instant::now() < give_up, "the fake server does not start");
            sleep(LOOK_EVERY).await;
        }
    }
}

/// A plain proxy before `upstream`, on the measured systems' core.
pub async fn start_nginx(place: &Place, upstream: SocketAddr) -> Result<(Nginx, Family)> {
    let nginx = Nginx::start(&nginx::plain_sse_proxy(upstream)).await?;
    // It listens before its worker exists, and an answer comes from the worker.
    get(nginx.addr(), "/api/version").await?;
    let family = Family::of(nginx.pid());
    family.pin(place.system_core)?;
    Ok((nginx, family))
}

/// `deepersensor serve` with authentication, limits, queue and store on, and bounds above what the load needs.
pub struct Gateway {
    process: gateway::Gateway,
    pub addr: SocketAddr,
}

impl Gateway {
    /// Starts it with as many slots as the model server has; it keeps everything in SQLite.
    pub async fn start(place: &Place, upstream: SocketAddr, slots: usize) -> Result<Self> {
        Self::start_on(place, upstream, slots, None).await
    }

    /// The same on this Postgres, if there is one.
    pub async fn start_on(
        place: &Place,
        upstream: SocketAddr,
        slots: usize,
        database_url: Option<&str>,
    ) -> Result<Self> {
        let mut command = pinned(place.system_core, &place.gateway)?;
        command.env_clear();
        configure(&mut command, place, upstream, slots);
        command.envs(database_url.map(|url| ("DATABASE_URL", url)));
        let process = gateway::Gateway::start(command, &place.scratch).await?;
        Ok(Self { addr: process.addr, process })
    }

    pub fn family(&self) -> Family {
        Family::of(self.process.pid())
    }

    /// Makes the account of the benchmark.
    pub async fn sign_up(&self) -> Result<()> {
        let (status, reply) = post(self.addr, "/v1/auth/signup", "", &credentials()).await?;
        ensure!(status == 201, "cannot sign up: {status} {reply}");
        Ok(())
    }

    /// Signs in and returns the access token, which outlives a restart.
    pub async fn log_in(&self) -> Result<String> {
        #[derive(Deserialize)]
        struct Tokens {
            access_token: String,
        }
        let (status, reply) = post(self.addr, "/v1/auth/login", "", &credentials()).await?;
        ensure!(status == 200, "cannot sign in: {status} {reply}");
        Ok(serde_json::from_str::<Tokens>(&reply)?.access_token)
    }

    /// Makes an API key that may ask for models.
    pub async fn create_key(&self, access_token: &str) -> Result<String> {
        #[derive(Deserialize)]
        struct Created {
            key: String,
        }
        let body = json!({ "name": "load", "scopes": ["models"] }).to_string();
        let bearer = format!("Authorization: Bearer {access_token}\r\n");
        let (status, reply) = post(self.addr, "/v1/api-keys", &bearer, &body).await?;
        ensure!(status == 201, "cannot make a key: {status} {reply}");
        Ok(serde_json::from_str::<Created>(&reply)?.key)
    }

    /// Waits until everything that is written behind replies is in the store.
    pub async fn settled(&self) -> Result<()> {
        let writing = async {
            while self.metric(WRITING).await? > 0.0 {
                sleep(LOOK_EVERY).await;
            }
            Ok(())
        };
        timeout(SETTLED_WITHIN, writing).await.context("the store is not done with its writes")?
    }

    /// A counter's present value.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let (status, text) = get(self.process.ops, "/metrics").await?;
        ensure!(status == 200, "no metrics: {status}");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value
            .with_context(|| format!("there is no metric {name}"))?
            .parse()
            .context("a metric without a number")
    }
}

/// The body that signs the account up and in.
pub fn credentials() -> String {
    json!({ "email": EMAIL, "password": PASSWORD }).to_string()
}

fn configure(command: &mut Command, place: &Place, upstream: SocketAddr, slots: usize) {
    command
        .env("DATA_DIR", place.scratch.path().join("data"))
        .env("OLLAMA_BASE_URL", format!("http://{upstream}"))
        .env("OLLAMA_NUM_PARALLEL", slots.to_string())
        .env("MODEL_QUEUE_LIMIT", "4096")
        .env("MODEL_QUEUE_PER_USER", "4096")
        .env("RATE_LIMIT_REQUESTS_PER_MINUTE", "1000000")
        .env("RATE_LIMIT_BURST", "1000000")
        .env("STREAMS_PER_USER", "1000000")
        .env("LOG_IN_PER_MINUTE", "1000000")
        .env("LOG_IN_BURST", "1000000");
}

async fn get(addr: SocketAddr, path: &str) -> Result<(u16, String)> {
    fetch(addr, &format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n")).await
}

async fn post(addr: SocketAddr, path: &str, headers: &str, body: &str) -> Result<(u16, String)> {
    fetch(addr, &with_body(addr, &format!("POST {path}"), headers, body)).await
}

async fn fetch(addr: SocketAddr, request: &str) -> Result<(u16, String)> {
    let mut connection = Connection::open(addr).await?;
    let mut body = Vec::new();
    let status = connection.ask(request.as_bytes(), |piece| body.extend_from_slice(piece)).await?;
    Ok((status, String::from_utf8(body)?))
}
