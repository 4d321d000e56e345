//! API keys: made, shown, looked up and revoked.

use std::{fs, time::Duration};

use chrono::TimeDelta;
use domain::{
    api_key::{ApiKey, KeyHash},
    id::SessionId,
    limits::{Limits, Priority},
    model_access::ModelPatterns,
    principal::{Access, Credential, Principal, Role, Scope, Scopes},
    secret::Secret,
    token_text::{self, TokenKind},
};
use futures_util::future::join_all;

use super::{
    bench::{Bench, EMAIL, PASSWORD, is_unavailable, pass, secret},
    log::Diary,
};
use crate::{
    auth::{Administrator, AuthError, KeyRequest, Origin},
    digest::sha256,
};

/// Somebody who is signed in.
pub(super) struct Owner {
    pub(super) principal: Principal,
    pub(super) token: String,
}

impl Owner {
    pub(super) fn session(&self) -> SessionId {
        let Credential::Session(session) = self.principal.credential else { panic!("{:?}", self.principal) };
        session
    }
}

impl Bench {
    pub(super) async fn owner(&self) -> Owner {
        self.sign_up().await;
        self.owner_again().await
    }

    pub(super) async fn admin(&self) -> Owner {
        self.auth.create_account(EMAIL, secret(PASSWORD), Role::Admin).await.unwrap();
        self.owner_again().await
    }

    pub(super) async fn owner_again(&self) -> Owner {
        let token = self.log_in().await.access_token.into_inner();
        Owner { principal: self.auth.authenticate(&token).await.unwrap(), token }
    }

    pub(super) async fn key(&self, owner: &Owner) -> (ApiKey, Secret<String>) {
        self.auth.create_key(&owner.principal, request(), Origin::default()).await.unwrap()
    }

    pub(super) fn key_look_ups(&self) -> u64 {
        let of = |outcome| self.metric(&format!("deepersensor_key_look_ups_total{{outcome=\"{outcome}\"}}"));
        ["accepted", "refused", "unavailable"].map(of).iter().sum()
    }
}

pub(super) fn request() -> KeyRequest {
    KeyRequest {
        name: "nightly".to_owned(),
        scopes: Scopes::parse("chat models").unwrap(),
        limits: Limits::default(),
        models: None,
        expires_at: None,
    }
}

pub(super) fn key_of(secret: &Secret<String>) -> KeyHash {
    sha256(secret.reveal())
}

/// A key that looks like one and was never given out.
pub(super) fn made_up(n: u8) -> String {
    token_text::compose(TokenKind::ApiKey, &[n; 32]).into_inner()
}

#[tokio::test]
async fn a15_a_key_is_shown_once_stored_as_its_hash_and_lets_in_with_what_it_was_given() {
    let bench = Bench::start().await;
    let owner = bench.owner().await;
    let expires_at = Some(bench.context.clock.now() + TimeDelta::days(30));
    let limits = Limits {
        requests_per_minute: Some(90),
        tokens_per_minute: Some(1_000_000_000),
        streams: Some(10_000),
        priority: Some(Priority::Batch),
    };
    let models = Some(ModelPatterns::of(["qwen3:*"]).unwrap());
    let wanted =
        KeyRequest { name: " nightly ".to_owned(), limits, models: models.clone(), expires_at, ..request() };
    let (key, secret) = bench.auth.create_key(&owner.principal, wanted, Origin::default()).await.unwrap();
    assert!(token_text::is_well_formed(TokenKind::ApiKey, secret.reveal()));
    assert_eq!((key.name.as_str(), key.prefix.as_str()), ("nightly", &secret.reveal()[..12]));
    let listed = bench.auth.keys(&owner.principal, None, 10).await.unwrap().items;
    assert_eq!(listed, std::slice::from_ref(&key));

    let caller = bench.auth.authenticate(secret.reveal()).await.unwrap();
    let credential = Credential::Key { id: key.id, scopes: request().scopes, limits, models };
    assert_eq!(caller, Principal { credential, ..owner.principal.clone() });
    assert_eq!(key.limits.requests().map(|quota| (quota.permits, quota.burst)), Some((90, 30)));
    assert!(Access::Scope(Scope::Chat).admits(&caller) && !Access::Scope(Scope::Usage).admits(&caller));

    let stored: Vec<u8> = fs::read_dir(&bench.data_dir)
        .unwrap()
        .flat_map(|file| fs::read(file.unwrap().path()).unwrap_or_default())
        .collect();
    let holds = |text: &[u8]| stored.windows(text.len()).any(|window| window == text);
    assert!(holds(key.prefix.as_bytes()), "looked in the wrong place");
    assert!(!holds(&secret.reveal().as_bytes()[12..]), "the key itself is stored");
    bench.stop().await;
}

#[tokio::test]
async fn a15_a_key_that_breaks_a_rule_is_refused_by_the_field_that_breaks_it() {
    let bench = Bench::start().await;
    let owner = bench.owner().await;
    let at = |days| Some(bench.context.clock.now() + TimeDelta::days(days));
    let named = |name: &str| KeyRequest { name: name.to_owned(), ..request() };
    let none = Limits::default();
    let limited = |limits| KeyRequest { limits, ..request() };
    let requests = |limit| limited(Limits { requests_per_minute: Some(limit), ..none });
    let until = |days| KeyRequest { expires_at: at(days), ..request() };
    let scoped = |scopes: &str| KeyRequest { scopes: Scopes::parse(scopes).unwrap(), ..request() };
    for (field, wanted) in [
        ("name", named("")),
        ("name", named("   ")),
        ("name", named(&"é".repeat(101))),
        ("name", named("night\u{7}ly")),
        ("scopes", scoped("")),
        ("scopes", scoped("chat admin")),
        ("requests_per_minute", requests(0)),
        ("requests_per_minute", requests(1_000_001)),
        ("tokens_per_minute", limited(Limits { tokens_per_minute: Some(0), ..none })),
        ("streams", limited(Limits { streams: Some(10_001), ..none })),
        ("expires_at", until(0)),
        ("expires_at", until(-1)),
        ("expires_at", until(3_651)),
    ] {
        let refused = bench.auth.create_key(&owner.principal, wanted.clone(), Origin::default()).await;
        let why = refused.map(|_| ());
        assert!(
            matches!(why, Err(AuthError::BadRequest { field: by, .. }) if by == field),
            "{why:?} {wanted:?}"
        );
    }
    for wanted in [named(&"é".repeat(100)), requests(1), requests(1_000_000), until(3_650)] {
        bench.auth.create_key(&owner.principal, wanted, Origin::default()).await.unwrap();
    }
    let admin = Principal { role: Role::Admin, ..owner.principal };
    bench.auth.create_key(&admin, scoped("admin"), Origin::default()).await.unwrap();
    bench.stop().await;
}

#[tokio::test]
async fn a15_a_key_can_neither_make_nor_list_nor_revoke_keys() {
    let bench = Bench::start().await;
    let (key, secret) = bench.key(&bench.owner().await).await;
    let caller = bench.auth.authenticate(secret.reveal()).await.unwrap();
    let made = bench.auth.create_key(&caller, request(), Origin::default()).await;
    assert_eq!(made.map(|_| ()), Err(AuthError::NeedsSession));
    assert_eq!(bench.auth.keys(&caller, None, 10).await.map(|_| ()), Err(AuthError::NeedsSession));
    let revoked = bench.auth.revoke_key(&caller, key.id, Origin::default()).await;
    assert_eq!(revoked, Err(AuthError::NeedsSession));
    bench.stop().await;
}

#[tokio::test]
async fn a15_a_malformed_key_costs_no_query_and_leaves_nothing_behind() {
    let bench = Bench::start().await;
    let (_, key) = bench.key(&bench.owner().await).await;
    // Whoever asked the store now would hear that it is away.
    bench.stop_store().await;
    let good = key.reveal();
    for at in 0..good.len() {
        let mut forged = good.clone();
        forged.replace_range(at..=at, if &good[at..=at] == "0" { "1" } else { "0" });
        // Without its prefix it is no key at all, but no token either.
        assert_eq!(bench.auth.authenticate(&forged).await, Err(AuthError::BadToken), "at {at}");
        assert_eq!(bench.auth.authenticate(&good[..at]).await, Err(AuthError::BadToken), "cut at {at}");
        assert_eq!(bench.auth.0.sessions.known(sha256(&forged).into()), None);
    }
    assert_eq!(bench.key_look_ups(), 0);
    assert!(is_unavailable(&bench.auth.authenticate(good).await), "the store was not asked about a good one");
    assert_eq!(bench.key_look_ups(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn a15_an_unknown_key_is_refused_and_asked_about_once_in_five_seconds() {
    let bench = Bench::start().await;
    for _ in 0..20 {
        assert_eq!(bench.auth.authenticate(&made_up(1)).await, Err(AuthError::BadToken));
    }
    assert_eq!(bench.key_look_ups(), 1);
    pass(Duration::from_millis(5_001)).await;
    assert_eq!(bench.auth.authenticate(&made_up(1)).await, Err(AuthError::BadToken));
    assert_eq!(bench.key_look_ups(), 2);
    bench.stop().await;
}

#[tokio::test]
async fn a15_a_known_key_is_asked_about_once_in_five_seconds_however_many_show_it() {
    let bench = Bench::start().await;
    let (_, key) = bench.key(&bench.owner().await).await;
    for look_ups in 1..=3 {
        for outcome in join_all((0..200).map(|_| bench.auth.authenticate(key.reveal()))).await {
            outcome.unwrap();
        }
        bench.auth.authenticate(key.reveal()).await.unwrap();
        assert_eq!(bench.key_look_ups(), look_ups);
        pass(Duration::from_millis(5_001)).await;
    }
    bench.stop().await;
}

#[tokio::test]
async fn a15_a_revoked_key_is_dead_here_at_once_and_elsewhere_in_five_seconds() {
    let bench = Bench::start().await;
    let owner = bench.owner().await;
    let twin = bench.start_twin().await;
    for by_admin in [false, true] {
        let (key, secret) = bench.key(&owner).await;
        bench.auth.authenticate(secret.reveal()).await.unwrap();
        twin.auth.authenticate(secret.reveal()).await.unwrap();
        let revoked = if by_admin {
            bench.auth.revoke_any_key(&Administrator::default(), key.id).await
        } else {
            bench.auth.revoke_key(&owner.principal, key.id, Origin::default()).await
        };
        revoked.unwrap();
        assert_eq!(bench.auth.authenticate(secret.reveal()).await, Err(AuthError::BadToken));
        pass(Duration::from_millis(5_001)).await;
        assert_eq!(twin.auth.authenticate(secret.reveal()).await, Err(AuthError::BadToken));
        let again = bench.auth.revoke_key(&owner.principal, key.id, Origin::default()).await;
        assert_eq!(again, Err(AuthError::NotFound("API key")));
    }
    twin.stop().await;
    bench.stop().await;
}

#[tokio::test]
async fn a17_nobody_revokes_or_sees_the_key_of_another() {
    let bench = Bench::start().await;
    let ada = bench.owner().await;
    let (key, secret_key) = bench.key(&ada).await;
    let (email, password) = ("eve@example.org", secret(PASSWORD));
    bench.auth.sign_up(email, password.clone(), None, Origin::default()).await.unwrap();
    let eve = bench.auth.log_in(email, password, Origin::default()).await.unwrap();
    let eve = bench.auth.authenticate(eve.access_token.reveal()).await.unwrap();
    let refused = bench.auth.revoke_key(&eve, key.id, Origin::default()).await;
    assert_eq!(refused, Err(AuthError::NotFound("API key")));
    assert!(bench.auth.keys(&eve, None, 10).await.unwrap().items.is_empty());
    bench.auth.authenticate(secret_key.reveal()).await.unwrap();
    bench.stop().await;
}

#[tokio::test]
async fn a15_a_key_is_refused_from_the_instant_it_expires_without_asking() {
    let bench = Bench::start().await;
    let owner = bench.owner().await;
    let expires_at = Some(bench.context.clock.now() + TimeDelta::seconds(100));
    let wanted = KeyRequest { expires_at, ..request() };
    let (_, key) = bench.auth.create_key(&owner.principal, wanted, Origin::default()).await.unwrap();
    bench.wait_by_the_wall(99);
    bench.auth.authenticate(key.reveal()).await.unwrap();
    bench.wait_by_the_wall(1);
    assert_eq!(bench.auth.authenticate(key.reveal()).await, Err(AuthError::BadToken));
    assert_eq!(bench.key_look_ups(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn a15_made_up_keys_take_no_place_of_those_who_ask_about_sessions() {
    let bench = Bench::start().await;
    let owner = bench.owner().await;
    bench.auth.0.sessions.clear();
    let texts: Vec<_> = (0..=u8::MAX).map(made_up).collect();
    let mut flood: Vec<_> = texts.iter().map(|text| Box::pin(bench.auth.authenticate(text))).collect();
    for asking in &mut flood {
        assert!(futures_util::poll!(asking.as_mut()).is_pending());
    }
    assert!(is_unavailable(&bench.auth.authenticate(key_beyond().as_str()).await), "nothing bounds them");
    bench.auth.authenticate(&owner.token).await.unwrap();
    for outcome in join_all(flood).await {
        assert_eq!(outcome, Err(AuthError::BadToken));
    }
    bench.stop().await;
}

fn key_beyond() -> String {
    let mut random = [0; 32];
    random[31] = 1;
    token_text::compose(TokenKind::ApiKey, &random).into_inner()
}

#[tokio::test]
async fn a15_no_line_says_a_key_and_making_and_revoking_one_are_a_line_each() {
    let bench = Bench::start().await;
    let owner = bench.owner().await;
    let origin = || Origin {
        address: Some([192, 0, 2, 7].into()),
        request_id: Some("request-1".to_owned()),
        device: None,
    };
    let diary = Diary::default();
    // As for sign-ins: with only one subscriber, a test without one could answer for all.
    let _second = tracing::Dispatch::new(Diary::default());
    let guard = tracing::subscriber::set_default(diary.clone());
    let (key, secret) = bench.auth.create_key(&owner.principal, request(), origin()).await.unwrap();
    bench.auth.authenticate(secret.reveal()).await.unwrap();
    bench.auth.authenticate(&made_up(1)).await.unwrap_err();
    bench.auth.revoke_key(&owner.principal, key.id, origin()).await.unwrap();
    bench.auth.authenticate(secret.reveal()).await.unwrap_err();
    drop(guard);

    let lines = diary.0.lock().clone();
    let told: Vec<_> = lines.iter().filter(|line| line.contains("request-1")).collect();
    assert_eq!(told.len(), 2, "{told:#?}");
    for (line, event) in told.iter().zip(["authn_token_created", "authn_token_revoked"]) {
        for part in [event, "success", "192.0.2.7", &key.id.to_string(), &owner.principal.user.to_string()] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
    let printed = format!("{} {key:?} {secret:?}", lines.join("\n"));
    for text in [&secret.reveal()[12..], &made_up(1)[..]] {
        assert!(!printed.contains(text), "a key was printed");
    }
    bench.stop().await;
}
