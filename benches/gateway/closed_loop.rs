//! Closed-loop load: every connection asks again as soon as it was answered, or a little later if there was no room for it: what
//! turns take is written behind their replies, and a store that writes more slowly than they come is waited for.

use std::time::Duration;

use anyhow::Result;
use futures_util::future::try_join_all;
use support::{client::Connection, stats::percentile};
use tokio::time::{Instant, sleep};

use crate::{ground::System, request::Request};

/// Load before the clock starts: connections, caches and pools get warm.
const WARM_UP: Duration = Duration::from_millis(150);

/// How long a connection waits that was refused.
const REFUSED_WAIT: Duration = Duration::from_millis(20);

/// What a window of load brought.
pub struct Window {
    pub replies_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub cpu_us_per_reply: f64,
    /// Share of its core that the measured system used.
    pub busy_percent: f64,
}

/// Loads `system` over `connections` connections and measures it for `window`. The first bad reply ends it.
pub async fn load(
    system: &System,
    request: &Request,
    connections: usize,
    window: Duration,
) -> Result<Window> {
    let mut open = try_join_all((0..connections).map(|_| Connection::open(system.addr))).await?;
    ask_until(&mut open, request, Instant::now() + WARM_UP).await?;
    let meter = system.meter()?;
    let begin = Instant::now();
    let mut latencies_ms = ask_until(&mut open, request, begin + window).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let cpu_us = meter.micros()?;
    latencies_ms.sort_by(f64::total_cmp);
    let replies = latencies_ms.len() as f64;
    Ok(Window {
        replies_per_second: replies / seconds,
        p50_ms: percentile(&latencies_ms, 0.5),
        p99_ms: percentile(&latencies_ms, 0.99),
        cpu_us_per_reply: cpu_us / replies,
        busy_percent: cpu_us / seconds / 1e4,
    })
}

/// Returns how long each reply took, in milliseconds.
async fn ask_until(open: &mut [Connection], request: &Request, end: Instant) -> Result<Vec<f64>> {
    let each = open.iter_mut().map(async |connection| -> Result<Vec<f64>> {
        let mut latencies_ms = Vec::new();
        loop {
            let asked = Instant::now();
            if asked >= end {
                return Ok(latencies_ms);
            }
            if request.send_unless_full(connection, |_| {}).await? {
                latencies_ms.push(asked.elapsed().as_secs_f64() * 1e3);
            } else {
                sleep(REFUSED_WAIT).await;
            }
        }
    });
    Ok(try_join_all(each).await?.concat())
}
