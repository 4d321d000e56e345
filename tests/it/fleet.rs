//! Two model servers behind one model, under load: one is killed, and one is drained.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use support::fake_ollama::{self, FakeOllama, Model};
use tokio::time::Instant;

use crate::{
    harness::{MODEL, Options, Session, Store, TestApp, both_stores, until},
    turn::{Streamed, unstored},
};

/// Slots of each server.
const SLOTS: usize = 4;

/// Turns at once: as many as there are slots, and as many again that wait.
const LOAD: usize = 4 * SLOTS;

/// What a caller waits at most for its answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service in front of two servers that have the same model, `gpu1` and `gpu2`.
struct Fleet {
    app: TestApp,
    servers: [FakeOllama; 2],
    admin: Session,
    ada: Session,
}

impl Fleet {
    async fn start(store: Store, model: Model) -> Self {
        let model = model.parallel(SLOTS);
        let config = || fake_ollama::Config::with([model.clone()]);
        let servers =
            [FakeOllama::start(config()).await.unwrap(), FakeOllama::start(config()).await.unwrap()];
        let named = format!("gpu1 ollama {}, gpu2 ollama {}", servers[0].url(), servers[1].url());
        let options = Options::on(store)
            .set("UPSTREAMS", named)
            .set("OLLAMA_NUM_PARALLEL", SLOTS)
            // So that both hold the model before the load begins, and conversations decide.
            .tune(|config| config.system.model.catalogue_refresh = Duration::from_millis(50));
        let app = TestApp::start(options).await;
        let admin = app.administrator("admin@example.org").await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let fleet = Self { app, servers, admin, ada };
        fleet.warm_up().await;
        fleet
    }

    /// Has both servers load the model, each while the other drains.
    async fn warm_up(&self) {
        for (name, other) in [("gpu1", "gpu2"), ("gpu2", "gpu1")] {
            self.change(other, "drain").await;
            self.app.chat(&self.ada, &unstored(MODEL, "warm up")).send().await.expect_status(200);
            self.change(other, "resume").await;
            assert_eq!(self.upstream(name).await["state"], "up");
        }
        self.servers.iter().for_each(|server| drop(server.control().take_requests()));
    }

    async fn change(&self, name: &str, what: &str) -> Value {
        let path = format!("/v1/admin/upstreams/{name}/{what}");
        let reply = self.app.call("POST", &path).bearer(&self.admin.access).send().await;
        reply.expect_status(200).json()
    }

    async fn upstream(&self, name: &str) -> Value {
        let list = self.app.get("/v1/admin/upstreams").bearer(&self.admin.access).send().await;
        let list = list.expect_status(200).json();
        list["data"].as_array().unwrap().iter().find(|server| server["name"] == name).unwrap().clone()
    }

    /// So many turns of conversations of their own, all asked for.
    async fn ask(&self, count: usize) -> Vec<Streamed> {
        let prompts: Vec<_> =
            (0..count).map(|number| crate::turn::prompt(MODEL, &format!("question {number}"))).collect();
        join_all(prompts.iter().map(|prompt| self.app.ask(&self.ada, prompt))).await
    }

    /// How many prompts each server was sent.
    fn prompts(&self) -> [usize; 2] {
        let chats = |server: &FakeOllama| {
            server.control().requests().iter().filter(|request| request.path == "/api/chat").count()
        };
        [chats(&self.servers[0]), chats(&self.servers[1])]
    }

    async fn finish(self) {
        self.app.finish().await;
    }
}

/// The last event of each, in `PATIENCE`.
async fn endings(turns: &mut [Streamed]) -> Vec<String> {
    let begun = Instant::now();
    let last = join_all(turns.iter_mut().map(|turn| turn.last())).await;
    assert!(begun.elapsed() < PATIENCE, "somebody waited for {:?}", begun.elapsed());
    last.into_iter().map(|frame| frame.event).collect()
}

both_stores! {
    async fn a_server_killed_before_the_first_byte_loses_no_turn(store) {
        // Long enough that nothing has been said when it is killed.
        let fleet = Fleet::start(store, Model::new(MODEL).tokens(5).prefill(Duration::from_millis(1_500))).await;
        let mut turns = fleet.ask(LOAD).await;
        until("both to work", async || fleet.prompts().iter().all(|count| *count == SLOTS)).await;
        fleet.servers[0].control().close().await;
        fleet.servers[0].control().cut_connections();
        let endings = endings(&mut turns).await;
        assert!(endings.iter().all(|event| event == "done"), "{endings:?}");
        assert_eq!(fleet.prompts()[1], LOAD, "the other server answered all");
        let metrics = fleet.app.metrics().await;
        assert!(metrics.contains("deepersensor_upstream_moved_total{upstream=\"gpu1\"}"), "{metrics}");
        fleet.finish().await;
    }

    async fn a_server_killed_while_it_answers_ends_those_with_an_error_and_comes_back(store) {
        let fleet = Fleet::start(store, Model::new(MODEL).tokens(60).tokens_per_s(20.0)).await;
        let mut running = fleet.ask(2 * SLOTS).await;
        for turn in &mut running {
            turn.until("chunk").await;
        }
        assert_eq!(fleet.prompts(), [SLOTS, SLOTS]);
        let mut waiting = fleet.ask(LOAD - 2 * SLOTS).await;
        fleet.servers[0].control().close().await;
        fleet.servers[0].control().cut_connections();
        let (of_running, of_waiting) = tokio::join!(endings(&mut running), endings(&mut waiting));
        let failed: Vec<_> = (0..running.len()).filter(|index| of_running[*index] == "error").collect();
        assert_eq!(failed.len(), SLOTS, "those that it was answering: {of_running:?}");
        assert!(failed.iter().all(|index| !running[*index].text().is_empty()), "what was said was kept");
        assert!(of_waiting.iter().all(|event| event == "done"), "{of_waiting:?}");
        let state = async |state: &str| fleet.upstream("gpu1").await["state"] == state;
        until("it to be missed", async || state("away").await).await;
        // Nobody's turn goes there, so the breaker opens by what the catalogue finds, and closes by a probe.
        until("its breaker to open", async || fleet.upstream("gpu1").await["breaker"] != "closed").await;
        let mut meanwhile = fleet.ask(2).await;
        for turn in &mut meanwhile {
            assert_eq!(turn.last().await.event, "done");
        }
        fleet.servers[0].control().reopen().await.unwrap();
        until("it to be back", async || state("up").await).await;
        assert_eq!(fleet.upstream("gpu1").await["breaker"], "closed");
        let before = fleet.prompts()[0];
        let mut after = fleet.ask(2 * SLOTS).await;
        for turn in &mut after {
            assert_eq!(turn.last().await.event, "done");
        }
        assert!(fleet.prompts()[0] > before, "it has turns again");
        fleet.finish().await;
    }

    async fn draining_under_load_loses_nothing_and_is_told(store) {
        let fleet = Fleet::start(store, Model::new(MODEL).tokens(20).tokens_per_s(40.0)).await;
        let mut turns = fleet.ask(LOAD).await;
        until("both to work", async || fleet.prompts().iter().all(|count| *count == SLOTS)).await;
        let drained = fleet.change("gpu1", "drain").await;
        assert_eq!(
            [&drained["state"], &drained["kind"], &drained["weight"], &drained["breaker"]],
            [&json!("draining"), &json!("ollama"), &json!(1), &json!("closed")]
        );
        assert_eq!(drained["address"], fleet.servers[0].url());
        assert_eq!([&drained["models"], &drained["slots"]], [&json!([MODEL]), &json!(SLOTS)]);
        let before = fleet.prompts()[0];
        fleet.change("gpu1", "drain").await;
        let endings = endings(&mut turns).await;
        assert!(endings.iter().all(|event| event == "done"), "{endings:?}");
        assert_eq!(fleet.prompts()[0], before, "no turn began there");
        assert_eq!(fleet.upstream("gpu1").await["running"], 0);
        let metrics = fleet.app.metrics().await;
        assert!(metrics.contains("deepersensor_upstream_draining{upstream=\"gpu1\"} 1\n"), "{metrics}");

        fleet.change("gpu2", "drain").await;
        let refused = fleet.app.chat(&fleet.ada, &unstored(MODEL, "hello")).send().await;
        let refused = refused.expect_error(503, "overloaded");
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
        fleet.change("gpu1", "resume").await;
        fleet.app.chat(&fleet.ada, &unstored(MODEL, "hello")).send().await.expect_status(200);
        assert_eq!(fleet.prompts()[0], before + 1);

        let nobody = fleet.app.call("POST", "/v1/admin/upstreams/nobody/drain");
        nobody.bearer(&fleet.admin.access).send().await.expect_error(404, "not_found");
        // One entry for each change, not for each request.
        for (event, count) in [("sys_upstream_drained", 4), ("sys_upstream_resumed", 3)] {
            until("the audit trail", async || {
                let path = format!("/v1/admin/audit?event={event}");
                let list = fleet.app.get(&path).bearer(&fleet.admin.access).send().await;
                list.expect_status(200).json()["data"].as_array().unwrap().len() == count
            })
            .await;
        }
        fleet.finish().await;
    }
}
