//! Chats that are kept: every reply follows a commit of its turn to SQLite.

use anyhow::Result;

use crate::{
    closed_loop::load,
    ground::{Ground, Run, interleave},
    request::Kind,
    servers::Pace,
    table::{GATEWAY, Row, draw, plain},
};

const TOKENS: u64 = 32;
const SLOTS: usize = 64;
const WRITES: &str = "deepersensor_db_transaction_writes_sum";
const COMMITS: &str = "deepersensor_db_transaction_writes_count";

pub async fn measure(run: &Run<'_>) -> Result<String> {
    let mut ground = Ground::start(run, Pace::FULL, SLOTS).await?;
    ground.keep_only(GATEWAY);
    let gateway = &ground.gateway;
    let requests = ground.requests(run, Kind::Stored, TOKENS).await?;
    let mut rows: Vec<Row> = Vec::new();
    for (connections, name) in [(1, "1 connection"), (16, "16 connections"), (64, "64 connections")] {
        let measured = interleave(run, &ground.systems, async |at, system| {
            let (writes, commits) = (gateway.metric(WRITES).await?, gateway.metric(COMMITS).await?);
            let window = load(system, &requests[at], connections, run.window).await?;
            let writes = gateway.metric(WRITES).await? - writes;
            let commits = gateway.metric(COMMITS).await? - commits;
            Ok(vec![
                window.replies_per_second,
                window.p50_ms,
                window.p99_ms,
                window.cpu_us_per_reply,
                window.busy_percent,
                writes / commits,
            ])
        });
        rows.extend(measured.await?.into_iter().map(|row| Row { name, ..row }));
    }
    let columns = [
        plain("turns/s", 0),
        plain("p50 ms", 2),
        plain("p99 ms", 2),
        plain("CPU µs/turn", 1),
        plain("core busy %", 0),
        plain("changes per commit", 1),
    ];
    Ok(draw(&format!("Stored turns of {TOKENS} tokens, SQLite"), &columns, &rows, &[]))
}
