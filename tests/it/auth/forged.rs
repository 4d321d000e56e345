//! A7: access tokens that are not good, each for one reason, and the one answer they get.

use std::time::Duration;

use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::REFUSED;
use crate::harness::{SECRET, Session, Store, TestApp, snapshot};

/// A good token taken apart, to be put together again with one thing changed.
struct Forge {
    key: [u8; 32],
    header: Value,
    claims: Value,
}

impl Forge {
    fn of(session: &Session) -> Self {
        let parts: Vec<_> = session.access.split('.').take(2).map(decoded).collect();
        // The service's own derivation: a forger who has the secret still has to say the right things.
        let root = Salt::new(HKDF_SHA256, b"deepersensor").extract(SECRET.as_bytes());
        let mut key = [0; 32];
        root.expand(&[b"access token signing 1"], HKDF_SHA256).unwrap().fill(&mut key).unwrap();
        Self { key, header: parts[0].clone(), claims: parts[1].clone() }
    }

    fn with_claim(&self, name: &str, value: Value) -> String {
        let mut claims = self.claims.clone();
        claims[name] = value;
        self.signed(&self.header, &claims)
    }

    fn without_claim(&self, name: &str) -> String {
        let mut claims = self.claims.clone();
        claims.as_object_mut().unwrap().shift_remove(name).unwrap();
        self.signed(&self.header, &claims)
    }

    fn with_header(&self, name: &str, value: Value) -> String {
        let mut header = self.header.clone();
        header[name] = value;
        self.signed(&header, &self.claims)
    }

    fn without_header(&self, name: &str) -> String {
        let mut header = self.header.clone();
        header.as_object_mut().unwrap().shift_remove(name).unwrap();
        self.signed(&header, &self.claims)
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        self.signed_with(&self.key, header, claims)
    }

    fn signed_with(&self, key: &[u8], header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encoded(header), encoded(claims));
        let key = EncodingKey::from_secret(key);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    }
}

fn decoded(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn encoded(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

/// Every forgery with its reason.
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
    }

    for (name, wrong) in [
        ("typ", json!("JWT")),
        ("typ", json!("rt+jwt")),
        ("kid", json!("another key")),
        ("kid", json!("../../dev/null")),
        ("alg", json!("none")),
        ("alg", json!("HS512")),
        ("alg", json!("RS256")),
        ("crit", json!(["b64"])),
    ] {
        add(&format!("header {name} = {wrong}"), forge.with_header(name, wrong));
    }
    for name in ["typ", "kid", "alg"] {
        add(&format!("header without {name}"), forge.without_header(name));
    }

    let none = json!({"alg": "none", "typ": "at+jwt", "kid": forge.header["kid"]});
    add("alg none, unsigned", format!("{}.{}.", encoded(&none), encoded(&forge.claims)));
    let message = session.access.rsplit_once('.').unwrap().0;
    add("without a signature", format!("{message}."));
    add("two parts", message.to_owned());
    let another = forge.signed_with(&[7; 32], &forge.header, &forge.claims);
    add("signed with another key", another.clone());
    let jwk = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode([7; 32])});
    let mut header = forge.header.clone();
    header["jwk"] = jwk;
    add("brings its own key", forge.signed_with(&[7; 32], &header, &forge.claims));
    add("signed with the master secret", forge.signed_with(SECRET.as_bytes(), &forge.header, &forge.claims));
    add("another's signature", format!("{message}.{}", another.rsplit_once('.').unwrap().1));
    let own = jsonwebtoken::encode(&Header::default(), &forge.claims, &EncodingKey::from_secret(&forge.key));
    add("a plain JWT", own.unwrap());
    add("a refresh token", session.refresh.clone());
    add("no token", "x".to_owned());
    add("a huge token", format!("{}.{}", session.access, "A".repeat(8_000)));
    table
}

#[tokio::test]
async fn a07_every_forged_token_gets_the_same_answer() {
    let app = TestApp::on(Store::Sqlite).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    let forge = Forge::of(&ada);

    // The forge works: what it makes without a mistake is let in, so each row below fails for its own reason.
    let good = forge.with_claim("jti", json!("01900000-0000-7000-8000-000000000000"));
    assert_ne!(good, ada.access);
    app.get("/v1/auth/me").bearer(&good).send().await.expect_status(200);

    for (why, token) in forgeries(&forge, &ada) {
        for call in [app.get("/v1/auth/me").bearer(&token), app.get("/v1/models").header("x-api-key", &token)]
        {
            assert_eq!(snapshot(&call.send().await), REFUSED, "{why}");
        }
    }
    app.get("/v1/auth/me").bearer(&ada.access).send().await.expect_status(200);
    app.finish().await;
}

#[tokio::test]
async fn a07_a_token_that_has_expired_is_refused_like_a_forged_one() {
    let options = crate::harness::Options::on(Store::Sqlite)
        .tune(|config| config.system.auth.access_ttl = Duration::from_secs(1));
    let app = TestApp::start(options).await;
    let ada = app.sign_up_and_in("ada@example.org").await;
    // It lives for a second or less; how it dies is what matters.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let reply = app.get("/v1/auth/me").bearer(&ada.access).send().await;
    assert_eq!(snapshot(&reply), REFUSED);
    app.finish().await;
}

#[tokio::test]
async fn a17_no_route_that_asks_for_a_user_answers_without_one() {
    let app = TestApp::on(Store::Sqlite).await;
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
    assert_eq!(protected, 9, "the routes that ask for a user, as the route table has them");
    app.finish().await;
}
