//! Streams at the pace of a real model: the way of a token through many streams, and through a single one.

use std::time::Duration;

use anyhow::Result;

use crate::{
    ground::{Ground, Run, interleave},
    request::Kind,
    servers::Pace,
    table::{Aim, draw, plain, with_ratio},
    transit::{self, stream_length},
};

const TOKENS_PER_SECOND: u32 = 100;
/// Tokens that one lone stream is measured by.
const LONE_TOKENS: u32 = 200;
const LONE_TOKENS_QUICK: u32 = 50;

pub async fn many(run: &Run<'_>) -> Result<String> {
    let streams: u32 = if run.is_quick { 50 } else { 200 };
    let ground = Ground::start(run, Pace::stamped(TOKENS_PER_SECOND), usize::try_from(streams)?).await?;
    let window = run.window * 2;
    let requests = ground.requests(Kind::StampedStream, tokens_for(streams, window)).await?;
    let rows = interleave(run, &ground.systems, async |at, system| {
        let seen = transit::measure(system, &requests[at], streams, window).await?;
        Ok(vec![seen.tokens_per_second, seen.p50_us / 1e3, seen.p99_us / 1e3, seen.cpu_us_per_token])
    });
    let columns = [
        plain("tokens/s", 0),
        plain("transit p50 ms", 3),
        with_ratio("transit p99 ms", 3),
        with_ratio("CPU µs/token", 2),
    ];
    let title = format!("{streams} streams at {} ms per token", 1_000 / TOKENS_PER_SECOND);
    let aims = [Aim::Figure { column: 2, most: 1.0 }, Aim::TimesNginx { column: 3, most: 1.5 }];
    Ok(draw(&title, &columns, &rows.await?, &aims))
}

pub async fn lone(run: &Run<'_>) -> Result<String> {
    let ground = Ground::start(run, Pace::stamped(TOKENS_PER_SECOND), 1).await?;
    let tokens = if run.is_quick { LONE_TOKENS_QUICK } else { LONE_TOKENS };
    let window = Duration::from_secs(1) * tokens / TOKENS_PER_SECOND;
    let requests = ground.requests(Kind::StampedStream, tokens_for(1, window)).await?;
    let rows = interleave(run, &ground.systems, async |at, system| {
        let seen = transit::measure(system, &requests[at], 1, window).await?;
        Ok(vec![seen.p50_us, seen.p99_us])
    });
    let columns = [plain("median µs", 0), plain("p99 µs", 0)];
    let title =
        format!("From the model server's line to the client's chunk, one stream, {tokens} tokens a round");
    Ok(draw(&title, &columns, &rows.await?, &[]))
}

/// Enough for a stream to last as long as it is measured, and a little more.
fn tokens_for(streams: u32, window: Duration) -> u64 {
    const SPARE: Duration = Duration::from_millis(200);
    ((stream_length(streams, window) + SPARE).as_secs_f64() * f64::from(TOKENS_PER_SECOND)).ceil() as u64
}
