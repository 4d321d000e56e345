//! The clients that people have, from their registries (`scripts/clients`), against the whole service.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;
use support::fake_ollama::{Model, Request};

use crate::{
    harness::{MODEL, Options, Session, Store, TestApp},
    turn::options,
};

/// Where `scripts/clients` puts them.
fn clients() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("clients")
}

/// A service with a model for each thing that can happen, and one that lets few requests through.
struct Services {
    app: TestApp,
    ada: Session,
    limited: TestApp,
}

impl Services {
    async fn start() -> Self {
        let models = [
            Model::new(MODEL).tokens(9).capabilities(&["completion", "tools", "vision", "insert"]),
            Model::new("slow:latest").tokens(10_000).tokens_per_s(50.0),
            Model::embedding("nomic-embed-text"),
        ];
        let app =
            TestApp::start(options(Store::Sqlite, models.into_iter().chain(Model::every_scenario()))).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let few = Options::on(Store::Sqlite)
            .models([Model::new(MODEL)])
            .set("RATE_LIMIT_REQUESTS_PER_MINUTE", 60)
            .set("RATE_LIMIT_BURST", 4);
        Self { app, ada, limited: TestApp::start(few).await }
    }

    /// Runs a client's program to its end, and returns what it has had the model server asked.
    async fn run(&self, mut command: Command) -> Vec<Request> {
        let (_, key) = self.app.create_key(&self.ada, "chat models embeddings").await;
        let bob = self.limited.sign_up_and_in("bob@example.org").await;
        let (_, limited_key) = self.limited.create_key(&bob, "chat models").await;
        command
            .env("SERVICE_URL", format!("http://{}", self.app.addr()))
            .env("SERVICE_KEY", key)
            .env("LIMITED_URL", format!("http://{}", self.limited.addr()))
            .env("LIMITED_KEY", limited_key);
        let what = format!("{command:?}");
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{what}: {}\n{said}", output.status);
        self.app.ollama.control().requests()
    }

    async fn finish(self) {
        self.app.finish().await;
        self.limited.finish().await;
    }
}

/// What the chat was sent to the model server with whose last message says this.
fn sent(requests: &[Request], text: &str) -> serde_json::Value {
    let chats = requests.iter().filter(|request| request.path == "/api/chat").map(Request::json);
    let says = |body: &serde_json::Value| {
        body["messages"].as_array().unwrap().last().is_some_and(|message| message["content"] == text)
    };
    chats.filter(says).last().unwrap_or_else(|| panic!("nobody asked {text:?}"))
}

fn python(program: &str) -> Command {
    let mut command = Command::new(there(clients().join("python/bin/python")));
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/python").join(program);
    command.arg(program).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn node(program: &str) -> Command {
    let mut command = Command::new(there(clients().join("python/bin/node")));
    let program = there(clients().join("node/programs").join(program));
    command.args(["--preserve-symlinks", "--preserve-symlinks-main"]).arg(program);
    command
}

fn there(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} is not there: scripts/clients puts it there", path.display());
    path
}

/// The client's program runs to its end; schema and picture came to the model server as they were meant.
async fn check(program: Command, has_schema: bool) {
    let services = Services::start().await;
    let requests = services.run(program).await;
    if has_schema {
        assert_eq!(sent(&requests, "schema")["format"]["required"], json!(["city"]));
    }
    let messages = &sent(&requests, "picture")["messages"];
    let pictures = messages.as_array().unwrap().last().unwrap()["images"].as_array().unwrap().len();
    assert_eq!(pictures, 1, "{messages}");
    for request in requests.iter().filter(|request| request.path.starts_with("/api/")) {
        let body = String::from_utf8_lossy(&request.body);
        assert!(!body.contains("num_ctx") && !body.contains("keep_alive"), "{}: {body}", request.path);
    }
    services.finish().await;
}

#[tokio::test]
async fn openais_python_library_finds_here_what_it_knows() {
    check(python("openai_sdk.py"), true).await;
}

#[tokio::test]
async fn anthropics_python_library_finds_here_what_it_knows() {
    check(python("anthropic_sdk.py"), false).await;
}

#[tokio::test]
async fn ollamas_python_library_finds_here_what_it_knows() {
    check(python("ollama_sdk.py"), true).await;
}

#[tokio::test]
async fn langchain_finds_here_what_it_knows() {
    check(python("langchain_sdk.py"), false).await;
}

#[tokio::test]
async fn openais_javascript_library_finds_here_what_it_knows() {
    check(node("openai.js"), true).await;
}

#[tokio::test]
async fn ollamas_javascript_library_finds_here_what_it_knows() {
    check(node("ollama.js"), true).await;
}
