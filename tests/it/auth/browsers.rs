//! Sessions of browsers: tokens in cookies.

use serde_json::json;

use super::REFUSED;
use crate::harness::{Call, Options, PASSWORD, Reply, Store, TestApp, both_stores, snapshot};

const PAGE: &str = "https://app.example.org";
const ACCESS: &str = "__Host-deepersensor";
const REFRESH: &str = "__Host-deepersensor-refresh";

/// On replies to pages.
const VARY: &str = "vary: origin, access-control-request-method, access-control-request-headers\n";

const SIGNED_IN: &str = r#"200
access-control-allow-origin: https://app.example.org
content-type: application/json
vary: origin, access-control-request-method, access-control-request-headers
x-request-id: ‹uuid v7›
{
  "token_type": "Cookie",
  "expires_in": 900
}
"#;

const FOREIGN: &str = r#"403
content-type: application/json
x-request-id: ‹uuid v7›
{
  "error": {
    "code": "forbidden",
    "message": "cookies count only with an Origin that is our own or in ALLOWED_ORIGINS",
    "type": "permission_error",
    "param": null,
    "request_id": "‹uuid v7›"
  }
}
"#;

async fn start(store: Store) -> TestApp {
    TestApp::start(Options::on(store).set("BROWSER_SESSIONS", true).set("ALLOWED_ORIGINS", PAGE)).await
}

fn log_in(app: &TestApp, origin: Option<&str>) -> Call {
    let body = json!({"email": "ada@example.org", "password": PASSWORD, "transport": "cookie"});
    let call = app.post("/v1/auth/login", &body);
    if let Some(origin) = origin { call.header("origin", origin) } else { call }
}

/// The cookies a reply sets, as `name=value` and the attributes.
fn cookies(reply: &Reply) -> Vec<(String, String)> {
    let values = reply.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap());
    values.map(|value| value.split_once("; ").unwrap()).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

fn value<'c>(cookie: &'c (String, String), name: &str) -> &'c str {
    cookie.0.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')).unwrap_or_else(|| panic!("no {name}"))
}

both_stores! {
    async fn a14_a_page_signs_in_goes_on_and_signs_out_without_ever_seeing_a_token(store) {
        let app = start(store).await;
        app.post("/v1/auth/signup", &json!({"email": "ada@example.org", "password": PASSWORD})).send().await;
        let reply = log_in(&app, Some(PAGE)).send().await;
        assert_eq!(snapshot(&reply), SIGNED_IN);
        let set = cookies(&reply);
        assert_eq!(set[0].1, "Path=/; Max-Age=900; Secure; HttpOnly; SameSite=Strict");
        assert_eq!(set[1].1, "Path=/; Max-Age=1209600; Secure; HttpOnly; SameSite=Strict");
        assert_eq!((value(&set[0], ACCESS).split('.').count(), &value(&set[1], REFRESH)[..4]), (3, "dsr_"));

        let jar = format!("theme=dark; {}; {}", set[0].0, set[1].0);
        app.get("/v1/auth/me").header("cookie", &jar).send().await.expect_status(200);
        let post = |path: &str| app.call("POST", path).header("cookie", &jar).header("origin", PAGE);
        let refreshed = post("/v1/auth/refresh").send().await;
        assert_eq!(snapshot(&refreshed), SIGNED_IN);
        assert_ne!(cookies(&refreshed)[1].0, set[1].0);

        let change = json!({"current_password": PASSWORD, "new_password": "eleven tame pelicans"});
        let changed = post("/v1/auth/password").json(&change).send().await;
        assert_eq!(snapshot(&changed), SIGNED_IN);
        let jar = cookies(&changed)[0].0.clone();

        let out = app.call("POST", "/v1/auth/logout").header("cookie", &jar).header("origin", PAGE);
        let out = out.send().await;
        assert_eq!(out.status, 204);
        let gone = "Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict".to_owned();
        assert_eq!(cookies(&out), [(format!("{ACCESS}="), gone.clone()), (format!("{REFRESH}="), gone)]);
        assert_eq!(snapshot(&app.get("/v1/auth/me").header("cookie", &jar).send().await), REFUSED);
        app.finish().await;
    }

    async fn a14_no_page_but_ours_gets_or_spends_a_browsers_session(store) {
        let app = start(store).await;
        app.post("/v1/auth/signup", &json!({"email": "ada@example.org", "password": PASSWORD})).send().await;
        let set = cookies(&log_in(&app, Some(PAGE)).send().await);
        let jar = format!("{}; {}", set[0].0, set[1].0);
        for origin in
            [None, Some("null"), Some("https://evil.example"), Some("https://app.example.org.evil.example")]
        {
            let (in_, out) = (log_in(&app, origin), app.call("POST", "/v1/auth/logout").header("cookie", &jar));
            let refresh = app.call("POST", "/v1/auth/refresh").header("cookie", &jar);
            for call in [in_, out, refresh] {
                let call = if let Some(origin) = origin { call.header("origin", origin) } else { call };
                let reply = call.send().await;
                let said = snapshot(&reply).replace(VARY, "");
                assert_eq!(said, FOREIGN, "{origin:?}");
                assert!(cookies(&reply).is_empty(), "{origin:?}");
            }
        }
        // Our own origin is what the browser's address bar says: the proxy ended TLS.
        let own = format!("https://{}", app.addr());
        let me = app.call("POST", "/v1/auth/logout").header("cookie", &jar).header("origin", &own);
        me.send().await.expect_status(204);
        app.finish().await;
    }

    async fn a14_without_the_option_cookies_are_neither_set_nor_read(store) {
        let app = TestApp::on(store).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let refused = log_in(&app, Some(PAGE)).send().await.expect_error(422, "invalid_request");
        assert_eq!(refused.json()["error"]["param"], "transport");
        let cookie = format!("{ACCESS}={}; {REFRESH}={}", ada.access, ada.refresh);
        app.get("/v1/auth/me").header("cookie", &cookie).send().await.expect_error(401, "unauthenticated");
        let refresh = app.call("POST", "/v1/auth/refresh").header("cookie", &cookie).header("origin", PAGE);
        let missing = refresh.send().await.expect_error(400, "invalid_request");
        assert_eq!(missing.json()["error"]["param"], "refresh_token");
        let out = app.call("POST", "/v1/auth/logout").bearer(&ada.access).send().await.expect_status(204);
        assert!(cookies(&out).is_empty());
        app.finish().await;
    }

    async fn a16_a_cookie_and_a_token_that_differ_are_refused(store) {
        let app = start(store).await;
        let (ada, bob) =
            (app.sign_up_and_in("ada@example.org").await, app.sign_up_and_in("bob@example.org").await);
        let cookie = format!("{ACCESS}={}; {REFRESH}={}", ada.access, ada.refresh);
        let both = app.get("/v1/auth/me").header("cookie", &cookie).bearer(&bob.access);
        both.send().await.expect_error(400, "invalid_request");
        let both = app.post("/v1/auth/refresh", &json!({"refresh_token": bob.refresh})).header("cookie", &cookie);
        both.header("origin", PAGE).send().await.expect_error(400, "invalid_request");
        app.finish().await;
    }
}
