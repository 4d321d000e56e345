//! The scripted Ollama as a program: the load source of the benchmark and the server of demos.
//!
//! Prints the address it serves on one line of stdout. `GET /__counters` tells what it saw,
//! `POST /__scenario {"model","scenario"}` changes how a model behaves.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use support::fake_ollama::{Config, FakeOllama, Model, Scenario};

/// Serves a scripted Ollama on loopback until it is interrupted.
#[derive(Debug, Parser)]
struct Arguments {
    /// Port; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Chat models to have.
    #[arg(long, value_delimiter = ',', default_value = "qwen3:8b")]
    models: Vec<String>,
    /// Embedding models to have.
    #[arg(long, value_delimiter = ',')]
    embedding_models: Vec<String>,
    /// Lists a model per scenario too, `fake-<scenario>:latest`.
    #[arg(long)]
    scenarios: bool,
    /// How requests to the chat models go, by scenario name.
    #[arg(long, default_value = "normal", value_parser = scenario)]
    scenario: Scenario,
    /// Tokens of an answer.
    #[arg(long, default_value_t = 32)]
    tokens: u64,
    /// Pace of each answer; 0 is full speed.
    #[arg(long, default_value_t = 0.0)]
    tokens_per_s: f64,
    /// How far a token may be late, as a share of the time between two.
    #[arg(long, default_value_t = 0.0)]
    jitter: f64,
    /// Requests a model runs at once.
    #[arg(long, default_value_t = 1)]
    slots: usize,
    /// How long a model takes to load.
    #[arg(long, default_value_t = 0)]
    load_ms: u64,
    /// Silence before an answer.
    #[arg(long, default_value_t = 0)]
    prefill_ms: u64,
    /// Token lines per write and HTTP chunk.
    #[arg(long, default_value_t = 1)]
    batch_lines: usize,
    /// Puts the send time into each token: `t=<nanoseconds since 1970> `.
    #[arg(long)]
    stamp_tokens: bool,
    /// Threads that serve.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

fn scenario(name: &str) -> Result<Scenario, String> {
    Scenario::named(name).ok_or_else(|| {
        let names: Vec<_> = Scenario::CATALOGUE.iter().map(|(name, _)| *name).collect();
        format!("choose one of {}", names.join(", "))
    })
}

impl Arguments {
    fn config(&self) -> Config {
        let chat = self.models.iter().map(|name| {
            let mut model = Model::new(name)
                .tokens(self.tokens)
                .tokens_per_s(self.tokens_per_s)
                .parallel(self.slots)
                .load(Duration::from_millis(self.load_ms))
                .prefill(Duration::from_millis(self.prefill_ms))
                .batch_lines(self.batch_lines)
                .stamp_tokens(self.stamp_tokens)
                .scenario(self.scenario);
            model.jitter = self.jitter;
            model
        });
        let embedding = self.embedding_models.iter().map(|name| Model::embedding(name).parallel(self.slots));
        let mut models: Vec<_> = chat.chain(embedding).collect();
        if self.scenarios {
            models.extend(Model::every_scenario());
        }
        // A benchmark's requests are too many to be kept.
        Config {
            port: self.port,
            max_loaded: models.len().max(3),
            logged_requests: 0,
            ..Config::with(models)
        }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut builder = match arguments.threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(arguments.threads.max(1)).enable_all().build()?;
    runtime.block_on(async {
        let fake = FakeOllama::start(arguments.config()).await?;
        writeln!(std::io::stdout(), "{}", fake.url()).context("nobody reads the address")?;
        tokio::signal::ctrl_c().await.context("cannot wait for an interrupt")
    })
}
