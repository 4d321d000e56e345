//! What a client claims about itself: it reaches neither limiter nor log nor audit trail (B7, B13).

use serde_json::{Value, json};
use support::nginx::Proxy;

use super::{
    CLIENT, Ground,
    recorder::{Recorder, values},
};
use crate::{
    harness::{Call, Options, PASSWORD, Store, until},
    logs::Logs,
};

/// Everything by which programs are told who is calling, each time something else.
fn spoofed(call: Call, number: u8) -> Call {
    let lie = format!("203.0.113.{number}");
    call.header("x-forwarded-for", &lie)
        .header("x-real-ip", &lie)
        .header("forwarded", &format!("for={lie};proto=http;host=evil.example"))
        .header("x-client-ip", &lie)
        .header("true-client-ip", &lie)
        .header("x-forwarded-host", "evil.example")
        .header("x-forwarded-proto", "http")
        .header("x-request-id", &format!("mine-{number}"))
}

#[tokio::test]
async fn b07_an_instance_is_told_by_nginx_alone_who_is_calling_and_how() {
    let recorder = Recorder::start().await;
    let proxy = Proxy::start(&[recorder.addr()]).await.unwrap();
    let call = spoofed(Call::new(proxy.addr(), "GET", "/v1/models?a=b"), 7).over(CLIENT);
    let call = call.header("connection", "upgrade, x-forwarded-for").header("upgrade", "h2c");
    call.header("x_forwarded_for", "203.0.113.8").send().await.expect_status(200);
    let [head] = &recorder.heads()[..] else { panic!("{:?}", recorder.heads()) };
    assert!(head.starts_with("GET /v1/models?a=b HTTP/1.1\r\n"), "{head}");
    assert_eq!(values(head, "x-forwarded-for"), ["127.0.0.9"], "{head}");
    assert_eq!(values(head, "x-forwarded-proto"), ["http"], "as it came to this port: {head}");
    assert_eq!(values(head, "host"), [proxy.addr().to_string()], "{head}");
    let [id] = values(head, "x-request-id")[..] else { panic!("{head}") };
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{head}");
    for name in ["x-real-ip", "forwarded", "x-forwarded-host", "x_forwarded_for", "connection", "upgrade"] {
        assert!(values(head, name).is_empty(), "{name}: {head}");
    }
}

/// An address may make five times as many requests at once as a user.
const BURST: u8 = 5;

#[tokio::test]
async fn b07_spoofed_headers_change_nothing_in_limiter_log_and_audit_trail() {
    let logs = Logs::listen();
    let options =
        Options::on(Store::Postgres).set("RATE_LIMIT_REQUESTS_PER_MINUTE", 1).set("RATE_LIMIT_BURST", 1);
    let ground = Ground::lay(options).await;
    // Instances count for themselves: two bursts are over when both refuse.
    let mut refused = 0;
    for number in 0..4 * BURST {
        let reply = spoofed(ground.call("GET", "/openapi.json"), number).over(CLIENT).send().await;
        assert!(matches!(reply.status, 200 | 429), "{reply:?}");
        refused += usize::from(reply.status == 429);
    }
    assert_eq!(refused, usize::from(2 * BURST), "what it claimed gave it no bucket of its own");
    let elsewhere = CLIENT.to_bits() + 1;
    spoofed(ground.call("GET", "/openapi.json"), 1).over(elsewhere.into()).send().await.expect_status(200);

    let stranger = (CLIENT.to_bits() + 2).into();
    let credentials = json!({"email": "ada@example.org", "password": PASSWORD});
    let sign_up = spoofed(ground.call("POST", "/v1/auth/signup"), 99).json(&credentials).over(stranger);
    let id = sign_up.send().await.expect_status(201).header("x-request-id").unwrap().to_owned();
    assert!(!id.starts_with("mine"), "{id}");
    let audited = ground
        .app
        .database
        .texts("SELECT address || ' ' || request_id FROM audit_log WHERE event <> 'authn_key_rotated' AND user_id IS NOT NULL")
        .await;
    assert_eq!(audited, [format!("{stranger} {id}")]);
    let audit = ground.app.database.rows("audit_log").await.join("\n");
    for line in [audit, format!("{:?}", logs.lines())] {
        assert!(!line.contains("203.0.113.") && !line.contains("mine-") && !line.contains("evil"), "{line}");
    }

    let logged = || {
        let log = ground.proxy.access_log();
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    until("nginx to log the sign-up", async || logged().iter().any(|line| line["request_id"] == id)).await;
    let lines = logged();
    let line = lines.iter().find(|line| line["request_id"] == id).unwrap();
    assert_eq!([&line["ip"], &line["path"]], [&json!(stranger.to_string()), &json!("/v1/auth/signup")]);
    assert_eq!([&line["status"], &line["upstream_status"]], [&json!(201), &json!("201")]);
    assert!(!ground.proxy.access_log().contains("203.0.113."));
    ground.finish().await;
}

#[tokio::test]
async fn b13_a_query_string_and_bytes_that_are_no_text_do_not_reach_a_log() {
    let proxy = Proxy::start(&["127.0.0.1:9".parse().unwrap()]).await.unwrap();
    let mut raw = crate::harness::Raw::connect(proxy.addr()).await;
    raw.send(b"GET /v1/a\"b\xff\xfe?token=secret HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    raw.reply().await.expect_error(502, "upstream_error");
    until("nginx to log the request", async || proxy.access_log().ends_with('\n')).await;
    let line: Value = serde_json::from_str(&proxy.access_log()).unwrap();
    assert_eq!(line["path"], "/v1/a\"b");
    assert!(!proxy.access_log().contains("secret"));
    assert!(!proxy.error_log().contains("secret"), "{}", proxy.error_log());

    let mut raw = crate::harness::Raw::connect(proxy.addr()).await;
    raw.send(format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(8_000))).await;
    raw.reply().await.expect_error(502, "upstream_error");
    let lines = || proxy.access_log().lines().map(str::to_owned).collect::<Vec<_>>();
    until("nginx to log a long path", async || lines().len() == 2 && proxy.access_log().ends_with('\n'))
        .await;
    let line: Value = serde_json::from_str(&lines()[1]).unwrap();
    assert_eq!(line["path"].as_str().unwrap().len(), 256, "{line}");
}
