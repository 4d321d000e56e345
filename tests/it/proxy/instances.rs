//! Two instances as processes of their own, on one store, and somebody who talks to them through the proxy.

use std::{net::SocketAddr, process::Command, time::Duration};

use serde_json::{Value, json};
use support::{
    fake_ollama::{self, FakeOllama, Model},
    gateway::Gateway,
    process::Scratch,
};

use crate::{
    harness::{Call, Database, MODEL, PASSWORD, SECRET, Store},
    turn::{Streamed, prompt},
};

/// Its answers outlast every grace.
pub(super) const ENDLESS: &str = "llama3.2:latest";

/// What an instance may take after its grace (D7: 35 s in all with the usual one).
pub(super) const AFTER_GRACE: Duration = Duration::from_secs(5);

/// One of the two, with a directory of its own.
pub(super) struct Instance {
    pub(super) gateway: Gateway,
    pub(super) scratch: Scratch,
}

pub(super) struct Ground {
    pub(super) ollama: FakeOllama,
    pub(super) database: Database,
    grace: Option<u64>,
    _scratch: Scratch,
}

impl Ground {
    pub(super) async fn lay(grace: Option<u64>) -> Self {
        let scratch = Scratch::new("instances", None).unwrap();
        let short = Model::new(MODEL).parallel(16).tokens(8).tokens_per_s(80.0);
        let endless = Model::new(ENDLESS).parallel(16).tokens(1_000_000).tokens_per_s(50.0);
        let ollama = FakeOllama::start(fake_ollama::Config::with([short, endless])).await.unwrap();
        let database = Database::make(Store::Postgres, scratch.path()).await;
        Self { ollama, database, grace, _scratch: scratch }
    }

    /// As both instances are configured. Each has half of the slots: more than all clients need.
    pub(super) fn command(&self) -> Command {
        let Database::Postgres { url, .. } = &self.database else { panic!("two instances share a Postgres") };
        let mut command = Command::new(env!("CARGO_BIN_EXE_deepersensor"));
        command.env_clear().env("JWT_SECRET", SECRET).env("TRUSTED_PROXY_IPS", "127.0.0.1/32");
        command.env("DATABASE_URL", url).env("OLLAMA_BASE_URL", format!("http://{}", self.ollama.addr()));
        command
            .env("INSTANCE_COUNT", "2")
            .env("OLLAMA_NUM_PARALLEL", "16")
            .env("RATE_LIMIT_ENABLED", "false");
        if let Some(seconds) = self.grace {
            command.env("SHUTDOWN_GRACE_SECS", seconds.to_string());
        }
        command
    }

    pub(super) async fn start(&self) -> Instance {
        let scratch = Scratch::new("instance", None).unwrap();
        let gateway = Gateway::start(self.command(), &scratch).await.unwrap();
        Instance { gateway, scratch }
    }
}

/// Somebody who talks to the service as the proxy shows it.
#[derive(Clone)]
pub(super) struct Client {
    proxy: SocketAddr,
    pub(super) name: String,
    access: String,
}

impl Client {
    pub(super) async fn sign_up(proxy: SocketAddr, name: &str) -> Self {
        let credentials = json!({"email": format!("{name}@example.org"), "password": PASSWORD});
        let post = |path: &str| Call::new(proxy, "POST", path).json(&credentials).send();
        post("/v1/auth/signup").await.expect_status(201);
        let tokens = post("/v1/auth/login").await.expect_status(200).json();
        Self { proxy, name: name.to_owned(), access: tokens["access_token"].as_str().unwrap().to_owned() }
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Call {
        Call::new(self.proxy, "POST", path).bearer(&self.access).json(body)
    }

    pub(super) async fn stream(&self, model: &str, text: &str) -> Streamed {
        let call = self.post("/v1/chat/stream", &prompt(model, text));
        Streamed::new(call.open().await.expect_status(200))
    }
}
