//! A7: what is not one of our access tokens, made here byte by byte, for both algorithms.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use chrono::TimeDelta;
use domain::signing_key::SigningAlgorithm::{EdDsa, Hs256};
use proptest::prelude::*;
use serde_json::json;

use super::ring::{
    ALGORITHMS, NOW, Ring, claims, generation, now, public, signed, signed_text, with, without,
};
use crate::{
    auth::{
        access_token::{Grant, MAX_TOKEN_BYTES},
        refresh_token,
        tokens::{Checked, VerifiedTokens},
    },
    clock::fresh_id,
};

#[test]
fn a7_our_own_token_is_accepted_whether_minted_or_made_by_hand() {
    for ring in ALGORITHMS.map(Ring::new) {
        let (user, session) = (fresh_id(), fresh_id());
        let (minted, ttl) = ring.tokens.mint(user, session, 3, now() + TimeDelta::days(30), now()).unwrap();
        let grant = Grant { user, session, epoch: 3, expires_at: NOW + 900 };
        assert_eq!((ring.verify(minted.reveal()), ttl), (Some(grant), 900));

        // Proves that the forgeries below fail for what is forged, not for how they are made.
        assert!(ring.verify(&ring.signed(&ring.header(), &claims())).is_some());
    }
}

#[test]
fn a7_a_token_is_refused_for_every_flaw_of_its_header() {
    for ring in ALGORITHMS.map(Ring::new) {
        let header = || ring.header();
        let algorithms = ["none", "None", "HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA", "Ed25519"];
        for alg in algorithms.into_iter().filter(|alg| header()["alg"] != *alg) {
            let token = ring.signed(&with(header(), "alg", json!(alg)), &claims());
            assert_eq!(ring.verify(&token), None, "{alg}");
            let unsigned = &token[..=token.rfind('.').unwrap()];
            assert_eq!(ring.verify(unsigned), None, "{alg} without a signature");
        }
        for (flaw, header) in [
            ("no alg", without(header(), "alg")),
            ("an alg that is no text", with(header(), "alg", json!(256))),
            ("typ JWT", with(header(), "typ", json!("JWT"))),
            ("no typ", without(header(), "typ")),
            ("unknown kid", with(header(), "kid", json!("AAAAAAAAAAA"))),
            ("empty kid", with(header(), "kid", json!(""))),
            ("a path as kid", with(header(), "kid", json!("../../dev/null"))),
            ("no kid", without(header(), "kid")),
            ("an extension we do not know", with(header(), "crit", json!(["exp"]))),
        ] {
            assert_eq!(ring.verify(&ring.signed(&header, &claims())), None, "{flaw}");
        }
    }
}

#[test]
fn a7_keys_that_a_token_brings_along_are_never_used() {
    let theirs = [7; 32];
    let x = URL_SAFE_NO_PAD.encode(public(&theirs));
    for ring in ALGORITHMS.map(Ring::new) {
        for (name, value) in [
            ("jwk", json!({ "kty": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(theirs) })),
            ("jwk", json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": x })),
            ("jku", json!("https://keys.example/jwks.json")),
            ("x5u", json!("https://keys.example/cert.pem")),
            ("x5c", json!(["MIIB"])),
        ] {
            for algorithm in ALGORITHMS {
                let header = with(ring.header(), name, value.clone());
                let header = with(header, "alg", json!(algorithm.as_str()));
                let token = signed(algorithm, &theirs, &header, &claims());
                assert_eq!(ring.verify(&token), None, "{name} with {}", algorithm.as_str());
            }
        }
    }
}

#[test]
fn a7_what_is_public_of_a_key_signs_nothing() {
    let ring = Ring::new(EdDsa);
    let pair = Ed25519KeyPair::from_seed_unchecked(&ring.secret()).unwrap();
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let raw = public(&ring.secret());
    let pem =
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der.as_ref()));
    let x = URL_SAFE_NO_PAD.encode(&raw);
    let (jwks, der) = (ring.sets.current().jwks(), der.as_ref().to_vec());
    assert!(jwks.contains(&x), "it is public");
    for secret in [raw, der, pem.trim_end().into(), pem.into(), x.into(), jwks.as_bytes().to_vec()] {
        let header = with(ring.header(), "alg", json!("HS256"));
        assert_eq!(ring.verify(&signed(Hs256, &secret, &header, &claims())), None);
        assert_eq!(ring.verify(&signed(Hs256, &secret, &ring.header(), &claims())), None);
    }
}

#[test]
fn a7_a_key_of_one_algorithm_makes_no_token_of_the_other() {
    for (algorithm, other) in [(Hs256, EdDsa), (EdDsa, Hs256)] {
        let ring = Ring::new(algorithm);
        ring.learn(&[generation(1, algorithm, -60), generation(2, other, -30)]);
        let key = ring.secret();
        let others = ring.keys.signing_id(other, 2).unwrap();
        let others_key = *ring.keys.signing(other, 2).unwrap().reveal();
        let header = |alg: &str, kid: &str| json!({ "alg": alg, "typ": "at+jwt", "kid": kid });
        let good = header(other.as_str(), &others);
        assert!(ring.verify(&signed(other, &others_key, &good, &claims())).is_some());

        let own = ring.header()["kid"].as_str().unwrap().to_owned();
        for (algorithm, key, kid) in
            [(algorithm, key, &others), (other, key, &own), (other, others_key, &own), (other, key, &others)]
        {
            for alg in ["HS256", "EdDSA"] {
                let token = signed(algorithm, &key, &header(alg, kid), &claims());
                assert_eq!(ring.verify(&token), None, "{alg} of {kid} by {}", algorithm.as_str());
            }
        }
    }
}

#[test]
fn a7_a_token_of_another_key_or_with_any_part_changed_is_refused() {
    for ring in ALGORITHMS.map(Ring::new) {
        let algorithm = ALGORITHMS.into_iter().find(|a| ring.header()["alg"] == a.as_str()).unwrap();
        assert_eq!(ring.verify(&signed(algorithm, &[7; 32], &ring.header(), &claims())), None);
        let token = ring.signed(&ring.header(), &claims());
        let parts: Vec<_> = token.split('.').collect();
        for at in 0..token.len() {
            let mut changed = token.clone();
            let other = if &token[at..=at] == "A" { "B" } else { "A" };
            changed.replace_range(at..=at, other);
            assert_eq!(ring.verify(&changed), None, "at {at}");
        }
        let (header, body, mac) = (parts[0], parts[1], parts[2]);
        for text in [
            format!("{header}.{body}"),
            format!("{header}.{body}."),
            format!("{header}.{body}.{mac}."),
            format!("{header}.{body}.{mac}="),
            format!("{header}.{body}.{mac} "),
            format!("{header}..{mac}"),
            format!(".{body}.{mac}"),
            String::new(),
            "..".to_owned(),
        ] {
            assert_eq!(ring.verify(&text), None, "{text}");
        }
    }
}

#[test]
fn a7_every_claim_is_required_and_typed() {
    for ring in ALGORITHMS.map(Ring::new) {
        let verify = |claims| ring.verify(&ring.signed(&ring.header(), &claims));
        for name in claims().as_object().unwrap().keys() {
            assert_eq!(verify(without(claims(), name)), None, "without {name}");
            for wrong in [json!(null), json!([]), json!({}), json!(true), json!(-1.5), json!("")] {
                assert_eq!(verify(with(claims(), name, wrong.clone())), None, "{name} is {wrong}");
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
            assert_eq!(verify(with(claims(), name, wrong.clone())), None, "{name} is {wrong}");
        }
    }
}

#[test]
fn a7_a_claim_given_twice_is_refused() {
    for algorithm in ALGORITHMS {
        let ring = Ring::new(algorithm);
        let twice = claims().to_string().replacen('{', "{\"exp\":9999999999,", 1);
        let token = signed_text(algorithm, &ring.secret(), &ring.header().to_string(), &twice);
        assert_eq!(ring.verify(&token), None);
    }
}

#[test]
fn a7_a_token_is_good_until_the_second_it_expires_and_not_long_before_it_is_made() {
    for ring in ALGORITHMS.map(Ring::new) {
        let token = ring.signed(&ring.header(), &claims());
        for (seconds, is_good) in
            [(0, true), (899, true), (900, false), (901, false), (-30, true), (-31, false)]
        {
            let verdict = ring.verify_at(&token, seconds);
            assert_eq!(verdict.is_some(), is_good, "{seconds} s after it was made");
        }
    }
}

#[test]
fn a7_a_token_never_outlives_its_session() {
    let ring = Ring::new(Hs256);
    let end = now() + TimeDelta::seconds(60);
    let (token, ttl) = ring.tokens.mint(fresh_id(), fresh_id(), 0, end, now()).unwrap();
    assert_eq!(ttl, 60);
    assert!(ring.verify_at(token.reveal(), 59).is_some());
    assert_eq!(ring.verify_at(token.reveal(), 60), None);
}

#[test]
fn a7_other_credentials_of_ours_are_no_access_tokens() {
    for ring in ALGORITHMS.map(Ring::new) {
        let refresh = refresh_token::encode(&ring.keys.refresh, fresh_id(), 0);
        assert_eq!(ring.verify(refresh.reveal()), None);
        assert_eq!(ring.verify("dsk_0123456789abcdefghijklmnopqrst_000000"), None);
    }
}

#[test]
fn a7_a_long_token_is_refused_unread() {
    let ring = Ring::new(Hs256);
    let of = |padding: usize| ring.signed(&with(ring.header(), "pad", json!("x".repeat(padding))), &claims());
    assert!(ring.verify(&of(1_000)).is_some());
    let long = of(MAX_TOKEN_BYTES);
    assert_eq!(ring.verify(&long), None);
    assert!(VerifiedTokens::new().check(&ring.tokens, &long, now()).is_none());
}

#[test]
fn a_remembered_token_dies_at_its_time_and_tokens_that_are_no_good_are_not_remembered() {
    let (ring, known) = (Ring::new(Hs256), VerifiedTokens::new());
    let good = ring.signed(&ring.header(), &claims());
    let check = |token: &str, seconds| known.check(&ring.tokens, token, now() + TimeDelta::seconds(seconds));
    assert!(matches!(check(&good, 0), Some(Checked::Verified(_))));
    assert!(matches!(check(&good, 0), Some(Checked::Known(_))));
    assert!(check(&good, 900).is_none());

    // The same text but for its last character, which must not be taken for the known one.
    let mut forged = good.clone();
    let last = if forged.pop() == Some('A') { 'E' } else { 'A' };
    forged.push(last);
    for _ in 0..2 {
        assert!(check(&forged, 0).is_none());
    }
}

proptest! {
    #[test]
    fn a7_arbitrary_text_is_refused_without_a_panic(text in ".{0,200}", a in "[A-Za-z0-9_-]{0,80}") {
        let ring = Ring::new(EdDsa);
        prop_assert_eq!(ring.verify(&text), None);
        prop_assert_eq!(ring.verify(&format!("{a}.{a}.{a}")), None);
    }
}
