//! A9: keys change, and nobody who is signed in notices.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::signing_key::SigningAlgorithm::EdDsa;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::harness::{Call, Options, PATIENCE, Session, Store, TestApp, both_stores};

/// Tasks that ask all the time.
const CALLERS: usize = 4;

/// A lead of two seconds in all: twenty looks of an instance, on a machine that is busy with other tests.
fn options(store: Store) -> Options {
    Options::on(store).tune(|config| {
        config.system.auth.key_poll = Duration::from_millis(100);
        config.system.auth.jwks_max_age = Duration::from_millis(1_700);
    })
}

/// `kid` in a token's header.
pub(super) fn kid(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
}

async fn jwks(address: SocketAddr) -> Vec<Value> {
    let reply = Call::new(address, "GET", "/.well-known/jwks.json").send().await.expect_status(200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    reply.json()["keys"].as_array().unwrap().clone()
}

/// Verifies a token as anybody can who has fetched the keys.
fn verify(token: &str, keys: &[Value]) {
    let key = keys.iter().find(|key| key["kid"] == kid(token).as_str()).expect("its key is published");
    let (message, signature) = token.rsplit_once('.').unwrap();
    let x = URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    UnparsedPublicKey::new(&ED25519, x).verify(message.as_bytes(), &signature).unwrap();
}

/// What the callers share.
struct Load {
    services: Vec<SocketAddr>,
    /// Every access token there has been.
    tokens: Mutex<Vec<String>>,
    newest: watch::Sender<String>,
    answered: AtomicUsize,
    stop: CancellationToken,
}

impl Load {
    fn new(services: Vec<SocketAddr>, first: &Session) -> Arc<Self> {
        Arc::new(Self {
            services,
            tokens: Mutex::new(vec![first.access.clone()]),
            newest: watch::Sender::new(first.access.clone()),
            answered: AtomicUsize::new(0),
            stop: CancellationToken::new(),
        })
    }

    /// Refreshes without a pause, at each service in turn; the others show the new token at once.
    async fn refresh(self: Arc<Self>, mut token: String) {
        for service in self.services.iter().cycle() {
            if self.stop.is_cancelled() {
                return;
            }
            let body = json!({"refresh_token": token});
            let refresh = Call::new(*service, "POST", "/v1/auth/refresh").json(&body);
            let pair = refresh.send().await.expect_status(200).json();
            let access = pair["access_token"].as_str().unwrap().to_owned();
            for service in &self.services {
                self.ask(*service, &access).await;
            }
            token = pair["refresh_token"].as_str().unwrap().to_owned();
            self.tokens.lock().push(access.clone());
            self.newest.send_replace(access);
        }
    }

    /// Shows old and new tokens without a pause.
    async fn show(self: Arc<Self>, first: usize) {
        let mut at = first;
        while !self.stop.is_cancelled() {
            at += 1;
            let token = {
                let tokens = self.tokens.lock();
                // The newest, the oldest, and all that lie between.
                let back = if at.is_multiple_of(3) { 0 } else { at % tokens.len() };
                tokens[tokens.len() - 1 - back].clone()
            };
            self.ask(self.services[at % self.services.len()], &token).await;
        }
    }

    async fn ask(&self, service: SocketAddr, token: &str) {
        Call::new(service, "GET", "/v1/auth/me").bearer(token).send().await.expect_status(200);
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for a token of this key.
    async fn signed_by(&self, key: &str) {
        let mut newest = self.newest.subscribe();
        let waiting = newest.wait_for(|token| kid(token) == key);
        timeout(PATIENCE, waiting).await.expect("the key signs in time").unwrap();
    }
}

/// Rotates twice while everybody asks: HS256, EdDSA, EdDSA.
async fn rotate_under_load(app: &TestApp, services: Vec<SocketAddr>) {
    let ada = app.sign_up_and_in("ada@example.org").await;
    let load = Load::new(services, &ada);
    let mut callers = JoinSet::new();
    callers.spawn(Arc::clone(&load).refresh(ada.refresh.clone()));
    for first in 0..CALLERS {
        callers.spawn(Arc::clone(&load).show(first));
    }

    let first = kid(&ada.access);
    let mut seen = BTreeSet::from([first.clone()]);
    for algorithm in [Some(EdDsa), None] {
        let next = app.rotate_key(algorithm).await;
        load.signed_by(&next).await;
        for service in &load.services {
            let keys = jwks(*service).await;
            verify(&load.newest.borrow().clone(), &keys);
            assert!(keys.iter().all(|key| key["kid"] != first.as_str()), "a secret key is not published");
        }
        assert!(seen.insert(next));
    }

    load.stop.cancel();
    while let Some(ended) = callers.join_next().await {
        ended.expect("no caller is refused");
    }
    let tokens = load.tokens.lock().clone();
    assert_eq!(tokens.iter().map(|token| kid(token)).collect::<BTreeSet<_>>(), seen);
    for service in &load.services {
        load.ask(*service, &tokens[0]).await;
    }
    assert!(load.answered.load(Ordering::Relaxed) > 100, "they hardly asked");
    let audited = app.database.texts("SELECT detail FROM audit_log WHERE event = 'authn_key_rotated'").await;
    assert_eq!(audited.into_iter().collect::<BTreeSet<_>>(), seen);
}

both_stores! {
    async fn a09_keys_rotate_under_load_and_no_valid_token_is_refused(store) {
        let app = TestApp::start(options(store)).await;
        rotate_under_load(&app, vec![app.addr()]).await;
        app.finish().await;
    }
}

#[tokio::test]
async fn a09_keys_rotate_under_load_at_two_services_and_neither_refuses_a_valid_token() {
    let app = TestApp::start(options(Store::Postgres)).await;
    // One that looks less often is what the lead is for.
    let twin = app.start_twin(|config| config.system.auth.key_poll = Duration::from_millis(500)).await;
    rotate_under_load(&app, vec![app.addr(), twin.addr()]).await;
    twin.stop().await;
    app.finish().await;
}

both_stores! {
    async fn a09_with_hs256_no_key_is_published_and_the_list_may_be_kept_for_ten_minutes(store) {
        let app = TestApp::on(store).await;
        let reply = app.get("/.well-known/jwks.json").send().await.expect_status(200);
        assert_eq!(reply.text(), r#"{"keys":[]}"#);
        assert_eq!(reply.header("cache-control"), Some("public, max-age=600"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        app.finish().await;
    }

    async fn a09_with_eddsa_anybody_can_verify_a_token_by_the_published_key(store) {
        let app = TestApp::start(Options::on(store).set("JWT_ALGORITHM", "EdDSA")).await;
        let ada = app.sign_up_and_in("ada@example.org").await;
        let keys = jwks(app.addr()).await;
        assert_eq!(keys.len(), 1);
        verify(&ada.access, &keys);
        app.finish().await;
    }
}
