//! A service that a real Prometheus watches with the rules that are deployed, and what happens to it.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use support::{
    fake_ollama::{Model, Scenario},
    prometheus::Prometheus,
    redis::Redis,
};

use super::files;
use crate::{
    harness::{Call, MODEL, Options, Session, Store, TestApp, until},
    turn::{prompt, unstored},
};

/// A model of one slot whose answers do not end.
const ENDLESS: &str = "endless:1b";
/// A model that breaks off after a token.
const BROKEN: &str = "broken:1b";

pub(super) struct Watched {
    pub app: TestApp,
    pub redis: Redis,
    prometheus: Prometheus,
    user: Session,
    key: String,
    other: Session,
    visitor: Session,
}

impl Watched {
    pub async fn start() -> Self {
        let redis = Redis::start().await.unwrap();
        let models = [
            Model::new(MODEL).parallel(4).tokens(8).tokens_per_s(400.0),
            Model::new(ENDLESS).tokens(1_000_000).tokens_per_s(100.0),
            Model::new(BROKEN).parallel(4).scenario(Scenario::ErrorLine { after: 1 }),
        ];
        let options = Options::on(Store::Sqlite)
            .models(models)
            .set("REDIS_URL", redis.url())
            .set("MODEL_SLOTS", format!("{ENDLESS}=1"))
            .set("MODEL_QUEUE_LIMIT", 6)
            .set("MODEL_QUEUE_PER_USER", 4)
            .reloadable();
        let app = TestApp::start(options).await;
        let user = app.sign_up_and_in("ada@example.org").await;
        let other = app.sign_up_and_in("bob@example.org").await;
        let (_, key) = app.create_key(&user, "models").await;
        let visitor = app.sign_up_and_in("eve@example.org").await;
        let prometheus = Prometheus::start(&[
            ("prometheus.yml", &configuration(&app)),
            ("ops_token", "a token that a loopback listener does not ask for"),
            ("records.yml", &files::read("deploy/observability/prometheus/records.yml")),
            ("alerts.yml", &files::read("deploy/observability/prometheus/alerts.yml")),
        ])
        .await
        .unwrap();
        Self { app, redis, prometheus, user, key, other, visitor }
    }

    /// What every well-behaved user does.
    pub async fn use_it(&self) {
        self.app.get("/v1/models").bearer(&self.user.access).send().await.expect_status(200);
        self.app.get("/v1/models").bearer(&self.key).send().await.expect_status(200);
        // Whoever signs in often loses the oldest sessions.
        self.app.sign_in(&self.visitor.email, &self.visitor.user).await;
        let mut batch = unstored(MODEL, "whenever you like");
        batch["priority"] = json!("batch");
        let streamed = async {
            let mut stream = self.app.ask(&self.user, &prompt(MODEL, "as it comes")).await;
            assert_eq!(stream.last().await.event, "done");
        };
        let (whole, batch, ()) = tokio::join!(
            self.app.chat(&self.user, &unstored(MODEL, "all at once")).send(),
            self.app.chat(&self.user, &batch).send(),
            streamed,
        );
        whole.expect_status(200);
        batch.expect_status(200);
    }

    /// What goes wrong in a service that works: bad credentials, broken answers, a queue that is full.
    pub async fn misuse_it(&self) {
        self.app.get("/v1/auth/me").bearer("nonsense").send().await.expect_status(401);
        self.app.get("/v1/nothing").send().await.expect_status(404);
        self.app.chat(&self.user, &unstored(BROKEN, "hello")).send().await.expect_status(502);
        let mut running = self.app.ask(&self.user, &prompt(ENDLESS, "in the slot")).await;
        running.until("chunk").await;
        let crowd = (0..12).map(|turn| {
            let caller = if turn % 2 == 0 { &self.user } else { &self.other };
            self.app.stream(caller, &prompt(ENDLESS, "one of many")).open()
        });
        let crowd = join_all(crowd).await;
        assert!(crowd.iter().any(|reply| reply.status == 503), "nobody was turned away");
        drop((running, crowd));
    }

    /// Asks a model server that is not there.
    pub async fn ask_in_vain(&self) {
        for _ in 0..3 {
            let asked = (0..4).map(|_| self.app.chat(&self.user, &unstored(MODEL, "anybody there")).send());
            for reply in join_all(asked).await {
                assert!([502, 503].contains(&reply.status), "{reply:?}");
            }
        }
    }

    /// What Prometheus answers to an expression: the values of all series, without those that are no numbers.
    ///
    /// # Errors
    ///
    /// With Prometheus' own words, if it is no expression.
    pub async fn ask(&self, expression: &str) -> Result<Vec<f64>, String> {
        let body = format!("query={}", utf8_percent_encode(expression, NON_ALPHANUMERIC));
        let call = Call::new(self.prometheus.addr(), "POST", "/api/v1/query");
        let reply = call.body("application/x-www-form-urlencoded", body).send().await.json();
        if reply["status"] != "success" {
            return Err(reply["error"].to_string());
        }
        let result = reply["data"]["result"].as_array().unwrap();
        let number = |series: &Value| series["value"][1].as_str().unwrap().parse::<f64>().unwrap();
        Ok(result.iter().map(number).filter(|number| !number.is_nan()).collect())
    }

    /// All rules by name, as Prometheus sees them now.
    pub async fn rules(&self) -> Vec<Value> {
        let reply =
            Call::new(self.prometheus.addr(), "GET", "/api/v1/rules").send().await.expect_status(200).json();
        let groups = reply["data"]["groups"].as_array().unwrap();
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }

    /// The state of every alert, by name: `inactive`, `pending` or `firing`.
    pub async fn alerts(&self) -> BTreeMap<String, String> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let alerts = self.rules().await.into_iter().filter(|rule| rule["type"] == "alerting");
        alerts.map(|alert| (text(&alert["name"]), text(&alert["state"]))).collect()
    }

    /// Waits until every rule was evaluated over all that has happened.
    pub async fn caught_up(&self) {
        let evaluated = async || -> Vec<Value> {
            self.rules().await.into_iter().map(|rule| rule["lastEvaluation"].clone()).collect()
        };
        // One evaluation may have been under way.
        for _ in 0..2 {
            let before = evaluated().await;
            until("another evaluation", async || {
                let now = evaluated().await;
                now.len() == before.len() && now.iter().zip(&before).all(|(now, before)| now != before)
            })
            .await;
        }
    }

    /// Waits until these alerts are pending or firing.
    pub async fn alarmed(&self, names: &[&str]) {
        let mut alerts = BTreeMap::new();
        until(&format!("{names:?}"), async || {
            alerts = self.alerts().await;
            names.iter().all(|name| alerts[*name] != "inactive")
        })
        .await;
    }
}

/// The deployed configuration, but for where the instances are, how often they are looked at, and where the token is.
fn configuration(app: &TestApp) -> String {
    let mut text = files::read("deploy/observability/prometheus/prometheus.yml");
    let discovery = "    dns_sd_configs:\n      - names: [api]\n        type: A\n        port: 9464\n        refresh_interval: 15s\n";
    let alertmanagers = text.find("alerting:\n").unwrap()..text.find("scrape_configs:\n").unwrap();
    text.replace_range(alertmanagers, "");
    let instances = format!("    static_configs: [{{targets: [\"{}\"]}}]\n", app.ops_addr());
    for (deployed, here) in [
        (discovery, instances.as_str()),
        ("scrape_interval: 15s", "scrape_interval: 200ms"),
        ("scrape_timeout: 10s", "scrape_timeout: 200ms"),
        ("evaluation_interval: 15s", "evaluation_interval: 200ms"),
        ("/run/secrets/ops_token", "ops_token"),
    ] {
        assert!(text.contains(deployed), "{deployed} is not in prometheus.yml");
        text = text.replace(deployed, here);
    }
    text
}
