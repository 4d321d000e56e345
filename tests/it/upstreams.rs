//! One service in front of an Ollama and a server that speaks OpenAI's dialect, which have a model in common.

use std::time::Duration;

use serde_json::{Value, json};
use support::{
    fake_ollama::{self, FakeOllama, Model, Scenario, Tokens},
    fake_openai::FakeOpenAi,
};

use crate::{
    harness::{
        Call, MODEL, Options, Reply, Session, Store, TestApp, both_stores,
        canaries::{self, UPSTREAM_KEY},
        until,
    },
    logs::Logs,
    turn::{answer, told, unstored},
};

const HOSTED: &str = "meta-llama/Llama-3.1-8B-Instruct";
const EMBEDDER: &str = "embedder";
const TOKENS: u64 = 7;

/// The service, `local` (Ollama) and `hosted` (the other).
struct Mixed {
    app: TestApp,
    local: FakeOllama,
    hosted: FakeOpenAi,
    admin: Session,
    ada: Session,
}

impl Mixed {
    async fn start(store: Store, key: &str) -> Self {
        let shared = || Model::new(MODEL).tokens(TOKENS);
        let local = FakeOllama::start(fake_ollama::Config::with([shared()])).await.unwrap();
        let models = [shared(), Model::new(HOSTED).tokens(TOKENS), Model::embedding(EMBEDDER)];
        let hosted = FakeOpenAi::start(fake_ollama::Config::with(models), Some(UPSTREAM_KEY)).await.unwrap();
        let options = Options::on(store)
            .set("UPSTREAMS", format!("local ollama {}, hosted openai {}", local.url(), hosted.url()))
            .set("UPSTREAM_API_KEYS", format!("hosted={key}"))
            .tune(|config| config.system.model.catalogue_refresh = Duration::from_millis(50));
        let app = TestApp::start(options).await;
        let admin = app.administrator("admin@example.org").await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        Self { app, local, hosted, admin, ada }
    }

    async fn change(&self, name: &str, what: &str) {
        let path = format!("/v1/admin/upstreams/{name}/{what}");
        self.app.call("POST", &path).bearer(&self.admin.access).send().await.expect_status(200);
    }

    async fn upstreams(&self) -> Reply {
        let list = self.app.get("/v1/admin/upstreams").bearer(&self.admin.access).send().await;
        list.expect_status(200)
    }

    fn ask(&self, path: &str, body: &Value) -> Call {
        self.app.post(path, body).bearer(&self.ada.access)
    }

    /// What the hosted server was sent last.
    fn sent(&self) -> fake_ollama::Request {
        self.hosted.control().requests().into_iter().rfind(|request| request.method == "POST").unwrap()
    }

    fn chats(&self) -> [u64; 2] {
        [self.local.control().counters().chat_calls, self.hosted.control().counters().chat_calls]
    }
}

both_stores! {
    async fn a_model_of_both_is_one_model_and_either_answers_for_it(store) {
        let mixed = Mixed::start(store, UPSTREAM_KEY).await;
        let list = mixed.app.get("/v1/models").bearer(&mixed.ada.access).send().await.expect_status(200).json();
        let mut names: Vec<_> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, [EMBEDDER, HOSTED, MODEL]);
        let servers = mixed.upstreams().await.json();
        let kinds: Vec<_> = servers["data"].as_array().unwrap().iter().map(|server| (server["name"].clone(), server["kind"].clone())).collect();
        assert_eq!(kinds, [(json!("local"), json!("ollama")), (json!("hosted"), json!("openai"))]);
        for (drained, chats) in [("local", [0, 1]), ("hosted", [1, 1])] {
            mixed.change(drained, "drain").await;
            let reply = mixed.app.chat(&mixed.ada, &unstored(MODEL, "hi")).send().await.expect_status(200).json();
            assert_eq!(reply["message"]["content"], answer("hi", TOKENS), "without {drained}");
            assert_eq!(reply["usage"]["source"], "reported");
            assert_eq!(mixed.chats(), chats, "without {drained}");
            mixed.change(drained, "resume").await;
        }
        let own = mixed.app.chat(&mixed.ada, &unstored(HOSTED, "hi")).send().await.expect_status(200).json();
        assert_eq!(own["message"]["content"], answer("hi", TOKENS));
        assert_eq!(mixed.sent().json()["model"], HOSTED, "by the server's own spelling");
        mixed.app.finish().await;
    }

    async fn each_dialect_is_served_by_it_and_nothing_of_the_callers_request_goes_further(store) {
        let logs = Logs::listen();
        let mixed = Mixed::start(store, UPSTREAM_KEY).await;
        mixed.change("local", "drain").await;
        let messages = json!([{ "role": "user", "content": told("hi") }]);

        let mut streamed = mixed.app.ask(&mixed.ada, &unstored(MODEL, "hi")).await;
        assert_eq!(streamed.last().await.event, "done");
        assert_eq!(streamed.text(), answer("hi", TOKENS));

        // Ollama says of what both have that it cannot think; of what only the other has, nobody says anything.
        let mut body = json!({ "model": HOSTED, "messages": messages, "stream": true, "keep_alive": 0, "user": "ada",
                               "stream_options": { "include_usage": true }, "reasoning_effort": "low" });
        let chunks = mixed.ask("/v1/chat/completions", &body).send().await.expect_status(200).text();
        assert!(chunks.contains(r#""finish_reason":"stop""#) && chunks.ends_with("data: [DONE]\n\n"), "{chunks}");
        assert!(chunks.contains(&format!(r#""completion_tokens":{TOKENS}"#)), "{chunks}");
        assert_eq!(mixed.sent().json()["reasoning_effort"], "low");
        body["stream"] = json!(false);
        let whole = mixed.ask("/v1/chat/completions", &body).send().await.expect_status(200).json();
        assert_eq!(whole["choices"][0]["message"]["content"], answer("hi", TOKENS));

        let body = json!({ "model": MODEL, "messages": messages, "stream": false, "keep_alive": 0, "shift": true,
                           "options": { "num_ctx": 9, "num_gpu": 9, "num_batch": 9, "seed": 5 } });
        let reply = mixed.ask("/api/chat", &body).header("x-api-version", "canary").send().await;
        let reply = reply.expect_status(200).json();
        assert_eq!(reply["message"]["content"], Tokens::new(&told("hi"), 5).text(TOKENS));
        let sent = mixed.sent();
        let fields: Vec<_> = sent.json().as_object().unwrap().keys().cloned().collect();
        assert_eq!(fields, ["model", "messages", "stream", "stream_options", "seed"]);
        assert_eq!(sent.header("authorization"), Some(&*format!("Bearer {UPSTREAM_KEY}")));
        assert_eq!(sent.header("x-api-version"), None);

        let body = json!({ "model": EMBEDDER, "input": ["one", "two"], "encoding_format": "float" });
        let made = mixed.ask("/v1/embeddings", &body).send().await.expect_status(200).json();
        let vectors: Vec<_> = made["data"].as_array().unwrap().iter().map(|one| one["embedding"].as_array().unwrap().len()).collect();
        assert_eq!((vectors, &made["usage"]["prompt_tokens"]), (vec![8, 8], &json!(2)));
        assert_eq!(mixed.chats()[0], 0, "the other server is drained");
        assert!(logs.lines().iter().all(|line| canaries::found_in(&format!("{line:?}")).is_none()));
        mixed.app.finish().await;
    }

    async fn what_the_server_says_of_its_limits_and_of_our_key_is_not_the_callers(store) {
        let mixed = Mixed::start(store, UPSTREAM_KEY).await;
        mixed.change("local", "drain").await;
        let asked = json!({ "model": MODEL, "messages": [{ "role": "user", "content": told("hi") }] });
        mixed.hosted.control().set_scenario(MODEL, Scenario::BusyThenOk { times: 1 });
        mixed.ask("/v1/chat/completions", &asked).send().await.expect_status(200);
        mixed.hosted.control().set_scenario(MODEL, Scenario::SignIn);
        let refused = mixed.ask("/v1/chat/completions", &asked).send().await;
        let refused = refused.expect_error(502, "upstream_error");
        assert!(!refused.text().contains("key"), "{}", refused.text());
        assert_eq!(mixed.upstreams().await.json()["data"][1]["breaker"], "closed");
        mixed.app.finish().await;
    }

    async fn a_server_that_refuses_our_key_is_away_and_the_others_serve(store) {
        let mixed = Mixed::start(store, "sk-upstream-wrong").await;
        until("it to be missed", async || mixed.upstreams().await.json()["data"][1]["state"] == "away").await;
        assert!(!mixed.upstreams().await.text().contains("sk-"));
        mixed.app.chat(&mixed.ada, &unstored(HOSTED, "hi")).send().await.expect_error(404, "model_not_found");
        mixed.app.chat(&mixed.ada, &unstored(MODEL, "hi")).send().await.expect_status(200);
        assert_eq!(mixed.chats(), [1, 0]);
        mixed.app.finish().await;
    }
}
