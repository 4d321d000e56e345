//! One key for each purpose, derived from the master secret (HKDF-SHA-256), so that none can stand in for another.

use aws_lc_rs::{
    error::Unspecified,
    hkdf::{HKDF_SHA256, Prk, Salt},
    hmac,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::{
    email::EmailAddress,
    secret::Secret,
    signing_key::{SigningAlgorithm, SigningKey},
};

use crate::rate_limit::AccountTag;

pub(super) const KEY_BYTES: usize = 32;
const KEY_ID_BYTES: usize = 8;

/// Enough of a keyed hash to tell accounts apart in a log.
const ACCOUNT_TAG_BYTES: usize = 8;

pub(super) struct Keys {
    /// What every key is derived from.
    root: Prk,
    /// Authenticates refresh tokens.
    pub(super) refresh: hmac::Key,
    /// Turns e-mail addresses into tags for the log.
    pub(super) log: hmac::Key,
    /// Turns them into names for the throttles of guessing.
    guess: hmac::Key,
    /// What the first administrator's code is made of.
    pub(super) first_admin: Secret<[u8; KEY_BYTES]>,
}

impl Keys {
    /// Derives all keys; equal secrets give equal keys, on every instance.
    pub(super) fn derive(secret: &Secret<String>) -> Result<Self, Unspecified> {
        let root = Salt::new(HKDF_SHA256, b"deepersensor").extract(secret.reveal().as_bytes());
        let mac = |label: &str| expand(&root, label).map(|key| hmac::Key::new(hmac::HMAC_SHA256, &key));
        Ok(Self {
            refresh: mac("refresh token 1")?,
            log: mac("log 1")?,
            guess: mac("guess 1")?,
            first_admin: Secret::new(expand(&root, "first administrator 1")?),
            root,
        })
    }

    /// What signs the access tokens of one generation: an HMAC key, or the seed of an Ed25519 key pair.
    pub(super) fn signing(
        &self,
        algorithm: SigningAlgorithm,
        generation: u32,
    ) -> Result<Secret<[u8; KEY_BYTES]>, Unspecified> {
        let label = format!("access token signing {} {generation}", algorithm.as_str());
        expand(&self.root, &label).map(Secret::new)
    }

    /// Names that key in a token's header (`kid`); says nothing about it.
    pub(super) fn signing_id(
        &self,
        algorithm: SigningAlgorithm,
        generation: u32,
    ) -> Result<String, Unspecified> {
        let label = format!("access token key id {} {generation}", algorithm.as_str());
        Ok(URL_SAFE_NO_PAD.encode(&expand(&self.root, &label)?[..KEY_ID_BYTES]))
    }

    /// Those of `generations` that this master secret made, in their order; it can derive the keys of no others.
    pub(super) fn ours(&self, generations: &[SigningKey]) -> Result<Vec<SigningKey>, Unspecified> {
        let mut ours = Vec::new();
        for key in generations {
            if self.signing_id(key.algorithm, key.generation)? == key.kid {
                ours.push(key.clone());
            }
        }
        Ok(ours)
    }

    /// Stands for an address in the log: the same for each attempt on one account, worthless without the key.
    pub(super) fn account_tag(&self, email: &EmailAddress) -> String {
        let tag = hmac::sign(&self.log, email.as_str().as_bytes());
        URL_SAFE_NO_PAD.encode(&tag.as_ref()[..ACCOUNT_TAG_BYTES])
    }

    /// Stands for an account, whether there is one or not, where tries at its password are counted.
    pub(super) fn guess_tag(&self, email: &EmailAddress) -> AccountTag {
        let whole = hmac::sign(&self.guess, email.as_str().as_bytes());
        let mut tag = AccountTag::default();
        tag.copy_from_slice(&whole.as_ref()[..size_of::<AccountTag>()]);
        tag
    }
}

fn expand(root: &Prk, label: &str) -> Result<[u8; KEY_BYTES], Unspecified> {
    let mut key = [0; KEY_BYTES];
    root.expand(&[label.as_bytes()], HKDF_SHA256)?.fill(&mut key)?;
    Ok(key)
}
