//! The service held against its own description by schemathesis (`scripts/clients` puts it there): whatever follows
//! `/openapi.json` is answered as it says, whatever does not is refused, and nothing is answered 5xx. `scripts/prove schema` asks
//! more.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use support::fake_ollama::Model;

use crate::harness::{Options, PASSWORD, Store, TestApp, asked};

const CHATTER: &str = "llama3.2";
const EMBEDDER: &str = "nomic-embed-text";

/// A service that has something to say, and limits that are out of the way.
async fn start() -> TestApp {
    let models = [
        Model::new(CHATTER).tokens(2).capabilities(&["completion", "tools", "vision", "insert", "thinking"]),
        Model::embedding(EMBEDDER),
    ];
    let unlimited = ["LOG_IN_PER_MINUTE", "LOG_IN_BURST", "SIGN_UP_PER_HOUR", "SIGN_UP_BURST"].into_iter();
    let options = Options::on(Store::Sqlite).models(models);
    TestApp::start(unlimited.fold(options, |options, name| options.set(name, 100_000))).await
}

fn schemathesis() -> Command {
    let program: PathBuf =
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("clients/schema/bin/st");
    assert!(program.exists(), "{} is not there: scripts/clients puts it there", program.display());
    let mut command = Command::new(program);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schema"));
    command.args(["--config-file", "schemathesis.toml", "run"]).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Asks everything, as this administrator or as nobody.
async fn hold(app: &TestApp, administrator: Option<&str>) {
    let service = format!("http://{}", app.addr());
    let (count, phases) = match asked::<u32>("PROVE_COUNT") {
        Some(count) => (count, "examples,coverage,fuzzing,stateful"),
        // Whoever is nobody is refused before anything is read.
        None if administrator.is_none() => (2, "fuzzing"),
        None => (1, "examples,coverage,fuzzing"),
    };
    let mut command = schemathesis();
    command.args([&format!("{service}/openapi.json"), "--checks", "all", "--phases", phases]);
    command.args(["--max-examples", &count.to_string()]);
    // One: a seed means something, and what would lock everybody out is undone before anything else is asked.
    command.args(["--workers", "1"]);
    command.args(["--seed", &asked::<u64>("PROVE_SEED").unwrap_or(1).to_string()]);
    command.env("SERVICE_URL", service).env("SERVICE_MODELS", format!("{CHATTER},{EMBEDDER}"));
    if let Some(email) = administrator {
        command.env("SERVICE_EMAIL", email).env("SERVICE_PASSWORD", PASSWORD);
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}", output.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_the_description_is_answered_as_it_says_and_whoever_does_not_is_refused() {
    let app = start().await;
    app.administrator("root@example.org").await;
    hold(&app, Some("root@example.org")).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_shows_nothing_is_answered_as_the_description_says() {
    let app = start().await;
    hold(&app, None).await;
    app.finish().await;
}
