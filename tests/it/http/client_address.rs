//! B7: whose word about a client's address counts.

use serde_json::json;

use crate::harness::{Call, Options, PASSWORD, Store, TestApp};

/// An address may make five times as many requests at once as a user.
const BURST: usize = 5;

fn limited() -> Options {
    Options::on(Store::Sqlite).set("RATE_LIMIT_REQUESTS_PER_MINUTE", 1).set("RATE_LIMIT_BURST", 1)
}

fn from(app: &TestApp, forwarded: &str) -> Call {
    app.get("/openapi.json").header("x-forwarded-for", forwarded)
}

#[tokio::test]
async fn b07_a_stranger_that_claims_other_addresses_stays_in_its_own_bucket() {
    let app = TestApp::start(limited().set("TRUSTED_PROXY_IPS", "")).await;
    for n in 0..BURST {
        from(&app, &format!("203.0.113.{n}")).send().await.expect_status(200);
    }
    let refused = from(&app, "198.51.100.7")
        .header("forwarded", "for=198.51.100.8")
        .header("x-real-ip", "198.51.100.9");
    refused.send().await.expect_error(429, "rate_limited");
    app.finish().await;
}

#[tokio::test]
async fn b07_behind_a_trusted_proxy_each_client_has_its_own_bucket_which_it_cannot_leave() {
    let app = TestApp::start(limited().set("TRUSTED_PROXY_IPS", "127.0.0.1, 10.0.0.0/8")).await;
    // What the client itself claimed stands left of what the proxies saw.
    for n in 0..BURST {
        from(&app, &format!("192.0.2.{n}, 203.0.113.7, 10.1.2.3")).send().await.expect_status(200);
    }
    from(&app, "192.0.2.99, 203.0.113.7").send().await.expect_error(429, "rate_limited");
    from(&app, "192.0.2.99, 203.0.113.8").send().await.expect_status(200);
    // One customer has a /64.
    for n in 0..BURST {
        from(&app, &format!("2001:db8:1:2::{n}")).send().await.expect_status(200);
    }
    from(&app, "2001:db8:1:2:ffff::1").send().await.expect_error(429, "rate_limited");
    from(&app, "2001:db8:1:3::1").send().await.expect_status(200);
    app.finish().await;
}

#[tokio::test]
async fn b07_the_audit_trail_holds_the_address_that_counts() {
    let credentials = json!({"email": "ada@example.org", "password": PASSWORD});
    for (trusted, address) in [("", "127.0.0.1"), ("127.0.0.1", "203.0.113.7")] {
        let app = TestApp::start(Options::on(Store::Sqlite).set("TRUSTED_PROXY_IPS", trusted)).await;
        let call = app.post("/v1/auth/signup", &credentials).from([203, 0, 113, 7]);
        call.send().await.expect_status(201);
        assert_eq!(
            app.database.texts("SELECT address FROM audit_log WHERE event <> 'authn_key_rotated'").await,
            [address]
        );
        app.finish().await;
    }
}
