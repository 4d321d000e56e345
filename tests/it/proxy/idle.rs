//! Requests after a pause (B2): a connection that is about to be closed for idleness is never given one.
//!
//! The service's own 15 s are made short here, so that the pauses around both ends of a connection, nginx's second and the
//! service's, fit into one test: in proportion, from 8 to 20 s.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::Ground;
use crate::harness::{Options, Raw, Store};

/// How long the service keeps an idle connection: still longer than nginx does.
const SERVICE_KEEPS: Duration = Duration::from_millis(1_500);
/// Pauses from shortly before nginx gives up to well after the service does.
const STEP: Duration = Duration::from_millis(50);
const PAUSES: std::ops::Range<u32> = 16..46;
/// How often each client pauses so and asks again.
const ROUNDS: usize = 2;

#[tokio::test]
async fn b02_a_post_after_any_pause_is_answered() {
    let options = Options::on(Store::Postgres).tune(|config| config.http.header_read_timeout = SERVICE_KEEPS);
    let ground = Ground::lay(options).await;
    let body = json!({"email": "nobody"}).to_string();
    let post = format!(
        "POST /v1/auth/refresh HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let asked = PAUSES.map(|steps| {
        let (ground, post) = (&ground, &post);
        async move {
            let mut raw = Raw::connect(ground.addr()).await;
            for _ in 0..ROUNDS {
                raw.send(post).await;
                raw.reply().await.expect_error(400, "invalid_request");
                sleep(STEP * steps).await;
            }
            raw.send(post).await;
            raw.reply().await.expect_error(400, "invalid_request");
        }
    });
    let began = Instant::now();
    join_all(asked).await;
    assert!(began.elapsed() > SERVICE_KEEPS, "{}", ground.proxy.error_log());
    ground.finish().await;
}
