//! What must not be left when a test ends: slots, places in queues, permits, requests, open turns, secrets.

use super::{Database, TestApp, canaries, until_found};

/// Gauges that are not shown before the first turn, or while limits are off.
const SOMETIMES: [&str; 2] = ["deepersensor_model_slots_busy", "deepersensor_stream_leases"];

/// Gauges that count work under way and are always shown.
const WORK: [&str; 5] = [
    "deepersensor_model_queue_places",
    "deepersensor_gate_in_use",
    "deepersensor_db_settlements_kept",
    "deepersensor_db_settlements_spilled",
    "deepersensor_http_requests_in_flight",
];

/// Waits until nothing is under way in the service or at its Ollama.
pub(super) async fn quiet(app: &TestApp) {
    // The ends of replies reach us before the service has closed its books.
    until_found("the service and its Ollama to be done", async || {
        let metrics = app.metrics().await;
        let left = left_in(&metrics);
        let counters = app.ollama.control().counters();
        if left.is_empty() && counters.in_flight == 0 {
            return Ok(());
        }
        Err((left.into_iter().map(str::to_owned).collect::<Vec<_>>(), counters))
    })
    .await;
}

/// The samples that say that something is under way.
fn left_in(metrics: &str) -> Vec<&str> {
    for name in WORK {
        assert!(metrics.contains(&format!("# TYPE {name} gauge")), "there is no metric {name}");
    }
    metrics.lines().filter(|sample| is_left(sample)).collect()
}

fn is_left(sample: &str) -> bool {
    let Some((series, value)) = sample.rsplit_once(' ') else { return false };
    let name = series.split('{').next().unwrap_or_default();
    // Whoever asks is being served.
    let own = if name == "deepersensor_http_requests_in_flight" { "1" } else { "0" };
    (SOMETIMES.contains(&name) || WORK.contains(&name)) && value != own
}

/// Asserts that the store holds no turn and no message that somebody still writes.
pub(super) async fn nothing_streams(app: &TestApp) {
    for table in ["turns", "messages"] {
        let open = format!("SELECT count(*) FROM {table} WHERE status = 'streaming'");
        assert_eq!(app.database.number(&open).await, 0, "{table} left streaming");
    }
    let in_flight = app.ollama.control().counters().in_flight;
    assert_eq!(in_flight, 0, "the fake Ollama still answers after the service is gone");
}

/// Asserts that no table holds a secret as text. Where people's words are kept, they may say anything.
pub(super) async fn no_secrets(database: &Database) {
    for table in database.tables().await {
        if !["conversations", "messages"].contains(&table.as_str()) {
            for row in database.rows(&table).await {
                canaries::assert_none(format_args!("a row of {table}"), &row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use support::fake_ollama::{Model, Scenario};

    use super::*;
    use crate::{
        harness::{MODEL, Options, Store, both_stores},
        turn::prompt,
    };

    #[tokio::test]
    async fn the_teardown_sees_a_turn_that_runs_and_one_that_waits() {
        let stalling = Model::new(MODEL).scenario(Scenario::Stall { after: 1 });
        let options = Options::on(Store::Sqlite).set("OLLAMA_NUM_PARALLEL", 1).models([stalling]);
        let app = TestApp::start(options).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]});
        let mut running = app.ask(&ada, &body).await;
        running.until("start").await;
        let mut waiting = app.ask(&ada, &body).await;
        waiting.until("queue").await;

        let metrics = app.metrics().await;
        let left = left_in(&metrics);
        for sample in [
            "deepersensor_model_slots_busy{model=\"qwen3:8b\"} 1",
            "deepersensor_model_queue_places{model=\"qwen3:8b\"} 1",
            "deepersensor_http_requests_in_flight 3",
        ] {
            assert!(left.contains(&sample), "{sample} is not in {left:#?}");
        }
        assert_eq!(app.database.number("SELECT count(*) FROM turns WHERE status = 'streaming'").await, 2);
        drop((running, waiting));
        app.finish().await;
    }

    both_stores! {
        async fn f04_what_a_table_holds_is_seen(store) {
            let app = TestApp::on(store).await;
            let ada = app.sign_up_and_in("ada@example.org").await;
            app.chat(&ada, &prompt(MODEL, "hi")).send().await.expect_status(200);
            app.quiet().await;
            assert!(app.database.tables().await.contains(&"audit_log".to_owned()));
            let seen = |rows: Vec<String>| rows.iter().find_map(|row| canaries::found_in(row));
            assert_eq!(seen(app.database.rows("messages").await), Some("a prompt"));
            assert!(app.database.rows("users").await[0].contains("ada@example.org $argon2id$"));
            app.finish().await;
        }
    }
}
