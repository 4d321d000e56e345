//! Memory per open stream, each system in a fresh process.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use support::client::Connection;
use tokio::time::{Instant, sleep};

use crate::{
    ground::{Ground, Run, Store, System},
    request::{Kind, Request},
    servers::Pace,
    table::{Aim, GATEWAY, NGINX, Row, draw, plain},
};

/// Slow: buffers count, not work.
const TOKENS_PER_SECOND: u32 = 2;
/// Every stream is open before the first one ends.
const TOKENS: u64 = 8;
const TOKENS_QUICK: u64 = 5;
const LOOK_EVERY: Duration = Duration::from_millis(50);
const OPENING_MAX: Duration = Duration::from_secs(3);

pub async fn measure(run: &Run<'_>) -> Result<String> {
    let (streams, tokens) = if run.is_quick { (100, TOKENS_QUICK) } else { (1_000, TOKENS) };
    let mut rows = Vec::new();
    for (name, system, store, kind) in [
        (NGINX, NGINX, Store::Sqlite, Kind::StampedStream),
        (GATEWAY, GATEWAY, Store::Sqlite, Kind::StampedStream),
        ("deepersensor, kept in SQLite", GATEWAY, Store::Sqlite, Kind::StampedStored),
        ("deepersensor, kept in Postgres", GATEWAY, Store::Postgres, Kind::StampedStored),
    ] {
        let mut ground = Ground::start_on(run, store, Pace::stamped(TOKENS_PER_SECOND), streams).await?;
        ground.keep_only(system);
        let requests = ground.requests(kind, tokens).await?;
        for (system, request) in ground.systems.iter().zip(&requests) {
            let (start, peak) = open_streams(system, request, streams).await?;
            let per_stream = peak.saturating_sub(start) as f64 / streams as f64 / 1e3;
            rows.push(Row { name, rounds: vec![vec![start as f64 / 1e6, peak as f64 / 1e6, per_stream]] });
        }
    }
    let columns = [plain("before MB", 1), plain("peak MB", 1), plain("KB per stream", 1)];
    let title = format!("Resident memory with {streams} open streams");
    Ok(draw(&title, &columns, &rows, &[Aim::Figure { column: 2, most: 45.0 }]))
}

/// Resident bytes before, and the most while all streams were open.
async fn open_streams(system: &System, request: &Request, streams: usize) -> Result<(u64, u64)> {
    let start = system.resident_bytes()?;
    let mut open = try_join_all((0..streams).map(|_| Connection::open(system.addr))).await?;
    let begun = std::cell::Cell::new(0_usize);
    let ended = std::cell::Cell::new(0_usize);
    let each = open.iter_mut().map(async |connection| {
        let mut is_first = true;
        let seen =
            request.send(connection, |_| begun.set(begun.get() + usize::from(std::mem::take(&mut is_first))));
        seen.await?;
        ended.set(ended.get() + 1);
        Ok(())
    });
    let watch = async {
        let asked = Instant::now();
        while begun.get() < streams {
            ensure!(asked.elapsed() < OPENING_MAX, "{} of {streams} streams began", begun.get());
            sleep(LOOK_EVERY).await;
        }
        let mut peak = start;
        while ended.get() == 0 {
            peak = peak.max(system.resident_bytes()?);
            sleep(LOOK_EVERY).await;
        }
        Ok(peak)
    };
    let (peak, _) = tokio::try_join!(watch, try_join_all(each))?;
    Ok((start, peak))
}
