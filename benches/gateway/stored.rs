//! Chats that are kept: every reply follows a commit of its turn. Beside each, in the same round, those that are not, of which
//! only the usage is written, behind the reply.

use anyhow::Result;

use crate::{
    closed_loop::load,
    ground::{Ground, Run, Store, interleave},
    request::Kind,
    servers::Pace,
    table::{GATEWAY, Row, draw, plain},
};

const TOKENS: u64 = 32;
const SLOTS: usize = 64;
const WRITES: &str = "deepersensor_db_transaction_writes_sum";
const COMMITS: &str = "deepersensor_db_transaction_writes_count";

pub async fn measure(run: &Run<'_>, store: Store) -> Result<String> {
    let mut ground = Ground::start_on(run, store, Pace::FULL, SLOTS).await?;
    ground.keep_only(GATEWAY);
    let gateway = &ground.gateway;
    let kept = ground.requests(Kind::Stored, TOKENS).await?;
    let not_kept = ground.requests(Kind::Whole, TOKENS).await?;
    let mut rows: Vec<Row> = Vec::new();
    for (connections, name) in [(1, "1 connection"), (16, "16 connections"), (64, "64 connections")] {
        let measured = interleave(run, &ground.systems, async |at, system| {
            gateway.settled().await?;
            let base = load(system, &not_kept[at], connections, run.window).await?;
            gateway.settled().await?;
            let (writes, commits) = (gateway.metric(WRITES).await?, gateway.metric(COMMITS).await?);
            let window = load(system, &kept[at], connections, run.window).await?;
            let writes = gateway.metric(WRITES).await? - writes;
            let commits = gateway.metric(COMMITS).await? - commits;
            Ok(vec![
                window.replies_per_second,
                window.p50_ms,
                window.p99_ms,
                window.cpu_us_per_reply,
                window.busy_percent,
                writes / commits,
                base.replies_per_second,
                window.replies_per_second / base.replies_per_second,
                window.cpu_us_per_reply / base.cpu_us_per_reply,
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
        plain("not kept: turns/s", 0),
        plain("turns/s × not kept", 2),
        plain("CPU × not kept", 2),
    ];
    Ok(draw(&format!("Stored turns of {TOKENS} tokens, {store:?}"), &columns, &rows, &[]))
}
