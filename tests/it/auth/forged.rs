//! A7: access tokens that are not good, each for one reason, and the one answer they get.

use std::time::Duration;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use domain::signing_key::SigningAlgorithm::{self, EdDsa, Hs256};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{
    REFUSED,
    forge::{Forge, SigningKey, hmac_signed},
};
use crate::harness::{Options, PATIENCE, SECRET, Session, Store, TestApp, both_stores, snapshot};

/// Everything that needs no key but the first one.
fn forgeries(forge: &Forge, session: &Session) -> Vec<(String, String)> {
    let mut table: Vec<(String, String)> = Vec::new();
    let mut add = |why: &str, token: String| table.push((why.to_owned(), token));

    let exp = forge.claims["exp"].as_i64().unwrap();
    for (name, wrong) in [
        ("iss", json!("somebody else")),
        ("aud", json!("another service")),
        ("aud", json!(["another service"])),
        ("client_id", json!("another client")),
        ("sub", json!("01900000-0000-7000-8000-000000000000")),
        ("sub", json!("admin")),
        ("sid", json!("01900000-0000-7000-8000-000000000000")),
        ("sid", json!(7)),
        ("epoch", json!(1)),
        ("epoch", json!("0")),
        ("epoch", json!(-1)),
        ("exp", json!(exp - 1_000)),
        ("exp", json!("9999999999")),
        ("exp", json!(exp.to_string())),
        ("exp", json!(null)),
        ("iat", json!(exp + 1_000)),
        ("iat", json!("0")),
        ("jti", json!(1)),
    ] {
        add(&format!("{name} = {wrong}"), forge.with_claim(name, wrong));
    }
    for name in ["iss", "aud", "sub", "exp", "iat", "jti", "client_id", "sid", "epoch"] {
        add(&format!("without {name}"), forge.without_claim(name));
        for wrong in [json!(null), json!([]), json!({}), json!(true), json!(-1.5), json!("")] {
            add(&format!("{name} = {wrong}"), forge.with_claim(name, wrong));
        }
    }

    let others = ["none", "HS256", "HS512", "RS256", "EdDSA"].into_iter();
    for alg in others.filter(|alg| forge.header["alg"] != *alg) {
        let token = forge.with_header("alg", json!(alg));
        add(&format!("{alg}, unsigned"), token[..=token.rfind('.').unwrap()].to_owned());
        add(alg, token);
    }
    for (name, wrong) in [
        ("typ", json!("JWT")),
        ("typ", json!("rt+jwt")),
        ("kid", json!("another key")),
        ("kid", json!("../../dev/null")),
        ("crit", json!(["b64"])),
    ] {
        add(&format!("header {name} = {wrong}"), forge.with_header(name, wrong));
    }
    for name in ["typ", "kid", "alg"] {
        add(&format!("header without {name}"), forge.without_header(name));
    }

    let (message, signature) = session.access.rsplit_once('.').unwrap();
    add("without a signature", format!("{message}."));
    add("two parts", message.to_owned());
    add("five parts", format!("{message}.{signature}.x.y"));
    let thief = forge.key.with_secret([7; 32]);
    let another = thief.signed(&forge.header, &forge.claims);
    add("another's signature", format!("{message}.{}", another.rsplit_once('.').unwrap().1));
    add("signed with another key", another);
    for (name, theirs) in [
        ("jwk", json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode([7; 32])})),
        ("jwk", thief.jwk()),
        ("jku", json!("https://keys.example/jwks.json")),
        ("x5u", json!("https://keys.example/cert.pem")),
        ("x5c", json!(["MIIB"])),
    ] {
        let mut header = forge.header.clone();
        header[name] = theirs;
        add(&format!("brings its own {name}"), thief.signed(&header, &forge.claims));
    }
    add("a plain JWT", forge.key.signed(&json!({"alg": forge.header["alg"], "typ": "JWT"}), &forge.claims));
    add("a refresh token", session.refresh.clone());
    add("an API key", "dsk_0123456789abcdefghijklmnopqrst_000000".to_owned());
    add("no token", "x".to_owned());
    add("a huge token", format!("{}.{}", session.access, "A".repeat(8_000)));
    table
}

/// What is public, or not a key at all, used as the secret of an HMAC.
fn confusions(forge: &Forge, jwks: &str) -> Vec<(String, String)> {
    let public = forge.key.public();
    let der =
        [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00], &public[..]].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(&der));
    let mut header = forge.header.clone();
    header["alg"] = "HS256".into();
    let secrets: [(&str, &[u8]); 6] = [
        ("the raw public key", &public),
        ("the public key in DER", &der),
        ("the public key in PEM", pem.as_bytes()),
        ("the list of public keys", jwks.as_bytes()),
        ("the master secret", SECRET.as_bytes()),
        ("nothing", b""),
    ];
    let signed = |secret: &[u8]| hmac_signed(secret, &header, &forge.claims);
    secrets.map(|(what, secret)| (format!("signed with {what}"), signed(secret))).into()
}

async fn is_let_in(app: &TestApp, token: &str) -> bool {
    app.get("/v1/auth/me").bearer(token).send().await.status == 200
}

/// Asks again and again, as the service looks at its keys.
async fn until_let_in(app: &TestApp, token: &str, wanted: bool) {
    let asking = async {
        while is_let_in(app, token).await != wanted {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("let in: {}", !wanted));
}

async fn every_forged_token_gets_the_same_answer(
    store: Store,
    algorithm: SigningAlgorithm,
    other: SigningAlgorithm,
) {
    let options = Options::on(store).set("JWT_ALGORITHM", algorithm.as_str()).tune(|config| {
        config.system.auth.key_poll = Duration::from_millis(20);
        config.system.auth.jwks_max_age = Duration::ZERO;
    });
    let app = TestApp::start(options).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let forge = Forge::of(&ada, SigningKey::of(algorithm, 1));

    // The forge works: what it makes without a mistake is let in, so each row below fails for its own reason.
    let good = forge.with_claim("jti", json!("01900000-0000-7000-8000-000000000000"));
    assert_ne!(good, ada.access);
    app.get("/v1/auth/me").bearer(&good).send().await.expect_status(200);

    // A second key, of the other algorithm.
    let second = app.rotate_key(Some(other)).await;
    let header = json!({"alg": other.as_str(), "typ": "at+jwt", "kid": second});
    let others = Forge { key: SigningKey::of(other, 2), header, claims: forge.claims.clone() };
    until_let_in(&app, &others.good(), true).await;

    let jwks = app.get("/.well-known/jwks.json").send().await.expect_status(200).text();
    let mut table = forgeries(&forge, &ada);
    table.extend(forgeries(&others, &ada));
    table.extend(confusions(if algorithm == EdDsa { &forge } else { &others }, &jwks));
    for (one, two) in [(&forge, &others), (&others, &forge)] {
        table.push(("the other's kid".to_owned(), one.with_header("kid", two.header["kid"].clone())));
        table.push(("the other's whole header".to_owned(), one.key.signed(&two.header, &one.claims)));
    }
    for (why, token) in table {
        for call in [app.get("/v1/auth/me").bearer(&token), app.get("/v1/models").header("x-api-key", &token)]
        {
            assert_eq!(snapshot(&call.send().await), REFUSED, "{why}: {token}");
        }
    }

    // The first key is retired once its successor has signed for an hour.
    app.get("/v1/auth/me").bearer(&good).send().await.expect_status(200);
    let unseen = forge.with_claim("jti", json!("01900000-0000-7000-8000-000000000001"));
    let hour = match store {
        Store::Sqlite => "3600000000",
        Store::Postgres => "interval '1 hour'",
    };
    let an_hour_ago = format!("UPDATE signing_keys SET signs_from = signs_from - {hour} RETURNING algorithm");
    assert_eq!(app.database.texts(&an_hour_ago).await.len(), 2);
    until_let_in(&app, &good, false).await;
    for token in [&good, &unseen, &ada.access] {
        let reply = app.get("/v1/auth/me").bearer(token).send().await;
        assert_eq!(snapshot(&reply), REFUSED, "a token of a retired key");
    }
    assert!(is_let_in(&app, &others.good()).await, "its successor's");
    app.finish().await;
}

both_stores! {
    async fn a07_every_forged_token_gets_the_same_answer_under_hs256(store) {
        every_forged_token_gets_the_same_answer(store, Hs256, EdDsa).await;
    }

    async fn a07_every_forged_token_gets_the_same_answer_under_eddsa(store) {
        every_forged_token_gets_the_same_answer(store, EdDsa, Hs256).await;
    }

    async fn a07_a_token_that_has_expired_is_refused_like_a_forged_one(store) {
        let options = Options::on(store)
            .tune(|config| config.system.auth.access_ttl = Duration::from_secs(1));
        let app = TestApp::start(options).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        // It lives for a second or less; how it dies is what matters.
        sleep(Duration::from_secs(1)).await;
        let reply = app.get("/v1/auth/me").bearer(&ada.access).send().await;
        assert_eq!(snapshot(&reply), REFUSED);
        app.finish().await;
    }

    async fn a17_no_route_that_asks_for_a_user_answers_without_one(store) {
        let app = TestApp::on(store).await;
        let document = app.get("/openapi.json").send().await.expect_status(200).json();
        let mut protected = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                if operation["security"].is_null() {
                    continue;
                }
                protected += 1;
                let path = path.replace("{id}", "01900000-0000-7000-8000-000000000000");
                let method = method.to_uppercase();
                app.call(&method, &path).send().await.expect_error(401, "unauthenticated");
                let basic = app.call(&method, &path).header("authorization", "Basic YWRhOnNlY3JldA==");
                basic.send().await.expect_error(401, "unauthenticated");
            }
        }
        assert_eq!(protected, 62, "the routes that ask for a user, as the route table has them");
        app.finish().await;
    }
}
