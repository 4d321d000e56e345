//! A9: sets of keys as time goes by.

use std::{collections::HashSet, time::Duration};

use chrono::TimeDelta;
use domain::signing_key::{
    SigningAlgorithm::{EdDsa, Hs256},
    SigningKey,
};
use serde_json::Value;

use super::{
    bench::{Bench, pass},
    log::Diary,
    ring::{Ring, claims, generation, now, public},
};
use crate::{
    auth::{
        Administrator, AuthError, Origin,
        tokens::{Checked, VerifiedTokens},
    },
    system::StartError,
};

/// `kid` in a token's header.
fn kid(token: &str) -> String {
    jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
}

fn published(ring: &Ring) -> Vec<Value> {
    let jwks: Value = serde_json::from_str(&ring.sets.current().jwks()).unwrap();
    jwks["keys"].as_array().unwrap().clone()
}

#[test]
fn a09_every_generation_and_algorithm_has_a_key_and_a_name_of_its_own() {
    let keys = Ring::new(Hs256).keys;
    let mut seen = std::collections::HashSet::new();
    for algorithm in [Hs256, EdDsa] {
        for generation in 1..=3 {
            let key = keys.signing(algorithm, generation).unwrap();
            assert_eq!(key, keys.signing(algorithm, generation).unwrap(), "every instance has the same");
            assert!(seen.insert(format!("{:?}", key.reveal())));
            assert!(seen.insert(keys.signing_id(algorithm, generation).unwrap()));
        }
    }
}

#[test]
fn a09_a_set_that_was_read_long_before_changes_over_by_the_clock() {
    let ring = Ring::new(Hs256);
    ring.learn(&[generation(1, Hs256, -60), generation(2, EdDsa, 15)]);
    let (old, new) = (ring.mint_at(14), ring.mint_at(15));
    assert_eq!(kid(&old), ring.keys.signing_id(Hs256, 1).unwrap());
    assert_eq!(kid(&new), ring.keys.signing_id(EdDsa, 2).unwrap());
    assert!(ring.verify_at(&old, 16).is_some() && ring.verify_at(&new, 16).is_some());
    assert!(ring.verify_at(&new, 0).is_some(), "a clock that is behind must not refuse it");
}

#[test]
fn a09_a_retired_key_verifies_nothing_not_even_what_is_remembered() {
    let (ring, known) = (Ring::new(Hs256), VerifiedTokens::new());
    let check = |token: &str, seconds| known.check(&ring.tokens, token, now() + TimeDelta::seconds(seconds));
    // Longer-lived than any we would make.
    let mut claims = claims();
    claims["exp"] = (now().timestamp() + 1_000_000).into();
    let token = ring.signed(&ring.header(), &claims);
    assert!(matches!(check(&token, 0), Some(Checked::Verified(_))));

    let both = [generation(1, Hs256, -60), generation(2, Hs256, 0)];
    ring.learn(&both);
    let retired = 900 + 600 + 30;
    assert!(matches!(check(&token, retired - 1), Some(Checked::Known(_))));
    assert!(check(&token, retired).is_none(), "remembered");
    assert_eq!(ring.verify_at(&token, retired), None, "by a set from before");
    ring.learn_at(&both, retired);
    assert!(check(&token, retired).is_none(), "remembered");
    assert_eq!(ring.verify_at(&token, retired), None, "by a new set");
    assert!(ring.verify_at(&ring.mint_at(retired), retired).is_some());
}

#[test]
fn a09_an_older_list_never_replaces_a_newer_one() {
    let ring = Ring::new(Hs256);
    ring.learn(&[generation(1, Hs256, -60), generation(2, EdDsa, 0)]);
    ring.learn(&[generation(1, Hs256, -60)]);
    ring.learn(&[]);
    assert_eq!(kid(&ring.mint_at(0)), ring.keys.signing_id(EdDsa, 2).unwrap());
}

#[test]
fn a09_public_keys_are_published_before_they_sign_and_until_they_retire_and_secrets_never() {
    let ring = Ring::new(Hs256);
    assert_eq!(*ring.sets.current().jwks(), *r#"{"keys":[]}"#);

    let keys = [
        generation(1, Hs256, -60),
        generation(2, EdDsa, 615),
        generation(3, EdDsa, 2_000),
        generation(4, Hs256, 3_000),
    ];
    ring.learn(&keys);
    let x = |generation| {
        let seed = ring.keys.signing(EdDsa, generation).unwrap();
        base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, public(seed.reveal()))
    };
    for (key, generation) in published(&ring).iter().zip([2, 3]) {
        let expected = serde_json::json!({
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
            "kid": ring.keys.signing_id(EdDsa, generation).unwrap(), "x": x(generation),
        });
        assert_eq!(*key, expected);
    }
    assert_eq!(published(&ring).len(), 2);

    ring.learn_at(&keys, 2_000 + 1_530);
    assert_eq!(published(&ring).len(), 1, "its successor has signed for long enough");
    ring.learn_at(&keys, 3_000 + 1_530);
    assert_eq!(published(&ring).len(), 0);
}

#[test]
fn a09_a_generation_of_another_secret_signs_verifies_and_publishes_nothing_and_is_told_once() {
    let (ring, diary) = (Ring::new(Hs256), Diary::default());
    let foreign = |number, seconds| SigningKey {
        kid: format!("foreign {number}"),
        ..generation(number, EdDsa, seconds)
    };
    let keys = [foreign(1, -90), generation(2, Hs256, -60), foreign(3, -30)];
    let hears = diary.listen();
    ring.learn(&keys);
    ring.learn(&keys);
    drop(hears);
    assert_eq!(diary.lines("auth.keys.of_another_secret").len(), 1);
    assert_eq!(diary.lines("foreign 3").len(), 1);
    // Had the third one succeeded it, it would be retired by then.
    let token = ring.mint_at(10_000);
    assert_eq!(kid(&token), generation(2, Hs256, 0).kid);
    assert!(ring.verify_at(&token, 10_000).is_some());
    assert_eq!(published(&ring).len(), 0);
    assert!(!ring.sets.current().honours(3, now()));
}

/// Algorithm, state and seconds until it signs, of every key there is.
async fn listed(bench: &Bench) -> Vec<(&'static str, &'static str, i64)> {
    let now = bench.context.clock.now();
    let keys = bench.auth.signing_keys().await.unwrap();
    let shown = keys.iter().map(|listed| {
        let wait = listed.key.signs_from - now;
        (listed.key.algorithm.as_str(), listed.state.as_str(), wait.num_seconds())
    });
    shown.collect()
}

#[tokio::test]
async fn a09_the_first_start_makes_a_key_and_later_ones_only_if_the_algorithm_is_another() {
    let bench = Bench::start().await;
    assert_eq!(listed(&bench).await, [("HS256", "signing", 0)]);
    let twin = bench.start_twin().await;
    bench.auth.open_keys().await.unwrap();
    assert_eq!(listed(&twin).await, [("HS256", "signing", 0)]);

    let by = Administrator::default();
    let made = bench.auth.rotate_signing_key(&by, Some(EdDsa)).await.unwrap();
    assert!(bench.auth.jwks().contains(&made.key.kid));
    assert_eq!(listed(&twin).await, [("HS256", "signing", 0), ("EdDSA", "next", 615)]);
    let diary = Diary::default();
    let hears = diary.listen();
    twin.auth.open_keys().await.unwrap();
    drop(hears);
    assert_eq!(diary.lines("auth.keys.of_another_algorithm").len(), 1);
    let expected = [("HS256", "signing", 0), ("EdDSA", "next", 615), ("HS256", "next", 15)];
    assert_eq!(listed(&bench).await, expected, "the configuration says HS256");
    twin.stop().await;
    bench.stop().await;
}

#[tokio::test]
async fn a09_another_secret_is_refused_until_it_has_made_a_key_which_signs_at_once() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let old = bench.log_in().await.access_token;
    let stranger = bench.assemble_stranger("w3Nf8cKzR5tYq1bVj7LmXe0sHa9uPd2g").await;
    let [known] = &bench.auth.signing_keys().await.unwrap()[..] else { panic!("one key") };
    for _ in 0..2 {
        let refused = stranger.auth.open_keys().await.unwrap_err();
        assert!(matches!(&refused, StartError::Config(why) if why.contains(&known.key.kid)), "{refused}");
    }
    assert_eq!(listed(&stranger).await, [("HS256", "foreign", 0)], "a refused start changes nothing");

    let made = stranger.auth.rotate_signing_key(&Administrator::default(), None).await.unwrap();
    assert_eq!(listed(&stranger).await, [("HS256", "foreign", 0), ("HS256", "signing", 0)]);
    stranger.auth.open_keys().await.unwrap();
    let new = stranger.log_in().await.access_token;
    assert_eq!(kid(new.reveal()), made.key.kid);
    assert!(stranger.auth.authenticate(new.reveal()).await.is_ok());
    assert_eq!(stranger.auth.authenticate(old.reveal()).await, Err(AuthError::BadToken));

    assert!(matches!(bench.auth.open_keys().await, Err(StartError::Config(_))), "now it is the other one");
    assert_eq!(listed(&bench).await, [("HS256", "signing", 0), ("HS256", "foreign", 0)]);
    assert!(bench.auth.authenticate(old.reveal()).await.is_ok(), "what runs goes on");
    stranger.stop().await;
    bench.stop().await;
}

#[tokio::test]
async fn a19_of_two_rotations_at_once_only_the_one_that_made_the_key_is_told() {
    let diary = Diary::default();
    let bench = Bench::start().await;
    let twin = bench.start_twin().await;
    let origin = Origin { request_id: Some("request-1".to_owned()), ..Origin::default() };
    let by = Administrator { origin, ..Administrator::default() };
    let hears = diary.listen();
    let rotate = |bench: &Bench| {
        let (auth, by) = (bench.auth.clone(), by.clone());
        async move { auth.rotate_signing_key(&by, None).await.unwrap() }
    };
    let (here, there) = tokio::join!(rotate(&bench), rotate(&twin));
    drop(hears);
    let made = HashSet::from([here.key.kid, there.key.kid]);
    let lines = diary.lines("request-1");
    assert_eq!(lines.len(), made.len(), "{lines:#?}");
    assert!(made.iter().all(|id| lines.iter().any(|line| line.contains(&format!("{id:?}")))), "{lines:#?}");
    twin.stop().await;
    bench.stop().await;
}

#[tokio::test]
async fn a09_a_rotation_is_noticed_elsewhere_within_a_poll_and_signs_there_on_time() {
    let bench = Bench::start().await;
    let twin = bench.start_twin().await;
    let made = bench.auth.rotate_signing_key(&Administrator::default(), Some(EdDsa)).await.unwrap();
    assert!(!twin.auth.jwks().contains(&made.key.kid));
    pass(Duration::from_millis(5_001)).await;
    until_known(&twin, &made.key.kid).await;

    twin.sign_up().await;
    let kid_of = async |bench: &Bench| kid(bench.log_in().await.access_token.reveal());
    let first = kid_of(&twin).await;
    assert_ne!(first, made.key.kid);
    for bench in [&bench, &twin] {
        bench.wait_by_the_wall(614);
        assert_eq!(kid_of(bench).await, first);
        bench.wait_by_the_wall(1);
        assert_eq!(kid_of(bench).await, made.key.kid);
    }
    twin.stop().await;
    bench.stop().await;
}

/// The look runs beside the actor.
async fn until_known(bench: &Bench, key: &str) {
    for _ in 0..1_000 {
        if bench.auth.jwks().contains(key) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{key} never became known");
}

#[tokio::test]
async fn a09_without_a_store_and_with_its_actor_killed_the_last_set_goes_on_signing() {
    let bench = Bench::start().await;
    bench.sign_up().await;
    let tokens = bench.log_in().await;
    let others = ["auth_sup/session_cache", "auth_sup/auth_actor"].map(|path| bench.actor(path).get_id());
    let dead = bench.actor("auth_sup/key_set").get_id();
    bench.actor("auth_sup/key_set").kill();
    bench.stop_store().await;
    for _ in 0..4 {
        pass(Duration::from_millis(5_001)).await;
    }
    let at = bench.context.clock.now();
    let token = tokens.access_token.reveal();
    assert!(bench.auth.0.tokens.verify(token, at).is_some());
    let (user, session) = (crate::clock::fresh_id(), crate::clock::fresh_id());
    bench.auth.0.tokens.mint(user, session, 0, at + TimeDelta::days(1), at).unwrap();
    let still = ["auth_sup/session_cache", "auth_sup/auth_actor"].map(|path| bench.actor(path).get_id());
    assert_eq!(still, others, "its death restarts nothing else");
    assert_ne!(bench.actor("auth_sup/key_set").get_id(), dead);
    bench.stop().await;
}
