//! A service in a process of its own, whose database is reached through a network that can be broken.

use std::time::Duration;

use serde_json::{Value, json};
use support::{
    fake_ollama::{self, FakeOllama, Model},
    fault_proxy::FaultProxy,
    gateway::Gateway,
    process::Scratch,
};

use super::STREAMS;
use crate::{
    harness::{Call, Database, MODEL, PASSWORD, Session, start_process},
    turn::{Streamed, answer, prompt},
};

pub(super) const TOKENS_PER_S: f64 = 20.0;

/// How long a stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(40);

pub(super) struct Ground {
    pub(super) gateway: Gateway,
    database: Database,
    _ollama: FakeOllama,
}

impl Ground {
    pub(super) async fn start(scratch: &Scratch, database: &Database, proxy: &FaultProxy) -> Self {
        let model = Model::new(MODEL).parallel(STREAMS).tokens(1_000_000).tokens_per_s(TOKENS_PER_S);
        let ollama = FakeOllama::start(fake_ollama::Config::with([model])).await.unwrap();
        let Database::Postgres { name, url } = database else { panic!("an outage needs a server") };
        let (server, path) = url.rsplit_once('/').unwrap();
        let (user, _) = server.rsplit_once('@').unwrap();
        let proxied =
            Database::Postgres { name: name.clone(), url: format!("{user}@{}/{path}", proxy.addr()) };
        let (data_dir, upstream) = (scratch.path().join("data"), format!("http://{}", ollama.addr()));
        let slots = STREAMS.to_string();
        let settings = [
            ("DATA_DIR", data_dir.to_str().unwrap()),
            ("OLLAMA_BASE_URL", &upstream),
            ("OLLAMA_NUM_PARALLEL", &slots),
            ("STREAMS_PER_USER", "1000"),
            ("RATE_LIMIT_REQUESTS_PER_MINUTE", "1000000"),
            ("RATE_LIMIT_BURST", "1000000"),
            ("LOG_IN_PER_MINUTE", "1000000"),
            ("LOG_IN_BURST", "1000000"),
        ];
        let gateway = start_process(scratch, &proxied, &settings).await;
        Self { gateway, database: database.clone(), _ollama: ollama }
    }

    pub(super) fn call(&self, method: &str, path: &str) -> Call {
        Call::new(self.gateway.addr, method, path)
    }

    fn post(&self, path: &str, body: &Value) -> Call {
        self.call("POST", path).json(body)
    }

    pub(super) fn log_in(&self, email: &str) -> Call {
        self.post("/v1/auth/login", &json!({ "email": email, "password": PASSWORD }))
    }

    pub(super) async fn sign_up_and_in(&self, email: &str) -> Session {
        let credentials = json!({ "email": email, "password": PASSWORD });
        let user = self.post("/v1/auth/signup", &credentials).send().await.expect_status(201).json();
        let tokens = self.log_in(email).send().await.expect_status(200).json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Session {
            user: text(&user["id"]),
            email: email.to_owned(),
            access: text(&tokens["access_token"]),
            refresh: text(&tokens["refresh_token"]),
        }
    }

    pub(super) async fn create_key(&self, session: &Session) -> String {
        let wanted = self.post("/v1/api-keys", &json!({ "name": "a key", "scopes": ["chat"] }));
        let key = wanted.bearer(&session.access).send().await.expect_status(201).json();
        key["key"].as_str().unwrap().to_owned()
    }

    /// A short stored chat, answered whole.
    pub(super) fn chat(&self, token: &str, text: &str) -> Call {
        let mut body = prompt(MODEL, text);
        body["options"] = json!({ "num_predict": 2 });
        self.post("/v1/chat", &body).bearer(token)
    }

    /// A stored chat, streamed.
    pub(super) async fn stream(&self, token: &str, text: &str, tokens: u64) -> Streamed {
        let mut body = prompt(MODEL, text);
        body["options"] = json!({ "num_predict": tokens });
        let asked = self.post("/v1/chat/stream", &body).bearer(token);
        Streamed::new(asked.open().await.expect_status(200))
    }

    async fn metrics(&self) -> String {
        Call::new(self.gateway.ops, "GET", "/metrics").send().await.expect_status(200).text()
    }

    /// How many turns ended in this way.
    pub(super) async fn turns(&self, status: &str) -> u64 {
        let page = self.metrics().await;
        let of_status = page.lines().filter(|line| {
            line.starts_with("deepersensor_turns_total{") && line.contains(&format!("status=\"{status}\""))
        });
        of_status.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
    }

    /// How often the log has a line with these words.
    pub(super) fn told(&self, words: &str) -> usize {
        self.gateway.said().unwrap().matches(words).count()
    }

    pub(super) async fn gauge(&self, name: &str) -> u64 {
        let page = self.metrics().await;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("there is no metric {name}")).parse().unwrap()
    }

    /// Asserts that what this reader was told to be stored is: the turn, what was asked and the text that it read, each once.
    pub(super) async fn assert_stored(&self, stream: &Streamed, tokens: u64) {
        let start = stream.start();
        let id = |name: &str| start[name].as_str().unwrap();
        let rows = |sql: String| async move { self.database.texts(&sql).await };
        let messages = rows(format!(
            "SELECT role || ' ' || status || ' ' || content FROM messages WHERE conversation_id = '{}' ORDER BY role DESC",
            id("conversation_id")
        ));
        let [asked, read] = &messages.await[..] else { panic!("{start}: not two messages") };
        assert!(asked.starts_with("user complete "), "{asked}");
        let question = asked.trim_start_matches("user complete ");
        let question = question.trim_end_matches(crate::harness::canaries::PROMPT);
        assert_eq!(stream.text(), answer(question, tokens), "{start}");
        assert_eq!(*read, format!("assistant complete {}", stream.text()), "{start}");
        let turns = rows(format!(
            "SELECT status || ' ' || completion_tokens FROM turns WHERE id = '{}'",
            id("turn_id")
        ));
        assert_eq!(turns.await, [format!("complete {tokens}")], "{start}");
    }

    pub(super) async fn stop(self) {
        let (status, _) = self.gateway.terminate(STOP_WITHIN).await.unwrap();
        assert!(status.success(), "{status}");
    }
}
