//! What the service costs beside a plain proxy, on one core.
//!
//! ```text
//! core A: load ──▶ core B: nginx │ deepersensor serve ──▶ core A: fake Ollama
//! ```
//!
//! Authentication, limits, the fair queue and the store are on; only their bounds are raised. Figures are medians over
//! rounds, ratios are taken inside a round, and one bad reply ends the run. `scripts/bench` builds what this needs.
//!
//! Compare figures of one run only: the same machine an hour later differs by a tenth.

mod closed_loop;
mod full_speed;
mod ground;
mod identity;
mod memory;
mod paced;
mod process;
mod request;
mod servers;
mod stored;
mod table;
mod transit;
mod unary;

use std::{io::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use support::process::Scratch;
use tokio::time::timeout;

use crate::{
    ground::{Run, Store},
    process::Family,
    servers::{FakeOllama, Gateway, Pace, Place},
};

/// The longest part takes half of it.
const PART_PATIENCE: Duration = Duration::from_secs(240);

/// Measures the service beside a plain proxy and prints tables in Markdown.
#[derive(Debug, Parser)]
struct Arguments {
    /// A minute instead of six: to see that it works, not to be quoted
    #[arg(long)]
    quick: bool,
    /// Only this part; may be repeated
    #[arg(long = "only", value_name = "PART")]
    parts: Vec<Part>,
    /// The service to measure
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_deepersensor"))]
    gateway: PathBuf,
    /// The fake Ollama; without it, the one beside the service
    #[arg(long, value_name = "FILE")]
    fake: Option<PathBuf>,
    /// Given by cargo, without a meaning here
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Unary,
    FullSpeed,
    Paced,
    Memory,
    Lone,
    Stored,
    StoredPostgres,
    Identity,
}

impl Part {
    async fn measure(self, run: &Run<'_>) -> Result<String> {
        match self {
            Self::Unary => unary::measure(run).await,
            Self::FullSpeed => full_speed::measure(run).await,
            Self::Paced => paced::many(run).await,
            Self::Memory => memory::measure(run).await,
            Self::Lone => paced::lone(run).await,
            Self::Stored => stored::measure(run, Store::Sqlite).await,
            Self::StoredPostgres => stored::measure(run, Store::Postgres).await,
            Self::Identity => identity::measure(run).await,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // One thread, as the load has one core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.context("no runtime").and_then(|runtime| runtime.block_on(run(arguments)));
    let Err(error) = done else { return ExitCode::SUCCESS };
    // With standard error gone, the status still tells.
    let _ = writeln!(std::io::stderr(), "the benchmark failed: {error:#}");
    ExitCode::FAILURE
}

async fn run(arguments: Arguments) -> Result<()> {
    let (load_core, system_core) = process::cores()?;
    say(&format!("{}\n", support::process::machine()))?;
    if load_core == system_core {
        say("There is only one core: load and systems share it, and no figure below means much.\n")?;
    }
    rlimit::increase_nofile_limit(u64::MAX).context("cannot raise the limit of open files")?;
    Family::of(std::process::id()).pin(load_core)?;
    let place = place(&arguments, load_core, system_core)?;
    let access_token = make_account(&place).await?;
    let (rounds, window) = if arguments.quick { (3, 300) } else { (9, 1_500) };
    let run = Run {
        place: &place,
        access_token: &access_token,
        rounds,
        window: Duration::from_millis(window),
        is_quick: arguments.quick,
    };
    say(&format!("{rounds} rounds, {window} ms per system and round; medians, ratios inside a round.\n"))?;
    for part in Part::value_variants() {
        if arguments.parts.is_empty() || arguments.parts.contains(part) {
            let table = timeout(PART_PATIENCE, part.measure(&run)).await;
            let table = table.with_context(|| format!("{part:?} hangs"))?;
            let table = table.with_context(|| format!("{part:?} failed"))?;
            say(&table)?;
        }
    }
    say("No bad replies.")
}

fn place(arguments: &Arguments, load_core: usize, system_core: usize) -> Result<Place> {
    let gateway = arguments.gateway.canonicalize().context("the service is not built: run scripts/bench")?;
    let fake = arguments.fake.clone().unwrap_or_else(|| gateway.with_file_name("fake-ollama"));
    let fake = fake.canonicalize().context("the fake Ollama is not built: run scripts/bench")?;
    Ok(Place { gateway, fake, load_core, system_core, scratch: Scratch::new("bench", None)? })
}

/// Signs up and in once; hashing passwords belongs to no measurement, and its memory to no process that is measured.
async fn make_account(place: &Place) -> Result<String> {
    let fake = FakeOllama::start(place, Pace::FULL, 1).await?;
    let gateway = Gateway::start(place, fake.addr, 1).await?;
    gateway.sign_up().await?;
    gateway.log_in().await
}

fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").context("nobody reads the figures")
}
