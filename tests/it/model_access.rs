//! Which models callers may ask: what is shown, what is refused and in which words, and what reaches the model server.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use support::fake_ollama::{self, FakeOllama, Model};
use tokio::time::Instant;

use crate::{
    harness::{Call, MODEL, Options, Reply, Session, Store, TestApp, both_stores, until},
    turn::{options, prompt, unstored},
};

const SECRET_MODEL: &str = "secret:8b";
const LLAMA: &str = "llama3.2:latest";
const CLOUD: &str = "gpt-oss:20b-cloud";

/// How long another service may go on with the lists from before.
const EVERYWHERE_WITHIN: Duration = Duration::from_secs(5);

/// Every way to say [`LLAMA`].
const SPELLINGS: [&str; 6] = [
    "llama3.2",
    "LLAMA3.2:Latest",
    "library/llama3.2",
    "registry.ollama.ai/library/llama3.2",
    "llama3.2:local",
    "Registry.Ollama.AI/Library/LLAMA3.2:LOCAL",
];

fn models() -> [Model; 4] {
    [MODEL, LLAMA, SECRET_MODEL, CLOUD].map(|name| Model::new(name).tokens(2))
}

async fn ids(service: SocketAddr, credential: &str) -> Vec<String> {
    let list =
        Call::new(service, "GET", "/v1/models").bearer(credential).send().await.expect_status(200).json();
    list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

async fn chat(app: &TestApp, credential: &str, body: &Value) -> Reply {
    app.post("/v1/chat", body).bearer(credential).send().await
}

async fn patch(app: &TestApp, by: &Session, path: &str, models: Value) -> Reply {
    app.call("PATCH", path).json(&json!({"models": models})).bearer(&by.access).send().await
}

fn account(user: &Session) -> String {
    format!("/v1/admin/users/{}", user.user)
}

fn forget_prompts(app: &TestApp) {
    drop(app.ollama.control().take_requests());
}

/// The models that prompts were sent to since the last time, by the server's own names.
fn prompted(app: &TestApp) -> Vec<String> {
    prompted_at(&app.ollama)
}

fn prompted_at(server: &FakeOllama) -> Vec<String> {
    let chats = server.control().take_requests().into_iter().filter(|request| request.path == "/api/chat");
    chats.map(|request| request.json()["model"].as_str().unwrap().to_owned()).collect()
}

/// The reply without what is every reply's own, and without the name that was asked for.
fn anonymous(reply: &Reply, name: &str) -> (u16, Vec<(String, String)>, String) {
    let own = ["x-request-id", "date"];
    let mut headers: Vec<_> = reply
        .headers
        .iter()
        .filter(|(header, _)| !own.contains(&header.as_str()))
        .map(|(header, value)| (header.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    let id = reply.header("x-request-id").unwrap();
    (reply.status, headers, reply.text().replace(id, "‹id›").replace(name, "‹name›"))
}

both_stores! {
    async fn a_list_of_an_account_is_set_shown_and_counts_at_once_here_and_soon_elsewhere(store) {
        let app = TestApp::start(options(store, models())).await;
        let twin = match store {
            Store::Sqlite => None,
            Store::Postgres => Some(app.start_twin(|_| ()).await),
        };
        let root = app.administrator("root@example.org").await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let everything = [LLAMA, MODEL, SECRET_MODEL];
        let services: Vec<_> = [Some(app.addr()), twin.as_ref().map(|twin| twin.addr())].into_iter().flatten().collect();
        for service in &services {
            assert_eq!(ids(*service, &ada.access).await, everything);
        }
        let changed = patch(&app, &root, &account(&ada), json!(["QWEN3:*", " library/llama3.2 "])).await;
        let changed = changed.expect_status(200).json();
        assert_eq!(changed["models"], json!(["qwen3:*", "llama3.2:latest"]));
        let at = Instant::now();
        assert_eq!(ids(app.addr(), &ada.access).await, [LLAMA, MODEL], "not at once");
        for service in &services {
            loop {
                let sent = Instant::now();
                if ids(*service, &ada.access).await == [LLAMA, MODEL] {
                    break;
                }
                let after = sent.duration_since(at);
                assert!(after < EVERYWHERE_WITHIN, "as before {after:?} after the change");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        assert_eq!(ids(app.addr(), &root.access).await, everything, "another's");
        let read = app.get(&account(&ada)).bearer(&root.access).send().await.expect_status(200).json();
        assert_eq!(read, changed);
        let exported = app.get("/v1/auth/me/export").bearer(&ada.access).send().await.expect_status(200);
        assert!(exported.text().contains(r#""models":["qwen3:*","llama3.2:latest"]"#), "{}", exported.text());

        // An empty list is one; none is the role's again.
        patch(&app, &root, &account(&ada), json!([])).await.expect_status(200);
        assert_eq!(ids(app.addr(), &ada.access).await, [""; 0]);
        let none = patch(&app, &root, &account(&ada), Value::Null).await.expect_status(200).json();
        assert_eq!(none["models"], Value::Null);
        assert_eq!(ids(app.addr(), &ada.access).await, everything);
        let audit = format!("/v1/admin/audit?event=privilege_permissions_changed&user={}", ada.user);
        let told = app.get(&audit).bearer(&root.access).send().await.expect_status(200).json();
        let details: Vec<_> = told["data"].as_array().unwrap().iter().map(|entry| &entry["detail"]).collect();
        assert_eq!(details, [
            "models [] to none",
            "models qwen3:*,llama3.2:latest to []",
            "models none to qwen3:*,llama3.2:latest",
        ]);
        if let Some(twin) = twin {
            twin.stop().await;
        }
        app.finish().await;
    }

    async fn a_key_opens_what_its_owner_or_an_administrator_says_and_nothing_that_its_user_may_not_ask(store) {
        let app = TestApp::start(options(store, models())).await;
        let root = app.administrator("root@example.org").await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        patch(&app, &root, &account(&ada), json!(["llama3.2", "qwen3:*"])).await.expect_status(200);
        let wanted = json!({"name": "narrow", "scopes": ["chat", "models"], "models": ["llama3.2", "secret:*"]});
        let made = app.post("/v1/api-keys", &wanted).bearer(&ada.access).send().await.expect_status(201).json();
        assert_eq!(made["models"], json!(["llama3.2:latest", "secret:*"]));
        let (key, path) = (made["key"].as_str().unwrap(), format!("/v1/admin/api-keys/{}", made["id"].as_str().unwrap()));
        assert_eq!(ids(app.addr(), key).await, [LLAMA]);
        assert_eq!(ids(app.addr(), &ada.access).await, [LLAMA, MODEL]);
        chat(&app, key, &unstored(SECRET_MODEL, "hello")).await.expect_error(404, "model_not_found");
        chat(&app, key, &unstored(MODEL, "hello")).await.expect_error(404, "model_not_found");
        chat(&app, key, &unstored(LLAMA, "hello")).await.expect_status(200);
        assert_eq!(prompted(&app), [LLAMA]);

        patch(&app, &ada, &path, json!(["*"])).await.expect_error(403, "forbidden");
        let changed = patch(&app, &root, &path, json!(["qwen3:8b"])).await.expect_status(200).json();
        assert_eq!(changed["models"], json!(["qwen3:8b"]));
        assert_eq!(ids(app.addr(), key).await, [MODEL], "not at once");
        let listed = app.get("/v1/api-keys").bearer(&ada.access).send().await.expect_status(200).json();
        assert_eq!(listed["data"][0]["models"], changed["models"]);
        patch(&app, &root, &path, Value::Null).await.expect_status(200);
        assert_eq!(ids(app.addr(), key).await, [LLAMA, MODEL]);
        app.finish().await;
    }
}

#[tokio::test]
async fn a_denied_model_looks_like_a_missing_one_to_the_byte() {
    let options = options(Store::Sqlite, models())
        .set("USER_MODELS", "llama3.2, qwen3:*")
        .set("RATE_LIMIT_MODEL_REQUESTS_PER_MINUTE", 90)
        .set("RATE_LIMIT_TOKENS_PER_MINUTE", 1_000_000);
    let app = TestApp::start(options).await;
    let root = app.administrator("root@example.org").await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    assert_eq!(ids(app.addr(), &ada.access).await, [LLAMA, MODEL]);
    assert_eq!(ids(app.addr(), &root.access).await, [LLAMA, MODEL, SECRET_MODEL]);
    forget_prompts(&app);
    let pairs = [
        // Of one length each, so that replies are of one length, too.
        (SECRET_MODEL, "absent:8b"),
        ("SECRET:8B", "ABSENT:8B"),
        ("library/secret:8b", "library/absent:8b"),
        ("registry.ollama.ai/library/secret:8b", "registry.ollama.ai/library/absent:8b"),
        (CLOUD, "gpt-oss:21b-cloud"),
    ];
    for (denied, missing) in pairs {
        let of = async |name: &str| {
            let mut replies = Vec::new();
            for path in ["/v1/chat", "/v1/chat/stream"] {
                for body in [prompt(name, "hello"), unstored(name, "hello")] {
                    replies.push(app.post(path, &body).bearer(&ada.access).send().await);
                }
            }
            replies.push(app.get(&format!("/v1/models/{name}")).bearer(&ada.access).send().await);
            // What is left in buckets differs from request to request.
            replies.iter_mut().for_each(|reply| {
                reply.headers.remove("ratelimit").expect("limits are on");
                reply.headers.remove("x-ratelimit-remaining-requests");
                reply.headers.remove("x-ratelimit-reset-requests");
            });
            replies.iter().map(|reply| anonymous(reply, name)).collect::<Vec<_>>()
        };
        let (denied_replies, missing_replies) = (of(denied).await, of(missing).await);
        assert!(denied_replies.iter().all(|(status, ..)| *status == 404), "{denied_replies:#?}");
        assert_eq!(denied_replies, missing_replies, "{denied} {missing}");
    }
    assert_eq!(prompted(&app), [""; 0]);
    // Nothing was written about them either, and they filled no bucket of a model.
    assert_eq!(app.database.number("SELECT count(*) FROM turns").await, 0);
    let metrics = app.metrics().await;
    let keys = metrics
        .lines()
        .find(|line| line.starts_with("deepersensor_rate_limit_keys{scope=\"model\""))
        .unwrap();
    assert!(keys.ends_with(" 0"), "{keys}");
    app.finish().await;
}

#[tokio::test]
async fn every_spelling_of_a_model_is_allowed_denied_and_counted_as_that_model() {
    let options =
        options(Store::Sqlite, models()).set("RATE_LIMIT_MODEL_REQUESTS_PER_MINUTE", SPELLINGS.len() * 3);
    let app = TestApp::start(options).await;
    let root = app.administrator("root@example.org").await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    for pattern in SPELLINGS {
        patch(&app, &root, &account(&ada), json!([pattern])).await.expect_status(200);
        assert_eq!(ids(app.addr(), &ada.access).await, [LLAMA], "{pattern}");
    }
    forget_prompts(&app);
    for spelling in SPELLINGS {
        let reply = chat(&app, &ada.access, &unstored(spelling, "hello")).await.expect_status(200).json();
        assert_eq!(reply["model"], spelling, "the caller's own");
    }
    assert_eq!(prompted(&app), [LLAMA; SPELLINGS.len()], "the server's own");
    // A third of the minute's turns may come at once: they filled one bucket together.
    let limited = chat(&app, &ada.access, &unstored(LLAMA, "hello")).await;
    limited.expect_error(429, "rate_limited");
    patch(&app, &root, &account(&ada), json!(["qwen3:*"])).await.expect_status(200);
    for spelling in SPELLINGS {
        chat(&app, &ada.access, &unstored(spelling, "hello")).await.expect_error(404, "model_not_found");
    }
    assert_eq!(app.database.texts("SELECT DISTINCT model FROM turns").await, [LLAMA]);
    app.finish().await;
}

#[tokio::test]
async fn a_turn_of_a_model_denied_since_is_read_to_its_end_and_its_conversation_goes_on_with_another() {
    let app = TestApp::start(options(Store::Sqlite, models())).await;
    let root = app.administrator("root@example.org").await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let body = prompt(SECRET_MODEL, "hello");
    let keyed = || app.chat(&ada, &body).header("idempotency-key", "once").send();
    let first = keyed().await.expect_status(200).json();
    patch(&app, &root, &account(&ada), json!([MODEL])).await.expect_status(200);

    let turn = format!("/v1/turns/{}", first["id"].as_str().unwrap());
    let read = app.get(&turn).bearer(&ada.access).send().await.expect_status(200).json();
    assert_eq!([&read["status"], &read["model"]], ["complete", SECRET_MODEL]);
    let stream = app.get(&format!("{turn}/stream")).bearer(&ada.access).send().await.expect_status(200);
    assert!(stream.text().contains("event: done"), "{}", stream.text());
    let again = keyed().await.expect_status(200);
    assert_eq!(again.header("idempotent-replay"), Some("true"));
    assert_eq!(again.json()["message"], first["message"]);
    let go_on = |model: &str| {
        let mut body = prompt(model, "and then?");
        body["conversation_id"] = first["conversation_id"].clone();
        body
    };
    chat(&app, &ada.access, &go_on(SECRET_MODEL)).await.expect_error(404, "model_not_found");
    forget_prompts(&app);
    chat(&app, &ada.access, &go_on(MODEL)).await.expect_status(200);
    assert_eq!(prompted(&app), [MODEL]);
    app.finish().await;
}

#[tokio::test]
async fn an_alias_is_served_by_the_next_model_while_its_first_ones_server_is_away() {
    let server = async |models: &[&str]| {
        let models: Vec<_> = models.iter().map(|name| Model::new(name).tokens(2)).collect();
        FakeOllama::start(fake_ollama::Config::with(models)).await.unwrap()
    };
    let (one, two) = (server(&[MODEL, LLAMA, CLOUD]).await, server(&[SECRET_MODEL]).await);
    let aliases = "Fast = absent then qwen3:8b then secret:8b, alone = llama3.2, far = gpt-oss:20b-cloud";
    let options = options(Store::Sqlite, [])
        .set("OLLAMA_BASE_URL", format!("{},{}", one.url(), two.url()))
        .set("MODEL_ALIASES", aliases)
        .set("RATE_LIMIT_MODEL_REQUESTS_PER_MINUTE", 1_000_000)
        .tune(|config| config.system.model.catalogue_refresh = Duration::from_millis(50));
    let app = TestApp::start(options).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    assert_eq!(ids(app.addr(), &ada.access).await, ["alone", "Fast", LLAMA, MODEL, SECRET_MODEL]);
    let fast = async || app.get("/v1/models/FAST").bearer(&ada.access).send().await.expect_status(200).json();
    let card = fast().await;
    assert_eq!([&card["id"], &card["alias_of"], &card["state"]], ["Fast", MODEL, "available"]);
    let first = chat(&app, &ada.access, &prompt("fAsT", "hello")).await.expect_status(200).json();
    assert_eq!(first["model"], "fAsT");
    assert_eq!((prompted_at(&one), prompted_at(&two)), (vec![MODEL.to_owned()], vec![]));

    one.control().close().await;
    until("the model that stands in", async || fast().await["alias_of"] == SECRET_MODEL).await;
    let second = chat(&app, &ada.access, &prompt("fast", "hello")).await.expect_status(200).json();
    assert_eq!(second["model"], "fast");
    assert_eq!(prompted_at(&two), [SECRET_MODEL]);
    let stored = app.database.texts("SELECT model FROM turns ORDER BY id").await;
    assert_eq!(stored, [MODEL, SECRET_MODEL], "what served it is in the ledger");
    // Who comes before the server is given up waits for it, for as long as they have.
    until("the refusal of what has nothing to fall back to", async || {
        let call = app.post("/v1/chat", &unstored("alone", "hello")).bearer(&ada.access);
        call.header("x-request-timeout", "1").send().await.status == 503
    })
    .await;
    chat(&app, &ada.access, &unstored("far", "hello")).await.expect_error(404, "model_not_found");

    one.control().reopen().await.unwrap();
    until("the first one again", async || fast().await["alias_of"] == MODEL).await;
    chat(&app, &ada.access, &prompt("fast", "hello")).await.expect_status(200);
    assert_eq!((prompted_at(&one), prompted_at(&two)), (vec![MODEL.to_owned()], vec![]));
    app.finish().await;
}

#[tokio::test]
async fn a_cloud_models_name_is_denied_whatever_lists_say_until_cloud_models_are_allowed() {
    let mut app = TestApp::start(
        options(Store::Sqlite, models())
            .reloadable()
            .set("USER_MODELS", "*, gpt-oss:20b-cloud")
            .set("MODEL_ALIASES", "far = gpt-oss:20b-cloud"),
    )
    .await;
    let root = app.administrator("root@example.org").await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    forget_prompts(&app);
    for name in [CLOUD, "GPT-OSS:20B-CLOUD", "library/gpt-oss:20b-cloud", "far"] {
        chat(&app, &ada.access, &unstored(name, "hello")).await.expect_error(404, "model_not_found");
    }
    assert_eq!(prompted(&app), [""; 0]);
    assert_eq!(ids(app.addr(), &ada.access).await, [LLAMA, MODEL, SECRET_MODEL]);
    app.write_setting("ALLOW_CLOUD_MODELS", true);
    app.call("POST", "/v1/admin/reload").bearer(&root.access).send().await.expect_status(200);
    let allowed = ["far", CLOUD, LLAMA, MODEL, SECRET_MODEL];
    until("cloud models", async || ids(app.addr(), &ada.access).await == allowed).await;
    forget_prompts(&app);
    for name in [CLOUD, "far"] {
        chat(&app, &ada.access, &unstored(name, "hello")).await.expect_status(200);
    }
    assert_eq!(prompted(&app), [CLOUD; 2]);
    app.finish().await;
}

#[tokio::test]
async fn a_reload_changes_roles_lists_aliases_and_bounds_for_the_next_request() {
    let mut app = TestApp::start(options(Store::Sqlite, models()).reloadable()).await;
    let root = app.administrator("root@example.org").await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    app.write_setting("USER_MODELS", "qwen3:*");
    app.write_setting("ADMIN_MODELS", "-");
    app.write_setting("MODEL_ALIASES", "fast = qwen3:8b then llama3.2");
    app.write_setting("MAX_OUTPUT_TOKENS", 5);
    let reload = async |app: &TestApp| app.call("POST", "/v1/admin/reload").bearer(&root.access).send().await;
    reload(&app).await.expect_status(200);
    assert_eq!(ids(app.addr(), &ada.access).await, ["fast", MODEL]);
    assert_eq!(ids(app.addr(), &root.access).await, [""; 0]);
    forget_prompts(&app);
    chat(&app, &ada.access, &unstored("fast", "hello")).await.expect_status(200);
    let sent = app.ollama.control().take_requests().into_iter().find(|request| request.path == "/api/chat");
    assert_eq!(sent.unwrap().json()["options"]["num_predict"], 5);

    app.write_setting("MODEL_ALIASES", "fast = quick, quick = fast");
    let refused = reload(&app).await.expect_error(422, "invalid_request").json();
    assert_eq!(refused["error"]["problems"][0]["setting"], "MODEL_ALIASES");
    assert_eq!(ids(app.addr(), &ada.access).await, ["fast", MODEL], "as before");
    app.finish().await;
}

#[tokio::test]
async fn an_answer_is_asked_for_within_the_operators_bound_and_nothing_else_changes() {
    let options = options(Store::Sqlite, models())
        .set("MAX_OUTPUT_TOKENS", 300)
        .set("MODEL_MAX_OUTPUT_TOKENS", "LLAMA3.2=20")
        .set("MODEL_ALIASES", "small = llama3.2");
    let app = TestApp::start(options).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    for (model, asked, sent) in [
        (MODEL, json!({"num_predict": 7, "seed": 3}), json!(7)),
        (MODEL, json!({"num_predict": 301}), json!(300)),
        (MODEL, json!({"num_predict": -1}), json!(300)),
        (MODEL, json!({}), json!(300)),
        ("library/llama3.2", json!({"num_predict": 300}), json!(20)),
        ("small", json!({"num_predict": 300}), json!(20)),
    ] {
        forget_prompts(&app);
        let mut body = unstored(model, "hello");
        body["options"] = asked.clone();
        chat(&app, &ada.access, &body).await.expect_status(200);
        let requests = app.ollama.control().take_requests();
        let received = requests.iter().find(|request| request.path == "/api/chat").unwrap().json();
        assert_eq!(received["options"]["num_predict"], sent, "{model} {asked}");
        assert_eq!(received["options"]["seed"], asked["seed"], "{model} {asked}");
    }
    app.finish().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_list_is_said_of_it_and_nothing_is_changed() {
    let app = TestApp::start(Options::on(Store::Sqlite)).await;
    let root = app.administrator("root@example.org").await;
    let (key, _) = app.create_key(&root, "models").await;
    let many: Vec<_> = (0..65).map(|n| format!("m{n}")).collect();
    for (models, status) in [
        (json!(["a b"]), 422),
        (json!([""]), 422),
        (json!(["../etc"]), 422),
        (json!(["library/*"]), 422),
        (json!(["x".repeat(129)]), 422),
        (json!(many), 422),
        (json!("qwen3:*"), 400),
        (json!([1]), 400),
        (json!({"a": 1}), 400),
    ] {
        for path in [account(&root), format!("/v1/admin/api-keys/{key}")] {
            let reply =
                patch(&app, &root, &path, models.clone()).await.expect_error(status, "invalid_request");
            let param = reply.json()["error"]["param"].clone();
            assert!(param.as_str().unwrap().starts_with("models"), "{path} {models}: {param}");
        }
        let wanted = json!({"name": "a key", "scopes": ["chat"], "models": models});
        let reply = app.post("/v1/api-keys", &wanted).bearer(&root.access).send().await;
        reply.expect_error(status, "invalid_request");
    }
    for table in ["users", "api_keys"] {
        let set = format!("SELECT count(*) FROM {table} WHERE models IS NOT NULL");
        assert_eq!(app.database.number(&set).await, 0);
    }
    app.finish().await;
}
