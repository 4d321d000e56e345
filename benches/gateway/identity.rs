//! Who is asking: what it costs to know a token or an API key again, and how many can sign in.
//!
//! Whoever signs in spends a password hash, of which the gateway makes as many at a time as it has cores but one; here it
//! has one core and makes one.

use anyhow::Result;

use crate::{
    closed_loop::{Window, load},
    ground::{Ground, Run, System, interleave},
    request::Request,
    servers::{Pace, credentials},
    table::{GATEWAY, draw, plain},
};

const MODELS: &str = "/v1/models";
const ME: &str = "/v1/auth/me";

pub async fn measure(run: &Run<'_>) -> Result<String> {
    let mut ground = Ground::start(run, Pace::FULL, 1).await?;
    ground.keep_only(GATEWAY);
    let (addr, mut text) = (ground.gateway.addr, String::new());
    let token = format!("Authorization: Bearer {}\r\n", run.access_token);
    let key = format!("X-Api-Key: {}\r\n", ground.gateway.create_key(run.access_token).await?);
    let get = |path: &str, credential: &str| {
        Request::other(
            addr,
            &format!("GET {path}"),
            credential,
            "",
            if path == MODELS { "\"list\"" } else { "{" },
        )
    };
    let verified = [
        ("`/healthz`, asking nobody", get("/healthz", "")),
        ("`/v1/models` by token", get(MODELS, &token)),
        ("`/v1/models` by API key", get(MODELS, &key)),
        ("`/v1/auth/me` by token", get(ME, &token)),
        ("`/v1/auth/me` by API key", get(ME, &key)),
    ];
    // Last: an account has so many sessions, and those that sign in end the older ones.
    let log_in = Request::other(addr, "POST /v1/auth/login", "", &credentials(), "\"refresh_token\"");
    // Ten log-ins of one account may be under way, whose passwords might all be wrong.
    let parts =
        [("Requests of somebody known", &verified[..], [1, 16]), ("Log-ins", &[("log-ins", log_in)], [1, 8])];
    for (title, requests, loads) in parts {
        for connections in loads {
            text += &compare(run, &ground.systems[0], title, requests, connections).await?;
            text.push('\n');
        }
    }
    Ok(text)
}

async fn compare(
    run: &Run<'_>,
    gateway: &System,
    title: &str,
    requests: &[(&'static str, Request)],
    connections: usize,
) -> Result<String> {
    let systems: Vec<System> = requests.iter().map(|(name, _)| gateway.named(name)).collect();
    let rows = interleave(run, &systems, async |at, system| {
        let Window { replies_per_second, p50_ms, p99_ms, cpu_us_per_reply, busy_percent } =
            load(system, &requests[at].1, connections, run.window).await?;
        Ok(vec![replies_per_second, p50_ms, p99_ms, cpu_us_per_reply, busy_percent])
    });
    let columns = [
        plain("per second", 0),
        plain("p50 ms", 3),
        plain("p99 ms", 3),
        plain("CPU µs each", 1),
        plain("core busy %", 0),
    ];
    Ok(draw(&format!("{title}, connections: {connections}"), &columns, &rows.await?, &[]))
}
