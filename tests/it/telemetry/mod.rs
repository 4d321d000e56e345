//! What the service tells those who run it, as they receive it: by a process of its own, since a process has one log and
//! one collector.

mod access;
mod collector;
mod trace;

use serde_json::{Value, json};
use support::{
    fake_ollama::{self, FakeOllama, Model, Scenario},
    gateway::Gateway,
    otlp::Collector,
    process::Scratch,
    redis::Redis,
};

use crate::harness::{Call, Database, MODEL, PASSWORD, Session, Store, canaries, start_process, until};

/// A model that fails each of its turns.
const BROKEN: &str = "broken:latest";

const EMAIL: &str = "ada.of.the.gulls@example.org";

/// A service, all that it talks to, and somebody who is signed in.
struct Ground {
    gateway: Gateway,
    ollama: FakeOllama,
    collector: Collector,
    database: Database,
    ada: Session,
    // Gone last: the others have files in it.
    scratch: Scratch,
    _redis: Option<Redis>,
}

impl Ground {
    /// On SQLite alone, tracing into the collector unless `settings` say otherwise.
    async fn small(settings: &[(&str, &str)]) -> Self {
        Self::on(Store::Sqlite, None, settings).await
    }

    /// With all that a deployment has.
    async fn whole(settings: &[(&str, &str)]) -> Self {
        Self::on(Store::Postgres, Some(Redis::start().await.unwrap()), settings).await
    }

    async fn on(store: Store, redis: Option<Redis>, settings: &[(&str, &str)]) -> Self {
        let scratch = Scratch::new("telemetry", None).unwrap();
        let data_dir = scratch.path().join("data");
        let database = Database::make(store, &data_dir).await;
        let config = fake_ollama::Config::with([
            Model::new(MODEL).parallel(4).tokens(8),
            Model::new(BROKEN).scenario(Scenario::ErrorLine { after: 0 }),
        ]);
        let (ollama, collector) =
            (FakeOllama::start(config).await.unwrap(), Collector::start().await.unwrap());
        let (model_server, traces, data_dir) =
            (ollama.url(), collector.url(), data_dir.display().to_string());
        let redis_url = redis.as_ref().map(Redis::url);
        let mut all = vec![
            ("OLLAMA_BASE_URL", model_server.as_str()),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &traces),
            ("DATA_DIR", &data_dir),
            ("SHUTDOWN_GRACE_SECS", "2"),
        ];
        all.extend(redis_url.as_deref().map(|url| ("REDIS_URL", url)));
        all.extend(settings);
        let gateway = start_process(&scratch, &database, &all).await;
        let ada = sign_in(&gateway).await;
        Self { gateway, ollama, collector, database, ada, scratch, _redis: redis }
    }

    fn get(&self, path: &str) -> Call {
        Call::new(self.gateway.addr, "GET", path).bearer(&self.ada.access)
    }

    fn chat(&self, path: &str, body: &Value) -> Call {
        Call::new(self.gateway.addr, "POST", path).bearer(&self.ada.access).json(body)
    }

    /// The log so far, which holds nothing but objects and gives nothing away.
    fn log(&self) -> Vec<Value> {
        let said = self.gateway.said().unwrap();
        canaries::assert_none("the log", &said);
        assert!(!said.contains(EMAIL), "the log has an address of e-mail");
        // The last line may be under way.
        let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }

    /// Waits for a line about this request that says `message`.
    async fn line(&self, request_id: &str, message: &str) -> Value {
        let find = || {
            let mut log = self.log().into_iter();
            log.find(|line| line["request_id"] == request_id && line["message"] == message)
        };
        until(message, async || find().is_some()).await;
        find().unwrap()
    }

    /// Everything that was sent to the collector gives nothing away either.
    async fn finish(self) {
        for span in self.collector.spans() {
            canaries::assert_none(format_args!("the span {}", span.name), &span.whole);
            assert!(!span.whole.contains(EMAIL), "the span {} has an address of e-mail", span.name);
        }
        self.log();
        drop(self.gateway);
        drop(self.scratch);
        self.database.remove().await;
    }
}

async fn sign_in(gateway: &Gateway) -> Session {
    let body = json!({"email": EMAIL, "password": PASSWORD});
    let post = |path| Call::new(gateway.addr, "POST", path).json(&body).send();
    let user = post("/v1/auth/signup").await.expect_status(201).json();
    let tokens = post("/v1/auth/login").await.expect_status(200).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    Session {
        user: text(&user["id"]),
        email: EMAIL.to_owned(),
        access: text(&tokens["access_token"]),
        refresh: text(&tokens["refresh_token"]),
    }
}
