//! Settings read again while the service works: by an administrator, and by SIGHUP in a process of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use support::{
    fake_ollama::{self, FakeOllama, Model},
    gateway::Gateway,
    process::{Scratch, signal},
};

use crate::{
    harness::{
        Call, Database, MODEL, Options, PASSWORD, PATIENCE, Reply, SECRET, Session, Store, TestApp,
        both_stores, until,
    },
    turn::{Actors, Streamed, answer, options, prompt, unstored},
};

/// Its answers last until somebody hangs up.
fn endless() -> [Model; 1] {
    [Model::new(MODEL).parallel(8).tokens(100_000).tokens_per_s(100.0)]
}

async fn reload(app: &TestApp, admin: &Session) -> Reply {
    app.call("POST", "/v1/admin/reload").bearer(&admin.access).send().await
}

async fn reloaded(app: &TestApp, admin: &Session) -> Value {
    reload(app, admin).await.expect_status(200).json()
}

async fn begun(app: &TestApp, session: &Session, text: &str) -> Streamed {
    let mut stream = app.ask(session, &prompt(MODEL, text)).await;
    stream.until("chunk").await;
    stream
}

/// The entries of the audit trail of this event: who did it, and the detail.
async fn told(app: &TestApp, admin: &Session, event: &str, count: usize) -> Vec<Value> {
    let mut entries = Vec::new();
    until("the audit trail", async || {
        let path = format!("/v1/admin/audit?event={event}");
        let list = app.get(&path).bearer(&admin.access).send().await.expect_status(200).json();
        entries = list["data"].as_array().unwrap().clone();
        entries.len() == count
    })
    .await;
    entries
}

both_stores! {
    async fn a_reload_tells_what_changed_counts_it_and_leaves_an_entry(store) {
        let mut app = TestApp::start(Options::on(store).reloadable()).await;
        let admin = app.administrator("admin@example.org").await;
        assert_eq!(
            reloaded(&app, &admin).await,
            json!({"outcome": "unchanged", "changed": [], "needs_restart": []})
        );
        app.write_setting("RATE_LIMIT_BURST", 999_999);
        app.write_setting("MODEL_SLOTS", "other=2");
        app.write_setting("MAX_CONNECTIONS", 77);
        app.write_setting("REDIS_URL", "redis://:not-to-be-told@127.0.0.1:1/0");
        let expected = json!({
            "outcome": "dry_run",
            "changed": [
                {"setting": "RATE_LIMIT_BURST", "from": "1000000", "to": "999999"},
                {"setting": "MODEL_SLOTS", "from": null, "to": "other=2"},
            ],
            "needs_restart": [
                {"setting": "REDIS_URL", "from": null, "to": "[secret]"},
                {"setting": "MAX_CONNECTIONS", "from": "4096", "to": "77"},
            ],
        });
        let dry = app.post("/v1/admin/reload", &json!({"dry_run": true})).bearer(&admin.access).send().await;
        assert_eq!(dry.expect_status(200).json(), expected);
        let mut applied = expected;
        applied["outcome"] = json!("applied");
        assert_eq!(reloaded(&app, &admin).await, applied);
        let again = reloaded(&app, &admin).await;
        assert_eq!([&again["outcome"], &again["changed"]], [&json!("unchanged"), &json!([])]);

        let entries = told(&app, &admin, "sys_config_reloaded", 3).await;
        let pending = "RATE_LIMIT_BURST, MODEL_SLOTS (need a restart: REDIS_URL, MAX_CONNECTIONS)";
        assert_eq!(entries[1]["detail"], pending);
        assert!(entries.iter().all(|entry| entry["actor"] == admin.user && entry["outcome"] == "success"));
        let metrics = app.metrics().await;
        for (outcome, count) in [("applied", 1), ("unchanged", 2), ("refused", 0)] {
            let line = format!("deepersensor_config_reloads_total{{outcome=\"{outcome}\"}} {count}\n");
            assert!(metrics.contains(&line), "{line} is not in:\n{metrics}");
        }
        assert!(metrics.contains("\ndeepersensor_config_reloaded_timestamp_seconds 1"), "{metrics}");
        app.finish().await;
    }

    async fn invalid_settings_change_nothing_and_all_that_is_wrong_is_told(store) {
        let mut app = TestApp::start(Options::on(store).reloadable().set("RATE_LIMIT_BURST", 500)).await;
        let admin = app.administrator("admin@example.org").await;
        app.write_setting("RATE_LIMIT_BURST", 1);
        app.write_setting("RATE_LIMIT_REQUESTS_PER_MINUTE", 1);
        app.write_setting("STREAMS_PER_USER", "many");
        app.write_setting("MODEL_QUEUE_LIMT", 3);
        app.write_setting("JWT_SECRET", "canary");
        let refused = reload(&app, &admin).await;
        let problems = refused.expect_error(422, "invalid_request").json()["error"]["problems"].clone();
        let named: Vec<&str> =
            problems.as_array().unwrap().iter().map(|problem| problem["setting"].as_str().unwrap()).collect();
        assert_eq!(named, ["MODEL_QUEUE_LIMT", "STREAMS_PER_USER", "JWT_SECRET"], "{problems:#}");
        assert!(problems.as_array().unwrap().iter().all(|problem| problem["fix"] != ""));
        assert!(!problems.to_string().contains("canary"), "{problems:#}");
        for _ in 0..10 {
            app.get("/v1/models").bearer(&admin.access).send().await.expect_status(200);
        }
        let entries = told(&app, &admin, "sys_config_refused", 1).await;
        assert_eq!([&entries[0]["outcome"], &entries[0]["actor"]], [&json!("failure"), &json!(admin.user)]);
        assert!(app.metrics().await.contains("deepersensor_config_reloads_total{outcome=\"refused\"} 1\n"));
        app.finish().await;
    }
}

#[tokio::test]
async fn only_administrators_reload_and_filter_the_log() {
    let mut app = TestApp::start(Options::on(Store::Sqlite).reloadable()).await;
    let (admin, ada) =
        (app.administrator("admin@example.org").await, app.sign_up_and_in("ada@example.org").await);
    app.write_setting("SIGNUP_MODE", "closed");
    reload(&app, &ada).await.expect_error(403, "forbidden");
    let filter = |body: Value| app.post("/v1/admin/log-filter", &body);
    filter(json!({"filter": "debug"})).bearer(&ada.access).send().await.expect_error(403, "forbidden");
    app.sign_up_and_in("bob@example.org").await;

    reloaded(&app, &admin).await;
    let closed = json!({"email": "eve@example.org", "password": PASSWORD});
    app.post("/v1/auth/signup", &closed).send().await.expect_error(403, "forbidden");
    for (body, field) in [
        (json!({"filter": "a=b=c"}), "filter"),
        (json!({"filter": ""}), "filter"),
        (json!({"filter": "x".repeat(1_025)}), "filter"),
        (json!({"filter": "debug", "for_secs": 0}), "for_secs"),
        (json!({"filter": "debug", "for_secs": 3_601}), "for_secs"),
    ] {
        let refused = filter(body).bearer(&admin.access).send().await;
        assert_eq!(refused.expect_error(422, "invalid_request").json()["error"]["param"], field);
    }
    let wanted = json!({"filter": "info,actors=debug", "for_secs": 60});
    let set = filter(wanted).bearer(&admin.access).send().await.expect_status(200).json();
    assert_eq!([&set["filter"], &set["then"]], [&json!("info,actors=debug"), &json!("info")]);
    let entries = told(&app, &admin, "sys_log_filter_changed", 1).await;
    assert_eq!(entries[0]["detail"], "info,actors=debug for 60 s");
    app.finish().await;
}

#[tokio::test]
async fn a_service_that_was_not_started_from_sources_has_nothing_to_read_again() {
    let app = TestApp::on(Store::Sqlite).await;
    let admin = app.administrator("admin@example.org").await;
    reload(&app, &admin).await.expect_error(409, "conflict");
    app.finish().await;
}

#[tokio::test]
async fn a_raised_limit_takes_effect_and_a_shard_that_is_killed_comes_back_to_it() {
    let set = options(Store::Sqlite, endless()).reloadable();
    let set = set.set("RATE_LIMIT_REQUESTS_PER_MINUTE", 1).set("RATE_LIMIT_BURST", 3);
    let mut app = TestApp::start(set).await;
    let admin = app.administrator("admin@example.org").await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let mut stream = begun(&app, &ada, "goes on").await;
    let me = || app.get("/v1/auth/me").bearer(&ada.access).send();
    until("the bucket to be empty", async || me().await.status == 429).await;

    app.write_setting("RATE_LIMIT_BURST", 50);
    reloaded(&app, &admin).await;
    let me = || app.get("/v1/auth/me").bearer(&ada.access).send();
    for _ in 0..20 {
        me().await.expect_status(200);
    }
    stream.until("chunk").await;
    let actors = Actors::of(&app).await;
    for shard in 0..16 {
        actors.kill(&format!("limits_sup/shard-{shard}")).await;
        actors.back(&format!("limits_sup/shard-{shard}")).await;
    }
    until("the shards", async || me().await.status == 200).await;
    for _ in 0..40 {
        me().await.expect_status(200);
    }
    stream.until("chunk").await;
    drop(stream);
    app.finish().await;
}

#[tokio::test]
async fn slots_change_under_load_without_cutting_a_turn() {
    let mut app = TestApp::start(options(Store::Sqlite, endless()).reloadable()).await;
    let admin = app.administrator("admin@example.org").await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let mut first = begun(&app, &ada, "one").await;
    let mut waiting = app.ask(&ada, &prompt(MODEL, "two")).await;
    waiting.until("queue").await;
    app.write_setting("MODEL_SLOTS", "qwen3:8b=3");
    reloaded(&app, &admin).await;
    waiting.until("chunk").await;
    let mut third = begun(&app, &ada, "three").await;
    assert_eq!(app.queue(&ada, MODEL).await["slots"], 3);

    app.write_setting("MODEL_SLOTS", "qwen3:8b=1");
    reloaded(&app, &admin).await;
    until("the new number", async || app.queue(&ada, MODEL).await["slots"] == 1).await;
    for stream in [&mut first, &mut waiting, &mut third] {
        stream.until("chunk").await;
    }
    assert_eq!(app.queue(&ada, MODEL).await["running"], 3);
    drop((first, waiting, third));
    app.ollama.control().change_model(MODEL, |model| model.tokens = 2);
    app.chat(&ada, &unstored(MODEL, "last")).send().await.expect_status(200);
    let workers = async || {
        let tree = app.actors().await;
        let is_worker = |node: &&Value| node["path"].as_str().unwrap().starts_with("models_sup/qwen3:8b/");
        tree["nodes"].as_array().unwrap().iter().filter(is_worker).count()
    };
    until("the workers to leave", async || workers().await == 1).await;
    app.finish().await;
}

#[tokio::test]
async fn a_model_server_is_swapped_under_load_running_turns_finish_and_waiting_ones_are_served_by_the_new_one()
 {
    let other = FakeOllama::start(fake_ollama::Config::with([Model::new(MODEL).tokens(5)])).await.unwrap();
    let slow = Model::new(MODEL).tokens(60).tokens_per_s(40.0);
    let mut app = TestApp::start(options(Store::Sqlite, [slow]).reloadable()).await;
    let admin = app.administrator("admin@example.org").await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let mut running = begun(&app, &ada, "on the old one").await;
    let mut waiting = app.ask(&ada, &prompt(MODEL, "in between")).await;
    waiting.until("queue").await;

    app.write_setting("OLLAMA_BASE_URL", other.url());
    let changed = reloaded(&app, &admin).await["changed"].clone();
    assert_eq!([&changed[0]["setting"], &changed[0]["to"]], [&json!("OLLAMA_BASE_URL"), &json!(other.url())]);
    assert_eq!(waiting.last().await.event, "done");
    assert_eq!(waiting.text(), answer("in between", 5));
    // It was still under way when the new server had answered already.
    assert_eq!(app.ollama.control().counters().models[MODEL].in_flight, 1);
    assert_eq!(running.last().await.event, "done");
    assert_eq!(running.text(), answer("on the old one", 60));
    assert_eq!(app.asked().len(), 1, "the old server got no other prompt");
    app.chat(&ada, &unstored(MODEL, "from now on")).send().await.expect_status(200);
    assert_eq!(other.control().counters().models[MODEL].in_flight, 0);
    app.finish().await;
}

#[tokio::test]
async fn pages_of_an_origin_are_let_in_by_a_reload() {
    let mut app = TestApp::start(Options::on(Store::Sqlite).reloadable()).await;
    let admin = app.administrator("admin@example.org").await;
    let asked = |app: &TestApp| {
        app.get("/v1/models").bearer(&admin.access).header("origin", "https://chat.example.org")
    };
    assert_eq!(asked(&app).send().await.header("access-control-allow-origin"), None);
    app.write_setting("ALLOWED_ORIGINS", "https://chat.example.org");
    reloaded(&app, &admin).await;
    let reply = asked(&app).send().await;
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://chat.example.org"));
    app.finish().await;
}

/// A service in a process of its own, with a file of settings.
struct Process {
    gateway: Gateway,
    file: PathBuf,
    secret: PathBuf,
    access: String,
    _ollama: FakeOllama,
    database: Database,
    scratch: Scratch,
}

impl Process {
    async fn start(settings: &str) -> Self {
        let scratch = Scratch::new("reload", None).unwrap();
        let database = Database::make(Store::Sqlite, &scratch.path().join("data")).await;
        let ollama = FakeOllama::start(fake_ollama::Config::with(endless())).await.unwrap();
        let file = scratch.path().join("settings.toml");
        fs::write(&file, settings).unwrap();
        let secret = scratch.path().join("secret");
        fs::write(&secret, SECRET).unwrap();
        let mut command = Self::command(&file, &secret);
        command.env("OLLAMA_BASE_URL", ollama.url());
        let gateway = Gateway::start(command, &scratch).await.unwrap();
        let credentials = json!({"email": "ada@example.org", "password": PASSWORD});
        let created = Call::new(gateway.addr, "POST", "/v1/auth/signup").json(&credentials).send().await;
        created.expect_status(201);
        let mut process =
            Self { gateway, file, secret, access: String::new(), _ollama: ollama, database, scratch };
        process.access = process.log_in("ada@example.org").await;
        process
    }

    fn command(file: &Path, secret: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_deepersensor"));
        command.arg("--config").arg(file).env_clear().env("JWT_SECRET_FILE", secret);
        command
    }

    async fn log_in(&self, email: &str) -> String {
        let credentials = json!({"email": email, "password": PASSWORD});
        let call = Call::new(self.gateway.addr, "POST", "/v1/auth/login").json(&credentials);
        let tokens = call.send().await.expect_status(200).json();
        tokens["access_token"].as_str().unwrap().to_owned()
    }

    /// Makes an administrator by the command line, and returns what it signs in with.
    async fn administrator(&self, email: &str) -> String {
        let password = self.scratch.path().join("password");
        fs::write(&password, PASSWORD).unwrap();
        let mut command = Self::command(&self.file, &self.secret);
        command.args(["admin", "create", "--email", email, "--password-file"]).arg(password);
        let output = command.current_dir(self.scratch.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.log_in(email).await
    }

    /// Sends SIGHUP, and returns the line of the log about what came of it.
    async fn hang_up(&self, settings: &str, event: &str) -> Value {
        fs::write(&self.file, settings).unwrap();
        let before = self.lines(event).len();
        signal("HUP", &[self.gateway.pid()]).unwrap();
        until("a line about the reload", async || self.lines(event).len() > before).await;
        self.lines(event).pop().unwrap()
    }

    fn lines(&self, event: &str) -> Vec<Value> {
        let said = self.gateway.said().unwrap();
        let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["event"] == event).collect()
    }

    async fn me(&self) -> u16 {
        Call::new(self.gateway.addr, "GET", "/v1/auth/me").bearer(&self.access).send().await.status
    }
}

#[tokio::test]
async fn sighup_raises_a_limit_refuses_what_is_invalid_and_changes_the_log_while_a_stream_goes_on() {
    let tight = "RATE_LIMIT_BURST = 3\nRATE_LIMIT_REQUESTS_PER_MINUTE = 1\n";
    let process = Process::start(tight).await;
    let body = prompt(MODEL, "goes on");
    let call = Call::new(process.gateway.addr, "POST", "/v1/chat/stream").bearer(&process.access).json(&body);
    let mut stream = Streamed::new(call.open().await.expect_status(200));
    stream.until("chunk").await;
    until("the bucket to be empty", async || process.me().await == 429).await;

    let line = process.hang_up("RATE_LIMIT_BURST = 0\nAPP_PRT = 1\n", "sys_config_refused").await;
    let problems = line["problems"].as_str().unwrap();
    assert!(problems.contains("RATE_LIMIT_BURST (") && problems.contains("APP_PRT ("), "{line:#}");
    assert_eq!((process.me().await, &line["level"]), (429, &json!("ERROR")));

    let wide = "RATE_LIMIT_BURST = 100\nRATE_LIMIT_REQUESTS_PER_MINUTE = 1\n";
    let line = process.hang_up(wide, "sys_config_reloaded").await;
    assert_eq!(
        [&line["changed"], &line["outcome"]],
        [&json!("RATE_LIMIT_BURST: 3 → 100"), &json!("applied")]
    );
    for _ in 0..20 {
        assert_eq!(process.me().await, 200);
    }
    let audited =
        "SELECT event FROM audit_log WHERE event LIKE 'sys_config%' AND actor_id IS NULL ORDER BY id";
    until("the audit trail", async || {
        process.database.texts(audited).await == ["sys_config_refused", "sys_config_reloaded"]
    })
    .await;

    // With `off` not even the line about this very change is written.
    fs::write(&process.file, format!("{wide}RUST_LOG = \"off\"\n")).unwrap();
    signal("HUP", &[process.gateway.pid()]).unwrap();
    let reloads = async || {
        let text = Call::new(process.gateway.ops, "GET", "/metrics").send().await.text();
        text.contains("deepersensor_config_reloads_total{outcome=\"applied\"} 2\n")
    };
    until("the reload", reloads).await;
    let silent = process.gateway.said().unwrap();
    process.me().await;
    let line = process.hang_up(wide, "sys_config_reloaded").await;
    assert_eq!(line["changed"], "RUST_LOG: off → info");
    assert!(process.gateway.said().unwrap().starts_with(&silent));

    stream.until("chunk").await;
    drop(stream);
    let (status, _) = process.gateway.terminate(PATIENCE).await.unwrap();
    assert!(status.success(), "{status}");
    process.database.remove().await;
}

#[tokio::test]
async fn d07_a_secret_whose_file_became_a_pipe_is_refused_and_the_service_still_stops() {
    let process = Process::start("").await;
    fs::remove_file(&process.secret).unwrap();
    assert!(Command::new("mkfifo").arg(&process.secret).status().unwrap().success());
    let line = process.hang_up("", "sys_config_refused").await;
    let problems = line["problems"].as_str().unwrap();
    assert!(problems.starts_with("JWT_SECRET_FILE ("), "{line:#}");
    assert!(problems.contains("it is no regular file; fix: "), "{line:#}");
    assert_eq!(process.me().await, 200);
    let (status, _) = process.gateway.terminate(PATIENCE).await.unwrap();
    assert_eq!(status.code(), Some(0));
    process.database.remove().await;
}

#[tokio::test]
async fn b13_the_log_names_who_had_settings_read_again_and_nobody_after_a_signal() {
    let process = Process::start("").await;
    let access = process.administrator("root@example.org").await;
    let call = |method: &'static str, path: &'static str| {
        Call::new(process.gateway.addr, method, path).bearer(&access)
    };
    let me = call("GET", "/v1/auth/me").send().await.expect_status(200).json()["id"].clone();
    let told = |reply: &Reply, event: &str| {
        let line = process.lines(event).pop().unwrap();
        let request = json!(reply.header("x-request-id").unwrap());
        assert_eq!(
            [&line["user_id"], &line["ip"], &line["request_id"]],
            [&me, &json!("127.0.0.1"), &request],
            "{line:#}"
        );
    };
    fs::write(&process.file, "RATE_LIMIT_BURST = 0").unwrap();
    told(&call("POST", "/v1/admin/reload").send().await.expect_status(422), "sys_config_refused");
    fs::write(&process.file, "RATE_LIMIT_BURST = 30").unwrap();
    told(&call("POST", "/v1/admin/reload").send().await.expect_status(200), "sys_config_reloaded");
    let filter = json!({"filter": "info"});
    let set = call("POST", "/v1/admin/log-filter").json(&filter).send().await;
    told(&set.expect_status(200), "sys_log_filter_changed");

    for (settings, event) in
        [("RATE_LIMIT_BURST = 0", "sys_config_refused"), ("RATE_LIMIT_BURST = 40", "sys_config_reloaded")]
    {
        let line = process.hang_up(settings, event).await;
        for name in ["user_id", "ip", "request_id"] {
            assert_eq!(line.get(name), None, "{line:#}");
        }
    }
    let (status, _) = process.gateway.terminate(PATIENCE).await.unwrap();
    assert!(status.success(), "{status}");
    process.database.remove().await;
}
