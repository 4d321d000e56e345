//! A key ring of one algorithm, and tokens made with its keys by hand.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    id::{SessionId, UserId},
    secret::Secret,
    signing_key::{
        SigningAlgorithm::{self, EdDsa, Hs256},
        SigningKey,
    },
};
use serde_json::{Value, json};

use crate::{
    auth::{
        access_token::{AccessTokens, Grant},
        key_set::KeySets,
        key_times::KeyTimes,
        keys::Keys,
    },
    clock::fresh_id,
};

pub(super) const NOW: i64 = 1_800_000_000;

pub(super) const ALGORITHMS: [SigningAlgorithm; 2] = [Hs256, EdDsa];

pub(super) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW, 0).unwrap()
}

/// What every ring is made of.
fn keys() -> Keys {
    Keys::derive(&Secret::new("k7Yq2nVwXz0pLr8sTf4hJd6gBc1mQe9u".to_owned())).unwrap()
}

/// A generation that signs so many seconds from now.
pub(super) fn generation(generation: u32, algorithm: SigningAlgorithm, seconds: i64) -> SigningKey {
    let kid = keys().signing_id(algorithm, generation).unwrap();
    let signs_from = now() + TimeDelta::seconds(seconds);
    SigningKey { generation, algorithm, kid, created_at: now(), signs_from }
}

pub(super) struct Ring {
    pub(super) keys: Arc<Keys>,
    pub(super) sets: Arc<KeySets>,
    pub(super) tokens: AccessTokens,
    algorithm: SigningAlgorithm,
}

impl Ring {
    /// The first generation, which has signed for a minute.
    pub(super) fn new(algorithm: SigningAlgorithm) -> Self {
        let keys = Arc::new(keys());
        let seconds = Duration::from_secs;
        let times = KeyTimes { access_ttl: seconds(900), poll: seconds(5), jwks_max_age: seconds(600) };
        let sets = Arc::new(KeySets::new(Arc::clone(&keys), times));
        let tokens = AccessTokens::new(Arc::clone(&sets), "deepersensor", "deepersensor");
        let ring = Self { keys, sets, tokens, algorithm };
        ring.learn(&[generation(1, algorithm, -60)]);
        ring
    }

    pub(super) fn learn(&self, generations: &[SigningKey]) {
        self.learn_at(generations, 0);
    }

    pub(super) fn learn_at(&self, generations: &[SigningKey], seconds: i64) {
        self.sets.learn(generations, now() + TimeDelta::seconds(seconds)).unwrap();
    }

    /// The secret key of the first generation.
    pub(super) fn secret(&self) -> [u8; 32] {
        *self.keys.signing(self.algorithm, 1).unwrap().reveal()
    }

    /// The header of the first generation's tokens.
    pub(super) fn header(&self) -> Value {
        let kid = self.keys.signing_id(self.algorithm, 1).unwrap();
        json!({ "alg": self.algorithm.as_str(), "typ": "at+jwt", "kid": kid })
    }

    /// Signs with the first generation's key, in its own way, whatever the header says.
    pub(super) fn signed(&self, header: &Value, claims: &Value) -> String {
        signed(self.algorithm, &self.secret(), header, claims)
    }

    pub(super) fn verify(&self, token: &str) -> Option<Grant> {
        self.verify_at(token, 0)
    }

    pub(super) fn verify_at(&self, token: &str, seconds: i64) -> Option<Grant> {
        self.tokens.verify(token, now() + TimeDelta::seconds(seconds)).map(|verified| verified.grant)
    }

    /// A token minted so many seconds from now.
    pub(super) fn mint_at(&self, seconds: i64) -> String {
        let at = now() + TimeDelta::seconds(seconds);
        let token = self.tokens.mint(fresh_id(), fresh_id(), 0, at + TimeDelta::days(30), at);
        token.unwrap().0.into_inner()
    }
}

pub(super) fn claims() -> Value {
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

pub(super) fn signed(algorithm: SigningAlgorithm, key: &[u8], header: &Value, claims: &Value) -> String {
    signed_text(algorithm, key, &header.to_string(), &claims.to_string())
}

pub(super) fn signed_text(algorithm: SigningAlgorithm, key: &[u8], header: &str, claims: &str) -> String {
    let body = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = match algorithm {
        Hs256 => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), body.as_bytes()).as_ref().to_vec(),
        EdDsa => pair(key).sign(body.as_bytes()).as_ref().to_vec(),
    };
    format!("{body}.{}", URL_SAFE_NO_PAD.encode(signature))
}

pub(super) fn public(seed: &[u8]) -> Vec<u8> {
    pair(seed).public_key().as_ref().to_vec()
}

fn pair(seed: &[u8]) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(seed).unwrap()
}

pub(super) fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

pub(super) fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().unwrap().remove(name).unwrap();
    object
}
