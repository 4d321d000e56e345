//! The keys that sign and verify access tokens (A9), as every caller's task sees them.
//!
//! ```text
//! generations in the store ── polled by KeySetActor ──▶ learn: derive each key ──▶ swapped ──▶ mint, verify, jwks
//! ```
//!
//! Which key signs is decided by the clock at that moment, so that all instances change over together, whenever they
//! last looked.
//!
//! # When it breaks
//!
//! Generations that another master secret made are left out: we can derive none of their keys. An instance that meets one
//! as the newest warns, and goes on with its own.
//!
//! A set that cannot be read anew stays. Keys are only ever added, with a lead, so it goes on being right until the key
//! of the next rotation signs: from then on an instance that has not seen the store since before refuses its tokens.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use arc_swap::{ArcSwap, Guard};
use aws_lc_rs::{
    error::Unspecified,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use domain::signing_key::{SigningAlgorithm, SigningKey};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde_json::{Value, json};

use super::{
    key_times::{KeyTimes, signing},
    keys::Keys,
};

/// One generation with its key, ready for use.
pub(super) struct TokenKey {
    /// `kid` in a token's header.
    pub(super) id: String,
    pub(super) generation: u32,
    /// The one way in which this key may be used.
    pub(super) algorithm: Algorithm,
    pub(super) signing: EncodingKey,
    pub(super) verifying: DecodingKey,
    signs_from: DateTime<Utc>,
    retired_from: Option<DateTime<Utc>>,
    /// The public half (RFC 8037), where there is one.
    jwk: Option<Value>,
}

impl TokenKey {
    fn derive(
        keys: &Keys,
        key: &SigningKey,
        retired_from: Option<DateTime<Utc>>,
    ) -> Result<Self, Unspecified> {
        let SigningKey { generation, algorithm, signs_from, .. } = *key;
        let id = key.kid.clone();
        let secret = keys.signing(algorithm, generation)?;
        let (algorithm, signing, verifying, jwk) = match algorithm {
            SigningAlgorithm::Hs256 => (
                Algorithm::HS256,
                EncodingKey::from_secret(secret.reveal()),
                DecodingKey::from_secret(secret.reveal()),
                None,
            ),
            SigningAlgorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_seed_unchecked(secret.reveal()).map_err(|_| Unspecified)?;
                let public = pair.public_key().as_ref();
                let x = URL_SAFE_NO_PAD.encode(public);
                (
                    Algorithm::EdDSA,
                    EncodingKey::from_ed_der(pair.to_pkcs8()?.as_ref()),
                    DecodingKey::from_ed_der(public),
                    Some(json!({
                        "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": id, "x": x,
                    })),
                )
            }
        };
        Ok(Self { id, generation, algorithm, signing, verifying, signs_from, retired_from, jwk })
    }

    fn is_retired(&self, now: DateTime<Utc>) -> bool {
        self.retired_from.is_some_and(|retired| retired <= now)
    }
}

/// All keys that were not retired when the set was made; a handful at most.
pub(super) struct KeySet {
    /// Oldest first.
    keys: Vec<TokenKey>,
    /// RFC 7517; what is secret in any way is not in it.
    jwks: Arc<str>,
}

impl KeySet {
    fn new(keys: Vec<TokenKey>) -> Self {
        let public: Vec<_> = keys.iter().filter_map(|key| key.jwk.as_ref()).collect();
        Self { jwks: json!({ "keys": public }).to_string().into(), keys }
    }

    /// The key that signs now; `None` only before the list was ever read.
    pub(super) fn signing(&self, now: DateTime<Utc>) -> Option<&TokenKey> {
        self.keys.get(signing(&self.keys, now, |key| key.signs_from)?)
    }

    /// The key of this name, if tokens of it may still be about.
    pub(super) fn named(&self, id: &str, now: DateTime<Utc>) -> Option<&TokenKey> {
        self.keys.iter().find(|key| key.id == id && !key.is_retired(now))
    }

    /// Whether tokens of this generation may still be about.
    pub(super) fn honours(&self, generation: u32, now: DateTime<Utc>) -> bool {
        self.keys.iter().any(|key| key.generation == generation && !key.is_retired(now))
    }

    pub(super) fn jwks(&self) -> Arc<str> {
        Arc::clone(&self.jwks)
    }

    /// 0 before the list was ever read.
    fn newest(&self) -> u32 {
        self.keys.last().map_or(0, |key| key.generation)
    }
}

/// The set as it is now; shared by every caller and the actor that renews it.
pub(super) struct KeySets {
    keys: Arc<Keys>,
    pub(super) times: KeyTimes,
    current: ArcSwap<KeySet>,
    /// The newest generation of another secret that operators were warned of; 0 for none.
    foreign: AtomicU32,
}

impl KeySets {
    /// Knows no generation yet.
    pub(super) fn new(keys: Arc<Keys>, times: KeyTimes) -> Self {
        let current = ArcSwap::from_pointee(KeySet::new(Vec::new()));
        Self { keys, times, current, foreign: AtomicU32::new(0) }
    }

    pub(super) fn current(&self) -> Guard<Arc<KeySet>> {
        self.current.load()
    }

    /// Makes those of `generations` (all of them, oldest first) that are of our secret the set, unless a newer one is
    /// known.
    ///
    /// # Errors
    ///
    /// A key could not be derived: our own fault; the last set stays.
    pub(super) fn learn(&self, generations: &[SigningKey], now: DateTime<Utc>) -> Result<(), Unspecified> {
        let ours = self.keys.ours(generations)?;
        if let Some(newest) = generations.last().filter(|newest| ours.last() != Some(newest)) {
            self.warn_of(newest);
        }
        let mut keys = Vec::new();
        for (index, key) in ours.iter().enumerate() {
            let retired_from = self.times.retired_from(&ours, index);
            if retired_from.is_none_or(|retired| now < retired) {
                keys.push(TokenKey::derive(&self.keys, key, retired_from)?);
            }
        }
        let set = Arc::new(KeySet::new(keys));
        let before = self.current.rcu(|known| match known.newest() > set.newest() {
            true => Arc::clone(known),
            false => Arc::clone(&set),
        });
        for key in set.keys.iter().filter(|key| key.generation > before.newest()) {
            tracing::info!(kid = key.id, generation = key.generation, signs_from = %key.signs_from, "auth.keys.learnt");
        }
        Ok(())
    }

    /// Once for each generation, however often it is read.
    fn warn_of(&self, foreign: &SigningKey) {
        let (kid, generation) = (foreign.kid.as_str(), foreign.generation);
        if self.foreign.fetch_max(generation, Ordering::Relaxed) < generation {
            tracing::warn!(kid, generation, "auth.keys.of_another_secret");
        }
    }
}
