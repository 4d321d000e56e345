//! Sixteen streams as fast as the model server can write.
//!
//! Load and model server share a core and are what bounds the throughput; the cost per token is the figure.

use anyhow::Result;

use crate::{
    closed_loop::load,
    ground::{Ground, Run, interleave},
    request::Kind,
    servers::Pace,
    table::{Aim, draw, plain, with_ratio},
};

const STREAMS: usize = 16;
const TOKENS: u64 = 256;
const SLOTS: usize = 64;

pub async fn measure(run: &Run<'_>) -> Result<String> {
    let ground = Ground::start(run, Pace::FULL, SLOTS).await?;
    let requests = ground.requests(Kind::Stream, TOKENS).await?;
    let rows = interleave(run, &ground.systems, async |at, system| {
        let window = load(system, &requests[at], STREAMS, run.window).await?;
        let tokens = TOKENS as f64;
        Ok(vec![window.replies_per_second * tokens, window.cpu_us_per_reply / tokens, window.busy_percent])
    });
    let columns = [plain("tokens/s", 0), with_ratio("CPU µs/token", 2), plain("core busy %", 0)];
    let title = format!("{STREAMS} streams of {TOKENS} tokens at full speed");
    Ok(draw(&title, &columns, &rows.await?, &[Aim::TimesNginx { column: 1, most: 1.5 }]))
}
