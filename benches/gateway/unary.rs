//! Whole replies: 32 tokens, one connection and sixteen.
//!
//! The gateway streams from the model server and puts the reply together, the proxies pass on what the server put
//! together itself; both is what their users get.

use anyhow::Result;

use crate::{
    closed_loop::load,
    ground::{Ground, Run, interleave},
    request::Kind,
    servers::Pace,
    table::{Aim, draw, plain, with_ratio},
};

const TOKENS: u64 = 32;
const SLOTS: usize = 64;
const CPU: usize = 3;
const AIM: Aim = Aim::TimesNginx { column: CPU, most: 6.0 };

pub async fn measure(run: &Run<'_>) -> Result<String> {
    let ground = Ground::start(run, Pace::FULL, SLOTS).await?;
    let requests = ground.requests(Kind::Whole, TOKENS).await?;
    let columns = [
        plain("requests/s", 0),
        plain("p50 ms", 3),
        plain("p99 ms", 3),
        with_ratio("CPU µs/request", 1),
        plain("core busy %", 0),
    ];
    let mut text = String::new();
    for connections in [1, 16] {
        let rows = interleave(run, &ground.systems, async |at, system| {
            let window = load(system, &requests[at], connections, run.window).await?;
            Ok(vec![
                window.replies_per_second,
                window.p50_ms,
                window.p99_ms,
                window.cpu_us_per_reply,
                window.busy_percent,
            ])
        });
        let title = format!("Whole replies of {TOKENS} tokens, connections: {connections}");
        // An idle core's sleeping and waking is most of what a single connection costs.
        let aims: &[Aim] = if connections > 1 { &[AIM] } else { &[] };
        text += &draw(&title, &columns, &rows.await?, aims);
        text.push('\n');
    }
    Ok(text)
}
