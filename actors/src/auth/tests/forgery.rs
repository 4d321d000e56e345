//! A7: what is not one of our access tokens, made here byte by byte.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    id::{SessionId, UserId},
    secret::Secret,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    auth::{
        access_token::{AccessTokens, Grant, MAX_TOKEN_BYTES},
        keys::Keys,
        refresh_token,
        tokens::{Checked, VerifiedTokens},
    },
    clock::fresh_id,
};

const NOW: i64 = 1_800_000_000;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW, 0).unwrap()
}

fn keys() -> Keys {
    Keys::derive(&Secret::new("k7Yq2nVwXz0pLr8sTf4hJd6gBc1mQe9u".to_owned())).unwrap()
}

fn tokens(keys: &Keys) -> AccessTokens {
    AccessTokens::new(keys, "deepersensor", "deepersensor", Duration::from_secs(900))
}

fn header(keys: &Keys) -> Value {
    json!({ "alg": "HS256", "typ": "at+jwt", "kid": keys.access_id })
}

fn claims() -> Value {
    json!({
        "iss": "deepersensor",
        "aud": "deepersensor",
        "sub": fresh_id::<UserId>(),
        "exp": NOW + 900,
        "iat": NOW,
        "jti": fresh_id::<uuid::Uuid>(),
        "client_id": "deepersensor",
        "sid": fresh_id::<SessionId>(),
        "epoch": 0,
    })
}

fn signed(header: &Value, claims: &Value, key: &[u8]) -> String {
    let body = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), body.as_bytes());
    format!("{body}.{}", URL_SAFE_NO_PAD.encode(mac))
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().unwrap().remove(name).unwrap();
    object
}

#[test]
fn a7_our_own_token_is_accepted_whether_minted_or_made_by_hand() {
    let (keys, user, session) = (keys(), fresh_id(), fresh_id());
    let tokens = tokens(&keys);
    let (minted, ttl) = tokens.mint(user, session, 3, now() + TimeDelta::days(30), now()).unwrap();
    let grant = Grant { user, session, epoch: 3, expires_at: NOW + 900 };
    assert_eq!((tokens.verify(minted.reveal(), now()), ttl), (Some(grant), 900));

    // Proves that the forgeries below fail for what is forged, not for how they are made.
    let by_hand = signed(&header(&keys), &claims(), keys.access.reveal());
    assert!(tokens.verify(&by_hand, now()).is_some());
}

#[test]
fn a7_a_token_is_refused_for_every_flaw_of_its_header() {
    let keys = keys();
    let tokens = tokens(&keys);
    let key = keys.access.reveal();
    let flaws = [
        ("alg none", with(header(&keys), "alg", json!("none"))),
        ("alg None", with(header(&keys), "alg", json!("None"))),
        ("another alg of the same family", with(header(&keys), "alg", json!("HS512"))),
        ("an alg of another family", with(header(&keys), "alg", json!("RS256"))),
        ("EdDSA", with(header(&keys), "alg", json!("EdDSA"))),
        ("no alg", without(header(&keys), "alg")),
        ("an alg that is no text", with(header(&keys), "alg", json!(256))),
        ("typ JWT", with(header(&keys), "typ", json!("JWT"))),
        ("no typ", without(header(&keys), "typ")),
        ("unknown kid", with(header(&keys), "kid", json!("AAAAAAAAAAA"))),
        ("a path as kid", with(header(&keys), "kid", json!("../../dev/null"))),
        ("no kid", without(header(&keys), "kid")),
        ("an extension we do not know", with(header(&keys), "crit", json!(["exp"]))),
    ];
    for (flaw, header) in flaws {
        assert_eq!(tokens.verify(&signed(&header, &claims(), key), now()), None, "{flaw}");
    }
    let unsigned = signed(&with(header(&keys), "alg", json!("none")), &claims(), key);
    let unsigned = &unsigned[..=unsigned.rfind('.').unwrap()];
    assert_eq!(tokens.verify(unsigned, now()), None, "alg none without a signature");
}

#[test]
fn a7_keys_that_a_token_brings_along_are_never_used() {
    let keys = keys();
    let theirs = [7; 32];
    let jwk = json!({ "kty": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(theirs) });
    for (name, value) in [
        ("jwk", jwk),
        ("jku", json!("https://keys.example/jwks.json")),
        ("x5u", json!("https://keys.example/cert.pem")),
    ] {
        let header = with(header(&keys), name, value);
        assert_eq!(tokens(&keys).verify(&signed(&header, &claims(), &theirs), now()), None, "{name}");
    }
}

#[test]
fn a7_a_token_signed_with_another_key_is_refused() {
    let keys = keys();
    let others = Keys::derive(&Secret::new("another secret of thirty-two bytes".to_owned())).unwrap();
    let public = keys.access_id.as_bytes();
    for key in [others.access.reveal().as_slice(), b"", public, &[0; 32]] {
        assert_eq!(tokens(&keys).verify(&signed(&header(&keys), &claims(), key), now()), None);
    }
}

#[test]
fn a7_every_claim_is_required_and_typed() {
    let keys = keys();
    let tokens = tokens(&keys);
    let verify = |claims: &Value| tokens.verify(&signed(&header(&keys), claims, keys.access.reveal()), now());
    for name in claims().as_object().unwrap().keys() {
        assert_eq!(verify(&without(claims(), name)), None, "without {name}");
        for wrong in [json!(null), json!([]), json!({}), json!(true), json!(-1.5), json!("")] {
            assert_eq!(verify(&with(claims(), name, wrong.clone())), None, "{name} is {wrong}");
        }
    }
    for (name, wrong) in [
        ("exp", json!("9999999999")),
        ("exp", json!(9_999_999_999.5)),
        ("iat", json!("1800000000")),
        ("epoch", json!("0")),
        ("epoch", json!(-1)),
        ("epoch", json!(4_294_967_296_u64)),
        ("sub", json!("admin")),
        ("sid", json!(7)),
        ("iss", json!("somebody")),
        ("iss", json!(["deepersensor"])),
        ("aud", json!("somebody")),
        ("aud", json!(["deepersensor", "somebody"])),
        ("client_id", json!("somebody")),
    ] {
        assert_eq!(verify(&with(claims(), name, wrong.clone())), None, "{name} is {wrong}");
    }
}

#[test]
fn a7_a_claim_given_twice_is_refused() {
    let keys = keys();
    let text = claims().to_string();
    let twice = text.replacen('{', "{\"exp\":9999999999,", 1);
    let body =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header(&keys).to_string()), URL_SAFE_NO_PAD.encode(twice));
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, keys.access.reveal()), body.as_bytes());
    let token = format!("{body}.{}", URL_SAFE_NO_PAD.encode(mac));
    assert_eq!(tokens(&keys).verify(&token, now()), None);
}

#[test]
fn a7_a_token_is_good_until_the_second_it_expires_and_not_long_before_it_is_made() {
    let keys = keys();
    let tokens = tokens(&keys);
    let token = signed(&header(&keys), &claims(), keys.access.reveal());
    for (seconds, is_good) in [(0, true), (899, true), (900, false), (901, false), (-30, true), (-31, false)]
    {
        let at = now() + TimeDelta::seconds(seconds);
        assert_eq!(tokens.verify(&token, at).is_some(), is_good, "{seconds} s after it was made");
    }
}

#[test]
fn a7_a_token_never_outlives_its_session() {
    let keys = keys();
    let tokens = tokens(&keys);
    let end = now() + TimeDelta::seconds(60);
    let (token, ttl) = tokens.mint(fresh_id(), fresh_id(), 0, end, now()).unwrap();
    assert_eq!(ttl, 60);
    assert!(tokens.verify(token.reveal(), end - TimeDelta::seconds(1)).is_some());
    assert_eq!(tokens.verify(token.reveal(), end), None);
}

#[test]
fn a7_a_refresh_token_is_no_access_token() {
    let keys = keys();
    let refresh = refresh_token::encode(&keys.refresh, fresh_id(), 0);
    assert_eq!(tokens(&keys).verify(refresh.reveal(), now()), None);
}

#[test]
fn a7_a_long_token_is_refused_unread() {
    let keys = keys();
    let of = |padding: usize| {
        let header = with(header(&keys), "pad", json!("x".repeat(padding)));
        signed(&header, &claims(), keys.access.reveal())
    };
    assert!(tokens(&keys).verify(&of(1_000), now()).is_some());
    let long = of(MAX_TOKEN_BYTES);
    assert_eq!(tokens(&keys).verify(&long, now()), None);
    assert!(VerifiedTokens::new().check(&tokens(&keys), &long, now()).is_none());
}

#[test]
fn a_remembered_token_dies_at_its_time_and_tokens_that_are_no_good_are_not_remembered() {
    let keys = keys();
    let (tokens, known) = (tokens(&keys), VerifiedTokens::new());
    let good = signed(&header(&keys), &claims(), keys.access.reveal());
    assert!(matches!(known.check(&tokens, &good, now()), Some(Checked::Verified(_))));
    assert!(matches!(known.check(&tokens, &good, now()), Some(Checked::Known(_))));
    assert!(known.check(&tokens, &good, now() + TimeDelta::seconds(900)).is_none());

    // The same text but for its last character, which must not be taken for the known one.
    let mut forged = good.clone();
    let last = if forged.pop() == Some('A') { 'E' } else { 'A' };
    forged.push(last);
    for _ in 0..2 {
        assert!(known.check(&tokens, &forged, now()).is_none());
    }
}

proptest! {
    #[test]
    fn a7_arbitrary_text_is_refused_without_a_panic(text in ".{0,200}", a in "[A-Za-z0-9_-]{0,80}") {
        let keys = keys();
        prop_assert_eq!(tokens(&keys).verify(&text, now()), None);
        prop_assert_eq!(tokens(&keys).verify(&format!("{a}.{a}.{a}"), now()), None);
    }
}
