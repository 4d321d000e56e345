//! The cold start: from the start of the process to `/readyz` that says 200, on each store, with and without data.
//!
//! Small in the suite, where only its end is asserted; `scripts/prove start` starts the release build many times and holds the
//! median to the promise.

#![expect(clippy::print_stdout, reason = "its figures are what a proof is run for")]

use std::time::Duration;

use support::{
    fake_ollama::{self, FakeOllama, Model},
    process::Scratch,
};
use tokio::time::{Instant, sleep};

use crate::harness::{Call, Database, MODEL, PATIENCE, Store, asked, start_process};

/// Between two questions whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(2);
/// How long a stop may take, which is no part of the figure.
const STOP_WITHIN: Duration = Duration::from_secs(40);

/// What is promised of the release build on a machine that does nothing else.
const fn promised(store: Store) -> Duration {
    match store {
        Store::Sqlite => Duration::from_secs(1),
        Store::Postgres => Duration::from_secs(2),
    }
}

/// Starts once on the data in `scratch` and `database`; returns what it took until it was ready.
async fn start(scratch: &Scratch, database: &Database, ollama: &FakeOllama) -> Duration {
    let (data_dir, server) = (scratch.path().join("data"), format!("http://{}", ollama.addr()));
    let settings = [("DATA_DIR", data_dir.to_str().unwrap()), ("OLLAMA_BASE_URL", server.as_str())];
    let begun = Instant::now();
    let gateway = start_process(scratch, database, &settings).await;
    while Call::new(gateway.addr, "GET", "/readyz").send().await.status != 200 {
        assert!(begun.elapsed() < PATIENCE, "it does not become ready: {}", gateway.said().unwrap());
        sleep(ASK_EVERY).await;
    }
    let took = begun.elapsed();
    let (status, _) = gateway.terminate(STOP_WITHIN).await.unwrap();
    assert!(status.success(), "{status}");
    took
}

/// An empty store for each of so many starts, or one that all of them find full but for the first.
async fn starts(store: Store, is_kept: bool, count: usize) -> Vec<Duration> {
    let ollama = FakeOllama::start(fake_ollama::Config::with([Model::new(MODEL)])).await.unwrap();
    let mut took = Vec::new();
    let mut kept = None;
    while took.len() < count {
        let (scratch, database) = match kept.take() {
            Some(kept) => kept,
            None => {
                let scratch = Scratch::new("start", None).unwrap();
                let database = Database::make_empty(store, &scratch.path().join("data")).await;
                if is_kept {
                    start(&scratch, &database, &ollama).await;
                }
                (scratch, database)
            }
        };
        took.push(start(&scratch, &database, &ollama).await);
        if is_kept && took.len() < count {
            kept = Some((scratch, database));
        } else {
            database.remove().await;
        }
    }
    took.sort();
    took
}

async fn prove(store: Store) {
    let wanted: Option<usize> = asked("PROVE_COUNT");
    for is_kept in [false, true] {
        let took = starts(store, is_kept, wanted.unwrap_or(1)).await;
        let (min, median, max) = (took[0], took[took.len() / 2], took[took.len() - 1]);
        let data = if is_kept { "its data" } else { "nothing" };
        println!(
            "{store:?} with {data}: ready after {min:?} / {median:?} / {max:?} (min / median / max of {})",
            took.len()
        );
        assert!(
            wanted.is_none() || cfg!(debug_assertions) || median < promised(store),
            "{store:?}: {took:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_sqlite_is_ready_soon() {
    prove(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_postgres_is_ready_soon() {
    prove(Store::Postgres).await;
}
