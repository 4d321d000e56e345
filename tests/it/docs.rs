//! The documents' shell lines, run as they stand, in order, against a fresh service.

use std::{env, fs, iter, net::SocketAddr, path::Path, process::Command};

use support::{
    fake_ollama::{self, FakeOllama},
    gateway::Gateway,
    process::{Scratch, free_port},
};

/// A service with its demo model, and the directory in which the lines run.
async fn serve() -> (Gateway, Scratch) {
    let scratch = Scratch::new("docs", None).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_deepersensor"));
    // Nobody listens there: the discard port is privileged and unused.
    command.env_clear().env("OLLAMA_BASE_URL", "http://127.0.0.1:9").env("DEMO_MODEL", "true");
    (Gateway::start(command, &scratch).await.unwrap(), scratch)
}

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// What stands between fences of this kind, joined.
fn blocks(document: &str, kind: &str) -> String {
    let (mut inside, mut text) = (false, String::new());
    for line in document.lines() {
        if line.starts_with("```") {
            inside = line == format!("```{kind}");
        } else if inside {
            text += line;
            text.push('\n');
        }
    }
    assert!(!text.is_empty(), "no ```{kind} block");
    text
}

/// What is typed in a transcript: what stands behind a prompt, and the lines it is continued on.
fn typed(transcript: &str) -> String {
    let (mut goes_on, mut text) = (false, String::new());
    for line in transcript.lines() {
        let typed = if goes_on { Some(line) } else { line.strip_prefix("$ ") };
        goes_on = typed.is_some_and(|line| line.ends_with('\\'));
        text.extend(typed.map(|line| format!("{line}\n")));
    }
    text
}

/// Runs the script to its end, where it finds the command and the scripts of `deploy/`, and returns what it said. What it left
/// running is ended.
fn bash(script: &str, scratch: &Scratch, addr: SocketAddr) -> String {
    let command = Path::new(env!("CARGO_BIN_EXE_deepersensor")).parent().unwrap();
    let path = env::var_os("PATH").unwrap_or_default();
    let places = iter::once(command.to_owned()).chain(env::split_paths(&path));
    let mut bash = Command::new("bash");
    bash.args([
        "-c",
        &format!("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"),
    ])
    .current_dir(scratch.path());
    bash.env("BASE", format!("http://{addr}")).env("PATH", env::join_paths(places).unwrap());
    bash.env("REPO", env!("CARGO_MANIFEST_DIR"));
    let output = bash.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// The statuses that comments promise, where a line prints the status.
fn promised(script: &str) -> impl Iterator<Item = &str> {
    let printing = script.split("%{http_code}").skip(1);
    printing.map(|rest| rest.split_once("# ").map_or("", |(_, comment)| &comment[..3]))
}

/// Runs the lines of a document and compares the statuses that it promises; returns what they said.
async fn flows(name: &str) -> String {
    let (gateway, scratch) = serve().await;
    let script = blocks(&document(name), "sh");
    let said = bash(&script, &scratch, gateway.addr);
    let mut rest = said.as_str();
    let mut statuses = 0;
    for status in promised(&script) {
        let (_, after) =
            rest.split_once(&format!("{status}\n")).unwrap_or_else(|| panic!("no {status} in {rest}"));
        rest = after;
        statuses += 1;
    }
    assert!(statuses > 0);
    said
}

#[tokio::test]
async fn the_flows_of_identity_work_as_they_are_written() {
    flows("docs/identity.md").await;
}

#[tokio::test]
async fn the_flows_of_usage_work_as_they_are_written() {
    let said = flows("docs/usage.md").await;
    let turn = said.lines().filter(|line| line.contains("deepersensor-demo:latest,1,1,0,0,0,0,"));
    assert_eq!(turn.count(), 1, "a line of the file: {said}");
    let totals: Vec<_> = said.lines().filter(|line| line.starts_with("total ")).collect();
    assert!(matches!(totals[..], [total] if total.split_whitespace().nth(1) == Some("1")), "{said}");
}

#[tokio::test]
async fn what_is_kept_is_found_taken_along_and_removed_as_it_is_written() {
    let (gateway, scratch) = serve().await;
    let script = blocks(&document("docs/privacy.md"), "sh");
    let said = bash(&script, &scratch, gateway.addr);
    assert!(said.contains("## Assistant · ") && said.ends_with("401\n401\n"), "{said}");
    let account = fs::read_to_string(scratch.path().join("account.json")).unwrap();
    assert!(account.contains("herring gulls") && account.ends_with("]}\n"), "{account}");
}

#[tokio::test]
async fn the_first_calls_work_as_they_are_written() {
    let (gateway, scratch) = serve().await;
    let readme = document("README.md");
    let (_, calls) = readme.split_once("## First calls\n").unwrap();
    let calls = calls.split("\n## ").next().unwrap();
    let script = typed(&blocks(calls, "console")).replace("localhost:8080", &gateway.addr.to_string());
    let said = bash(&script, &scratch, gateway.addr);
    assert!(said.contains("event: done\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chapter_on_operations_works_as_it_is_written() {
    let scratch = Scratch::new("operations", None).unwrap();
    let ollama = FakeOllama::start(fake_ollama::Config::default()).await.unwrap();
    let (port, ops_port) = (free_port().unwrap(), free_port().unwrap());
    let script = blocks(&document("docs/operations.md"), "sh")
        .replace("10.0.0.5:11434", &ollama.addr().to_string())
        .replace("8080", &port.to_string())
        .replace("9464", &ops_port.to_string());
    let said = bash(&script, &scratch, ([127, 0, 0, 1], port).into());
    for told in ["is back after", "Ada is back"] {
        assert!(said.contains(told), "{told}: {said}");
    }
}

#[tokio::test]
async fn the_chapter_on_conversations_works_as_it_is_written() {
    let (gateway, scratch) = serve().await;
    let script = blocks(&document("docs/conversations.md"), "sh");
    let said = bash(&script, &scratch, gateway.addr);
    assert!(said.contains("\"title\":\"Blue skies\"") && said.ends_with("404\n"), "{said}");
    assert!(said.contains("event: done") && said.contains("\"object\":\"turn\""), "{said}");
}

#[tokio::test]
async fn the_chapter_on_dialects_works_as_it_is_written() {
    let said = flows("docs/dialects.md").await;
    for told in
        ["chat.completion.chunk", "data: [DONE]", "\"type\":\"message\"", "\"done\":true", "\"embedding\""]
    {
        assert!(said.contains(told), "{told}: {said}");
    }
}
