//! Who is let in with what, and whom the audit trail hears of.

use super::*;

const ALL: [&str; 8] =
    ["", "no", "user", "admin", "models-key", "users-admin-key", "admins-chat-key", "admin-key"];

/// The statuses of a route for each of [`ALL`], in both headers.
async fn statuses(rig: &Rig, path: &str) -> Vec<u16> {
    let mut got = Vec::new();
    for token in ALL {
        let mut by_header = Vec::new();
        for header in [format!("authorization: Bearer {token}"), format!("x-api-key: {token}")] {
            by_header.push(rig.ask(&format!("GET {path}"), &[&header], "").await.status());
        }
        assert_eq!(by_header[0], by_header[1], "a16: {path} with {token:?}");
        got.push(by_header[0]);
    }
    got
}

#[tokio::test]
async fn a16_a17_each_access_lets_in_exactly_whom_it_names_by_either_header() {
    let rig = Rig::start(|_| {}).await;
    assert_eq!(statuses(&rig, "/mine").await, [401, 401, 200, 200, 200, 200, 200, 200]);
    assert_eq!(statuses(&rig, "/models").await, [401, 401, 200, 200, 200, 403, 403, 403]);
    assert_eq!(statuses(&rig, "/account").await, [401, 401, 200, 200, 403, 403, 403, 403]);
    assert_eq!(statuses(&rig, "/theirs").await, [401, 401, 403, 200, 403, 403, 403, 200]);
}

#[tokio::test]
async fn a19_whoever_is_not_admitted_is_told_what_is_missing_and_the_audit_trail_where() {
    let rig = Rig::start(|_| {}).await;
    for (path, token, missing) in [
        ("/models", "admin-key", "the scope `models`"),
        ("/account", "models-key", "needs a session"),
        ("/theirs", "users-admin-key", "the role `admin`"),
        ("/theirs", "admins-chat-key", "the scope `admin`"),
    ] {
        let answer = rig.ask(&format!("GET {path}"), &[&format!("x-api-key: {token}")], "").await;
        assert_eq!((answer.status(), answer.code().as_str()), (403, "forbidden"));
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(missing), "{path} {token}: {message}");
        assert_eq!(rig.script.reported.lock().pop(), Some((AuditEvent::AuthzFail, true, path)));
    }
    assert_eq!(rig.ask("GET /theirs", &["x-api-key: no"], "").await.status(), 401);
    assert!(rig.script.reported.lock().is_empty(), "who is unknown was not refused a right");
}

#[tokio::test]
async fn a19_who_is_over_a_limit_is_told_to_the_audit_trail() {
    for (empty, who) in [(Scope::Address, false), (Scope::User, true)] {
        let rig = Rig::with(Some(empty), |_| {}).await;
        assert_eq!(rig.ask("GET /mine", &["x-api-key: user"], "").await.status(), 429);
        assert_eq!(*rig.script.reported.lock(), [(AuditEvent::ExcessRateLimitExceeded, who, empty.as_str())]);
    }
}

#[tokio::test]
async fn c05_a_reserved_route_costs_nothing_but_guessing_ones_way_into_it_does() {
    let rig = Rig::with(Some(Scope::Address), |_| {}).await;
    assert_eq!(rig.ask("GET /tree", &["x-api-key: admin"], "").await.status(), 200);
    assert_eq!(*rig.script.asked.lock(), ["credentials"]);
    assert_eq!(rig.ask("GET /tree", &["x-api-key: unknowable"], "").await.status(), 503);
    assert_eq!(*rig.script.asked.lock(), ["credentials", "credentials"]);
    for refused in [&["x-api-key: no"][..], &["x-api-key: user"], &[]] {
        assert_eq!(rig.ask("GET /tree", refused, "").await.status(), 429, "{refused:?}");
        assert_eq!(rig.script.asked.lock().last(), Some(&"address"), "{refused:?}");
    }
    let rig = Rig::start(|_| {}).await;
    assert_eq!(rig.ask("GET /tree", &["x-api-key: no"], "").await.status(), 401);
    assert_eq!(rig.ask("GET /tree", &["x-api-key: user"], "").await.status(), 403);
}

const PAGE: &str = "https://app.example";

async fn with_browsers() -> Rig {
    Rig::start(|config| {
        config.browser_sessions = Some(Duration::from_secs(60));
        config.allowed_origins = vec![PAGE.parse().unwrap()];
    })
    .await
}

#[tokio::test]
async fn a14_cookies_are_not_read_where_browsers_have_no_sessions() {
    let rig = Rig::start(|_| {}).await;
    let answer = rig.ask("GET /mine", &["cookie: __Host-deepersensor=user"], "").await;
    assert_eq!(answer.status(), 401);
    let both = ["cookie: __Host-deepersensor=admin", "x-api-key: user"];
    assert_eq!(rig.ask("GET /mine", &both, "").await.status(), 200);
}

#[tokio::test]
async fn a14_a_cookie_reads_for_anybody_but_changes_things_only_for_pages_that_may() {
    let rig = with_browsers().await;
    let cookie = "cookie: __Host-deepersensor=user";
    assert_eq!(rig.ask("GET /mine", &[cookie], "").await.status(), 200);
    assert_eq!(rig.ask("HEAD /mine", &[cookie], "").await.status(), 200);
    for (origin, status) in [
        ("origin: https://app.example", 200),
        ("origin: https://localhost", 200),
        ("origin: http://localhost", 403),
        ("origin: https://evil.example", 403),
        ("origin: null", 403),
        ("x-nothing: x", 403),
    ] {
        assert_eq!(rig.ask("POST /mine", &[cookie, origin], "").await.status(), status, "{origin}");
        let told = rig.script.reported.lock().pop();
        assert_eq!(told.is_some(), status == 403, "{origin}: {told:?}");
    }
    // What a script had to know needs no proof of where the script came from.
    assert_eq!(rig.ask("POST /mine", &["authorization: Bearer user"], "").await.status(), 200);
    assert_eq!(rig.ask("POST /mine", &[cookie, "authorization: Bearer user"], "").await.status(), 200);
}

#[tokio::test]
async fn a16_a_cookie_and_a_header_that_differ_are_two_credentials() {
    let rig = with_browsers().await;
    for header in ["authorization: Bearer admin", "x-api-key: admin"] {
        let answer = rig.ask("GET /mine", &["cookie: __Host-deepersensor=user", header], "").await;
        assert_eq!((answer.status(), answer.code().as_str()), (400, "invalid_request"));
    }
}

#[tokio::test]
async fn a14_pages_may_send_cookies_only_where_browsers_have_sessions() {
    let allows = |rig: Rig| async move {
        let origin = format!("origin: {PAGE}");
        let answer = rig.ask("GET /hello", &[&origin], "").await;
        answer.header("access-control-allow-credentials").map(str::to_owned)
    };
    assert_eq!(allows(with_browsers().await).await.as_deref(), Some("true"));
    let listed = |config: &mut HttpConfig| config.allowed_origins = vec![PAGE.parse().unwrap()];
    assert_eq!(allows(Rig::start(listed).await).await, None);
}

async fn with_keys_in_paths() -> Rig {
    Rig::start(|config| config.key_in_path = true).await
}

#[tokio::test]
async fn a16_a_key_in_front_of_a_path_says_who_asks_where_that_is_switched_on() {
    let tags = format!("GET /k/{MODELS_KEY}/api/tags");
    let rig = with_keys_in_paths().await;
    assert_eq!(rig.ask(&tags, &[], "").await.status(), 200);
    assert_eq!(*rig.script.asked.lock(), ["address", "credentials", "principal"]);
    assert_eq!(rig.ask(&tags, &[&format!("x-api-key: {MODELS_KEY}")], "").await.status(), 200);
    assert_eq!(rig.ask(&format!("HEAD /k/{MODELS_KEY}/"), &[], "").await.status(), 200);
    let off = Rig::start(|_| {}).await;
    assert_eq!(off.ask(&tags, &[], "").await.status(), 404);
    assert_eq!(*off.script.asked.lock(), ["address"], "nobody looks at it");
}

#[tokio::test]
async fn a16_b12_a_key_in_a_path_is_refused_in_the_words_of_ollama_which_do_not_repeat_it() {
    let rig = with_keys_in_paths().await;
    let wrong = format!("dsk_{}", &MODELS_KEY[5..]);
    for (line, headers, status) in [
        (format!("GET /k/{wrong}/api/tags"), &[][..], 401),
        ("GET /k/user/api/tags".to_owned(), &[], 401),
        ("GET /k//api/tags".to_owned(), &[], 401),
        (format!("GET /k/{MODELS_KEY}/api/tags"), &["authorization: Bearer user"], 400),
        (format!("GET /k/{MODELS_KEY}/api/tags"), &["x-api-key: admin"], 400),
        (format!("POST /k/{MODELS_KEY}/api/chat"), &[], 403),
        (format!("DELETE /k/{MODELS_KEY}/api/tags"), &[], 405),
        (format!("POST /k/{MODELS_KEY}/api/pull"), &[], 404),
        (format!("GET /k/{MODELS_KEY}/mine"), &[], 404),
        (format!("GET /k/{MODELS_KEY}/theirs"), &[], 404),
        (format!("GET /k/{MODELS_KEY}"), &[], 404),
    ] {
        let answer = rig.ask(&line, headers, "").await;
        assert_eq!(answer.status(), status, "{line}");
        assert!(answer.json()["error"].is_string(), "{line}: {}", answer.text);
        assert!(!answer.text.contains("dsk_"), "{line}: {}", answer.text);
    }
    let reported = rig.script.reported.lock().clone();
    assert_eq!(reported, [(AuditEvent::AuthzFail, true, "/api/chat")]);
}

#[tokio::test]
async fn a16_a_path_that_tells_no_key_is_judged_by_its_headers_as_ever() {
    let rig = with_keys_in_paths().await;
    assert_eq!(rig.ask("GET /api/tags", &["x-api-key: models-key"], "").await.status(), 200);
    assert_eq!(rig.ask("GET /api/tags", &[], "").await.status(), 401);
    assert_eq!(rig.ask("GET /mine", &["x-api-key: user"], "").await.status(), 200);
}
