//! What is compressed on its way out, and what must not be.

use serde_json::json;

use super::Ground;
use crate::harness::{Call, MODEL, Options, Reply, Store};

const DOCUMENT: &str = "/openapi.json";

async fn coded(ground: &Ground, accepted: &str) -> Reply {
    ground.call("GET", DOCUMENT).header("accept-encoding", accepted).send().await.expect_status(200)
}

#[tokio::test]
async fn json_is_compressed_as_the_client_likes_and_a_stream_never_is() {
    let ground = Ground::lay_with(Options::on(Store::Postgres), &["brotli.conf"]).await;
    let plain = coded(&ground, "identity").await;
    assert_eq!(plain.header("content-encoding"), None);
    for (accepted, coding) in [("gzip", "gzip"), ("gzip, br", "br")] {
        let reply = coded(&ground, accepted).await;
        assert_eq!(reply.header("content-encoding"), Some(coding), "{accepted}");
        assert_eq!(reply.header("vary"), Some("Accept-Encoding"));
        assert!(reply.body.len() < plain.body.len() / 3, "{accepted}: {} bytes", reply.body.len());
    }
    let ada = ground.app.sign_up_and_in("ada@example.org").await;
    let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]});
    let stream = |path| Call::new(ground.addr(), "POST", path).bearer(&ada.access).json(&body);
    let events =
        stream("/v1/chat/stream").header("accept-encoding", "gzip, br").send().await.expect_status(200);
    assert_eq!(events.header("content-encoding"), None);
    assert!(events.text().contains("event: done"));
    ground.finish().await;
}

#[tokio::test]
async fn without_the_module_of_brotli_there_is_gzip() {
    let ground = Ground::lay(Options::on(Store::Postgres)).await;
    assert_eq!(coded(&ground, "gzip, br").await.header("content-encoding"), Some("gzip"));
    ground.finish().await;
}

#[tokio::test]
async fn the_page_of_documentation_keeps_its_policy_and_its_mark_on_the_way() {
    let ground = Ground::lay(Options::on(Store::Postgres)).await;
    let ask = || ground.call("GET", "/docs").header("accept-encoding", "gzip");
    let page = ask().send().await.expect_status(200);
    assert_eq!(page.header("content-encoding"), Some("gzip"));
    assert!(page.header("content-security-policy").unwrap().contains("style-src 'sha256-"), "{page:?}");
    let mark = page.header("etag").unwrap();
    let again = ask().header("if-none-match", mark).send().await.expect_status(304);
    assert!(again.body.is_empty());
    ground.finish().await;
}
