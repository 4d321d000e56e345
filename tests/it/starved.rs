//! Sign-ins and reads while turns are begun, checkpointed and settled as fast as they can be: they go on.

#![expect(clippy::print_stdout, reason = "how long they took says more than that they were not starved")]

use std::time::Duration;

use serde_json::json;
use support::fake_ollama::Model;
use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{
    harness::{Call, MODEL, Options, PASSWORD, TestApp, both_stores, until},
    turn::prompt,
};

/// Who asks one thing after the other; the model keeps none of them waiting.
const ASKERS: usize = 24;
/// Answers long enough for several checkpoints.
const LONG: &str = "llama3.2:latest";
const SIGN_INS: usize = 5;
const READS: usize = 50;

fn middle(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[took.len() / 2]
}

both_stores! {
    async fn turns_under_load_starve_neither_sign_ins_nor_reads(store) {
        let short = Model::new(MODEL).parallel(ASKERS).tokens(8);
        let long = Model::new(LONG).parallel(ASKERS).tokens(4_000).batch_lines(200).tokens_per_s(20_000.0);
        let options = Options::on(store).models([short, long]).set("OLLAMA_NUM_PARALLEL", ASKERS);
        let app = TestApp::start(options).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let (load, stop) = watch::channel(());
        let mut askers = JoinSet::new();
        for asker in 0..ASKERS {
            let (addr, access, stop) = (app.addr(), ada.access.clone(), stop.clone());
            askers.spawn(async move {
                let model = if asker % 4 == 0 { LONG } else { MODEL };
                let mut turns = 0;
                while stop.has_changed().is_ok() {
                    let body = prompt(model, &format!("asker {asker} asks for the {turns}th time"));
                    let ask = Call::new(addr, "POST", "/v1/chat").bearer(&access).json(&body);
                    assert_eq!(ask.send().await.expect_status(200).json()["stored"], true);
                    turns += 1;
                }
                turns
            });
        }
        drop(stop);
        let settled = async || app.database.number("SELECT count(*) FROM turns WHERE status = 'complete'").await;
        until("the load to be there", async || settled().await > ASKERS as i64).await;

        let before = settled().await;
        let credentials = json!({ "email": ada.email, "password": PASSWORD });
        let timed = async |call: Call| {
            let begun = Instant::now();
            call.send().await.expect_status(200);
            begun.elapsed()
        };
        let (mut sign_ins, mut reads) = (Vec::new(), Vec::new());
        for number in 0..READS {
            if number % (READS / SIGN_INS) == 0 {
                sign_ins.push(timed(app.post("/v1/auth/login", &credentials)).await);
            }
            reads.push(timed(app.get("/v1/conversations?limit=10").bearer(&ada.access)).await);
        }
        let meanwhile = settled().await - before;
        drop(load);
        let turns: usize = askers.join_all().await.into_iter().sum();
        println!(
            "{store:?}: {turns} turns; meanwhile a sign-in took {:?}, a read {:?}, and {meanwhile} turns were settled",
            middle(sign_ins),
            middle(reads),
        );
        assert!(meanwhile > 0, "there was no load");
        app.finish().await;
    }
}
