//! Every scenario of the fake Ollama in the words of every dialect, as its clients get them: one snapshot for each scenario.
//!
//! The scenarios are the fake's own list and a server that cannot be talked to, and each is asked in all dialects; one without a snapshot, and a snapshot without a
//! scenario, fail. `UPDATE_SNAPSHOTS=1 cargo test --test it matrix` writes them anew, for a look at what changed.
//!
//! Bytes are shown as they came but for what differs from run to run: names, times, and into how many pieces a text was cut, so
//! pieces that follow one another are put together. Places in line and heartbeats come at any time and are left out.

mod cell;
mod redact;

use std::{collections::BTreeSet, env, fs, path::PathBuf, sync::Arc, time::Duration};

use serde_json::{Value, json};
use support::fake_ollama::{Model, Scenario, ToolCalls};
use tokio::{sync::Semaphore, task::JoinSet};

use self::cell::Cell;
use crate::{
    harness::{Options, Session, Store, TestApp},
    turn::told,
};

/// Longer than any pause of a scenario that goes on, and short for one that does not.
const SILENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(150);

/// Longer than a busy server is asked again.
const BUSY: Duration = Duration::from_secs(40);

/// How a dialect is asked and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Dialect {
    name: &'static str,
    path: &'static str,
    is_streamed: bool,
}

const fn dialect(name: &'static str, path: &'static str, is_streamed: bool) -> Dialect {
    Dialect { name, path, is_streamed }
}

const DIALECTS: [Dialect; 10] = [
    dialect("native stream", "/v1/chat/stream", true),
    dialect("native JSON", "/v1/chat", false),
    dialect("OpenAI stream", "/v1/chat/completions", true),
    dialect("OpenAI JSON", "/v1/chat/completions", false),
    dialect("Responses stream", "/v1/responses", true),
    dialect("Responses JSON", "/v1/responses", false),
    dialect("Messages stream", "/v1/messages", true),
    dialect("Messages JSON", "/v1/messages", false),
    dialect("Ollama NDJSON", "/api/chat", true),
    dialect("Ollama JSON", "/api/chat", false),
];

impl Dialect {
    fn body(self, model: &str, with_logprobs: bool) -> Value {
        let text = told("what is it like");
        let messages = json!([{ "role": "user", "content": text }]);
        let mut body = match self.path {
            "/v1/responses" => json!({ "input": text }),
            "/v1/chat/completions" => {
                json!({ "messages": messages, "stream_options": { "include_usage": true } })
            }
            "/v1/messages" => json!({ "messages": messages, "max_tokens": 1_000 }),
            "/v1/chat" | "/v1/chat/stream" => json!({ "messages": messages, "store": false }),
            _ => json!({ "messages": messages }),
        };
        body["model"] = json!(model);
        match self.path {
            "/v1/responses" if with_logprobs => body["include"] = json!(["message.output_text.logprobs"]),
            "/v1/chat/completions" | "/api/chat" if with_logprobs => body["logprobs"] = json!(true),
            _ => {}
        }
        if !self.path.starts_with("/v1/chat") || self.path == "/v1/chat/completions" {
            body["stream"] = json!(self.is_streamed);
        }
        body
    }
}

/// The scenario with pauses that a test has the time for.
fn hurried(scenario: Scenario) -> Scenario {
    match scenario {
        Scenario::SlowHeaders { .. } => Scenario::SlowHeaders { delay: PAUSE },
        Scenario::ToolCalls(ToolCalls::AfterSilence(_)) => {
            Scenario::ToolCalls(ToolCalls::AfterSilence(PAUSE))
        }
        Scenario::HalfLines { .. } => Scenario::HalfLines { pause: Duration::from_millis(5) },
        other => other,
    }
}

async fn start() -> TestApp {
    let hurry = |mut model: Model| {
        model.scenario = hurried(model.scenario);
        model.parallel = DIALECTS.len();
        model.tokens(5)
    };
    let options = Options::on(Store::Sqlite)
        .models(Model::every_scenario().into_iter().map(hurry))
        .set("OLLAMA_NUM_PARALLEL", DIALECTS.len())
        .tune(|config| {
            config.system.model.timeouts.first_byte = SILENCE;
            config.system.model.timeouts.idle = SILENCE;
            config.system.model.timeouts.idle_long = SILENCE;
            // Some scenarios are failures of the server, which would be taken for away.
            config.system.model.breaker_failures = u32::MAX;
            // Nobody looks meanwhile whether a model is still loaded: what is not is loaded before its turn starts.
            config.system.model.catalogue_refresh = Duration::from_secs(3_600);
            // How long a busy server is asked again differs from turn to turn, and so would what is said meanwhile.
            config.http.heartbeat = Duration::from_secs(3_600);
        });
    TestApp::start(options).await
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/dialects/matrix/snapshots")
}

/// A scenario in all dialects.
struct Row {
    scenario: &'static str,
    cells: Vec<Cell>,
}

impl Row {
    async fn of(app: &TestApp, key: &str, (scenario, kind): (&'static str, Scenario)) -> Self {
        // What is large takes the fake server long to make.
        let is_large = matches!(kind, Scenario::HugeContext { .. } | Scenario::HugeLine { .. });
        let at_once = if is_large { 1 } else { DIALECTS.len() };
        let model = format!("fake-{scenario}");
        let body = |dialect: Dialect| dialect.body(&model, kind == Scenario::Logprobs);
        Self { scenario, cells: ask(app, key, body, at_once).await }
    }

    /// Each is well-formed, and all tell the same.
    fn check(&self) {
        let first = &self.cells[0];
        for cell in &self.cells {
            cell.check(self.scenario);
            assert_eq!(
                (cell.is_whole, &cell.text),
                (first.is_whole, &first.text),
                "{}: {} and {} tell different things",
                self.scenario,
                first.dialect.name,
                cell.dialect.name
            );
        }
    }

    fn file(&self) -> PathBuf {
        folder().join(format!("{}.txt", self.scenario))
    }

    fn shown(&self) -> String {
        self.cells.iter().map(Cell::shown).collect::<Vec<_>>().join("\n")
    }

    /// Where it is other than its snapshot.
    fn difference(&self) -> Option<String> {
        let (shown, before) = (self.shown(), fs::read_to_string(self.file()).unwrap_or_default());
        let lines: Vec<_> = shown.lines().collect();
        let same = before.lines().zip(&lines).take_while(|(before, now)| before == *now).count();
        let [was, now] = [before.lines().nth(same), lines.get(same).copied()];
        (shown != before)
            .then(|| format!("{}, line {}: {now:#?}\nin place of {was:#?}", self.scenario, same + 1))
    }
}

/// Asks in all dialects, so many of them at once.
async fn ask(app: &TestApp, key: &str, body: impl Fn(Dialect) -> Value, at_once: usize) -> Vec<Cell> {
    let places = Arc::new(Semaphore::new(at_once));
    let mut asking = JoinSet::new();
    for (nth, dialect) in DIALECTS.into_iter().enumerate() {
        let call = app.post(dialect.path, &body(dialect)).bearer(key).patient(BUSY);
        let places = places.clone();
        asking.spawn(async move {
            let _place = places.acquire().await.unwrap();
            (nth, Cell::of(dialect, call.send().await))
        });
    }
    let mut cells = asking.join_all().await;
    cells.sort_by_key(|(nth, _)| *nth);
    cells.into_iter().map(|(_, cell)| cell).collect()
}

/// A server that cannot be talked to at all, in the three ways there are, about a model that was there just before.
async fn rows_of_silence(app: &TestApp, ada: &Session) -> Vec<Row> {
    const NORMAL: &str = "fake-normal";
    let server = app.ollama.control();
    let ask = async |scenario| {
        let body = |dialect: Dialect| dialect.body(NORMAL, false);
        Row { scenario, cells: ask(app, &ada.access, body, DIALECTS.len()).await }
    };
    app.warm_up(ada, NORMAL).await;
    server.close().await;
    let refused = ask("server-refuses").await;
    server.reopen().await.unwrap();
    app.warm_up(ada, NORMAL).await;
    server.accept_and_close().await.unwrap();
    let closed = ask("server-hangs-up").await;
    server.reopen().await.unwrap();
    app.warm_up(ada, NORMAL).await;
    server.freeze();
    let frozen = ask("server-frozen").await;
    server.unfreeze();
    vec![refused, closed, frozen]
}

#[tokio::test(flavor = "multi_thread")]
async fn b16_every_scenario_of_a_model_server_is_told_in_the_words_of_every_dialect() {
    let app = start().await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let in_turn = async |scenarios: Vec<&'static (&'static str, Scenario)>| {
        let mut rows = Vec::new();
        for scenario in scenarios {
            rows.push(Row::of(&app, &ada.access, *scenario).await);
        }
        rows
    };
    // Meanwhile the others can be asked.
    let is_long = |scenario: &&(&str, Scenario)| matches!(scenario.1, Scenario::Error { status: 503, .. });
    let (long, short): (Vec<_>, Vec<_>) = Scenario::CATALOGUE.iter().partition(is_long);
    let (long, short) = tokio::join!(in_turn(long), in_turn(short));
    let rows = long.into_iter().chain(short).chain(rows_of_silence(&app, &ada).await);
    let rows: Vec<Row> = rows.collect();
    if env::var_os("UPDATE_SNAPSHOTS").is_some() {
        for row in &rows {
            fs::write(row.file(), row.shown()).unwrap();
        }
    }
    rows.iter().for_each(Row::check);
    let found: BTreeSet<_> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let known: BTreeSet<_> = rows.iter().map(Row::file).collect();
    assert_eq!(found, known, "there is a snapshot for each scenario and no other");
    let differences: Vec<_> = rows.iter().filter_map(Row::difference).collect();
    assert!(differences.is_empty(), "other than their snapshots:\n{}", differences.join("\n"));
    app.finish().await;
}
