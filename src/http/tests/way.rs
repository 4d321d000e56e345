//! What each step of a request's way does to it.

use super::*;

#[tokio::test]
async fn the_way_asks_the_address_then_the_credentials_then_the_principal() {
    let rig = Rig::start(|_| {}).await;
    let answer = rig.ask("GET /mine", &["authorization: Bearer user"], "").await;
    assert_eq!((answer.status(), answer.json()), (200, json!("hello")));
    assert_eq!(*rig.script.asked.lock(), ["address", "credentials", "principal"]);
    assert_eq!(answer.header("ratelimit"), Some("\"user\";r=7;t=20"));
}

#[tokio::test]
async fn c05_an_address_over_its_limit_is_refused_before_anybody_looks_at_its_credentials() {
    let rig = Rig::with(Some(Scope::Address), |_| {}).await;
    let answer = rig.ask("GET /mine", &["authorization: Bearer user"], "").await;
    assert_eq!((answer.status(), answer.code().as_str()), (429, "rate_limited"));
    assert!(matches!(answer.header("retry-after"), Some("2" | "3")));
    assert_eq!(answer.header("ratelimit-policy"), Some("\"address\";q=60;w=60"));
    assert_eq!(*rig.script.asked.lock(), ["address"]);
    assert_eq!(rig.ask("GET /healthz", &[], "").await.status(), 200);
}

#[tokio::test]
async fn c06_a_turn_is_paid_for_by_its_route_once_and_every_reply_tells_all_its_buckets() {
    let ask = |rig: Rig, body: &'static str| async move {
        let headers = ["authorization: Bearer user"];
        let answer = rig.ask("POST /v1/turn", &headers, body).await;
        let asked = rig.script.asked.lock().clone();
        let reported = rig.script.reported.lock().clone();
        (answer, asked, reported)
    };
    let way = ["address", "credentials", "turn"];
    let (answer, asked, reported) = ask(Rig::start(|_| {}).await, "{}").await;
    assert_eq!((answer.status(), &asked[..], reported.len()), (404, &way[..], 0));
    assert_eq!(answer.header("ratelimit"), Some("\"user\";r=7;t=20, \"tokens\";r=7;t=20"));
    assert_eq!(answer.header("x-ratelimit-reset-tokens"), Some("20s"));

    let (answer, asked, reported) = ask(Rig::with(Some(Scope::Tokens), |_| {}).await, "{}").await;
    assert_eq!((answer.status(), &asked[..]), (429, &way[..]));
    assert_eq!(reported, [(AuditEvent::ExcessRateLimitExceeded, true, "tokens")]);
    assert!(matches!(answer.header("retry-after"), Some("2" | "3")));
    assert_eq!(answer.header("ratelimit"), Some("\"user\";r=7;t=20, \"tokens\";r=7;t=2"));
    assert_eq!(answer.header("x-ratelimit-reset"), Some("2"));
    assert_eq!(answer.header("x-ratelimit-reset-requests"), Some("20s"));

    let (answer, asked, _) = ask(Rig::start(|_| {}).await, "{").await;
    assert_eq!((answer.status(), &asked[..]), (400, &way[..2]), "what cannot be read is no turn");
    assert_eq!(answer.header("ratelimit-policy"), Some("\"address\";q=60;w=60"));
}

#[tokio::test]
async fn who_may_do_what_is_decided_by_the_table() {
    let rig = Rig::start(|_| {}).await;
    let mut got = Vec::new();
    for path in ["/hello", "/mine", "/theirs"] {
        for token in
            ["", "authorization: Bearer no", "authorization: Bearer user", "authorization: Bearer admin"]
        {
            let headers = if token.is_empty() { vec![] } else { vec![token] };
            got.push(rig.ask(&format!("GET {path}"), &headers, "").await.status());
        }
    }
    assert_eq!(got, [200, 200, 200, 200, 401, 401, 200, 200, 401, 401, 403, 200]);
    let answer = rig.ask("GET /mine", &[], "").await;
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    let answer = rig.ask("GET /mine", &["authorization: Bearer unknowable"], "").await;
    assert_eq!((answer.status(), answer.header("retry-after").is_some()), (503, true));
}

#[tokio::test]
async fn a_small_body_of_a_refused_request_does_not_cost_the_connection() {
    let rig = Rig::start(|_| {}).await;
    let mut stream = rig.connect().await;
    for _ in 0..3 {
        stream
            .write_all(b"POST /mine HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\n")
            .await
            .unwrap();
        stream.write_all(b"[42]").await.unwrap();
        assert!(until(&mut stream, "request_id").await.starts_with("HTTP/1.1 401 "));
    }
}

#[tokio::test]
async fn b06_a_request_needs_exactly_one_host_and_it_must_be_ours() {
    let rig = Rig::start(|_| {}).await;
    let send = |hosts: &str| rig.send(format!("GET /hello HTTP/1.1\r\n{hosts}connection: close\r\n\r\n"));
    assert_eq!(send("").await.status(), 400);
    assert_eq!(send("host: localhost\r\nhost: localhost\r\n").await.status(), 400);
    assert_eq!(send("host: localhost\r\n").await.status(), 200);
    assert_eq!(send("host: rebound.example\r\n").await.status(), 403);
}

#[tokio::test]
async fn b06_a_body_is_never_read_as_a_second_request() {
    let rig = Rig::start(|_| {}).await;
    let smuggled = "GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for framing in [
        format!(
            "content-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
            smuggled.len() + 5
        ),
        format!("content-length: 0\r\ncontent-length: {}\r\n\r\n{smuggled}", smuggled.len()),
        format!("content-length : {}\r\n\r\n{smuggled}", smuggled.len()),
        format!("transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}"),
    ] {
        let head = "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
        let answer = rig.send(format!("{head}{framing}")).await;
        assert_eq!(answer.text.matches("HTTP/1.1 ").count(), 1, "{framing:?}: {}", answer.text);
        assert!((400..500).contains(&answer.status()), "{framing:?}: {}", answer.text);
    }
}

#[tokio::test]
async fn b07_b13_only_a_trusted_proxy_is_believed() {
    let headers = ["x-forwarded-for: 203.0.113.9", "x-request-id: edge-1"];
    let rig = Rig::start(|_| {}).await;
    let answer = rig.ask("POST /echo", &headers, "{}").await;
    assert_eq!(answer.json()["client"], "127.0.0.1");
    assert_ne!(answer.header("x-request-id"), Some("edge-1"));
    let rig = Rig::start(|config| config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let answer = rig.ask("POST /echo", &headers, "{}").await;
    assert_eq!(
        (answer.json()["client"].as_str(), answer.header("x-request-id")),
        (Some("203.0.113.9"), Some("edge-1"))
    );
}

#[tokio::test]
async fn b09_a_panic_is_answered_500_with_its_request_id_and_counted() {
    let rig = Rig::start(|_| {}).await;
    let answer = rig.ask("GET /panic", &[], "").await;
    assert_eq!((answer.status(), answer.code().as_str()), (500, "internal"));
    assert_eq!(answer.json()["error"]["request_id"].as_str(), answer.header("x-request-id"));
    assert!(!answer.text.contains("on purpose"));
    assert_eq!(rig.metrics.panics.get(), 1);
    assert_eq!(rig.ask("GET /hello", &[], "").await.status(), 200);
}

#[tokio::test]
async fn b10_only_listed_origins_are_let_in_and_exactly() {
    let rig =
        Rig::start(|config| config.allowed_origins = vec!["https://app.example".parse().unwrap()]).await;
    let preflight = |origin: &str| {
        let headers = [format!("origin: {origin}"), "access-control-request-method: POST".to_owned()];
        let rig = &rig;
        async move { rig.ask("OPTIONS /mine", &[&headers[0], &headers[1]], "").await }
    };
    let answer = preflight("https://app.example").await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(answer.header("access-control-max-age"), Some("600"));
    assert_eq!(answer.header("access-control-allow-methods"), Some("GET,POST,PATCH,DELETE"));
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some("authorization,content-type,x-api-key,x-request-timeout,idempotency-key,last-event-id")
    );
    assert!(answer.header("vary").is_some_and(|vary| vary.contains("origin")));
    for origin in [
        "https://app.example.evil.org",
        "https://evil-app.example",
        "http://app.example",
        "https://app.example:444",
        "null",
    ] {
        assert_eq!(preflight(origin).await.header("access-control-allow-origin"), None, "{origin}");
    }
    let refused = rig.ask("GET /mine", &["origin: https://app.example"], "").await;
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://app.example"));
}

#[tokio::test]
async fn b11_every_reply_has_the_security_headers_and_no_banner() {
    let rig = Rig::start(|_| {}).await;
    for path in ["/hello", "/nowhere", "/panic", "/mine"] {
        let answer = rig.ask(&format!("GET {path}"), &[], "").await;
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        assert_eq!(answer.header("server"), None);
    }
}

#[tokio::test]
async fn b11_unknown_paths_are_404_and_unknown_methods_405() {
    let rig = Rig::start(|_| {}).await;
    let answer = rig.ask("GET /nowhere", &[], "").await;
    assert_eq!((answer.status(), answer.code().as_str()), (404, "not_found"));
    for (line, allow) in [
        ("DELETE /mine", "GET, HEAD, POST"),
        ("TRACE /hello", "GET, HEAD"),
        ("BREW /nowhere", "GET, HEAD, POST, PATCH, DELETE"),
    ] {
        let answer = rig.ask(line, &[], "").await;
        assert_eq!((answer.status(), answer.header("allow")), (405, Some(allow)), "{line}");
    }
    let answer = rig.ask("HEAD /hello", &[], "").await;
    assert_eq!((answer.status(), answer.header("content-length")), (200, Some("7")));
    assert!(answer.text.ends_with("\r\n\r\n"));
}

#[tokio::test]
async fn d04_a_request_is_over_when_its_own_time_is() {
    let mut rig = Rig::start(|_| {}).await;
    let answer = rig.ask("GET /never", &["x-request-timeout: 1"], "").await;
    assert_eq!((answer.status(), answer.code().as_str()), (504, "deadline_exceeded"));
    timeout(PATIENCE, rig.dropped.recv()).await.expect("the handler should have been dropped");
    assert_eq!(rig.ask("GET /hello", &["x-request-timeout: soon"], "").await.status(), 400);
}

#[tokio::test]
async fn d05_a_full_service_says_503_and_still_serves_its_operators() {
    let rig = Rig::start(|config| config.max_in_flight = 1).await;
    let mut stream = rig.connect().await;
    stream.write_all(b"GET /never HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    while rig.metrics.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    let answer = rig.ask("GET /hello", &[], "").await;
    assert_eq!((answer.status(), answer.code().as_str()), (503, "overloaded"));
    assert!(answer.header("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok_and(|wait| wait >= 1)));
    assert_eq!(rig.ask("GET /healthz", &[], "").await.status(), 200);
}

#[tokio::test]
async fn b10_a_preflight_is_let_in_like_any_other_request_before_it_is_answered() {
    let headers =
        ["origin: https://app.example", "access-control-request-method: POST", "host: rebound.example"];
    let allow =
        |config: &mut HttpConfig| config.allowed_origins = vec!["https://app.example".parse().unwrap()];
    let rig = Rig::with(Some(Scope::Address), allow).await;
    let answer = rig.ask("OPTIONS /mine", &headers[..2], "").await;
    assert_eq!((answer.status(), answer.code().as_str()), (429, "rate_limited"));

    let rig = Rig::start(allow).await;
    assert_eq!(rig.ask("OPTIONS /mine", &headers[..2], "").await.status(), 200);
    assert_eq!(*rig.script.asked.lock(), ["address"]);
    assert_eq!(rig.ask("OPTIONS /mine", &headers, "").await.status(), 400);
    let long = format!("OPTIONS /mine?{}", "x".repeat(9 << 10));
    assert_eq!(rig.ask(&long, &headers[..2], "").await.status(), 414);

    let rig = Rig::start(|config| {
        allow(config);
        config.max_in_flight = 0;
    })
    .await;
    assert_eq!(rig.ask("OPTIONS /mine", &headers[..2], "").await.status(), 503);
}

#[tokio::test]
async fn g10_operators_are_answered_under_loopback_names_only_whoever_passes_them_on() {
    let request = "GET /hello HTTP/1.1\r\nhost: rebound.example\r\nconnection: close\r\n\r\n";
    for (hosts, status) in [(Hosts::Loopback, 403), (Hosts::LoopbackOrProxied, 200), (Hosts::Any, 200)] {
        let trust = |config: &mut HttpConfig| config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        assert_eq!(Rig::named(hosts, None, trust).await.send(request).await.status(), status, "{hosts:?}");
    }
}

#[tokio::test]
async fn d04_the_deadline_holds_while_a_request_is_being_let_in() {
    let rig = Rig::start(|_| {}).await;
    let answer = rig.ask("GET /mine", &["authorization: Bearer stuck", "x-request-timeout: 1"], "").await;
    assert_eq!((answer.status(), answer.code().as_str()), (504, "deadline_exceeded"));
}

#[tokio::test]
async fn b06_a_head_that_two_readers_could_understand_differently_is_400() {
    let rig = Rig::start(|_| {}).await;
    let get =
        |uri: &str| rig.send(format!("GET {uri} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"));
    assert_eq!(get("http://LocalHost/hello").await.status(), 200);
    assert_eq!(get("http://other.example/hello").await.status(), 400);
    assert_eq!(get("http://localhost:81/hello").await.status(), 400);

    let post = |codings: &str| {
        let head = "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n";
        rig.send(format!("{head}{codings}\r\n2\r\n{{}}\r\n0\r\n\r\n"))
    };
    assert_eq!(post("transfer-encoding: Chunked\r\n").await.status(), 200);
    for codings in [
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
    ] {
        let answer = post(codings).await;
        assert_eq!((answer.status(), answer.text.matches("HTTP/1.1 ").count()), (400, 1), "{codings}");
    }
}
