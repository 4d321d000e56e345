//! One key for each purpose, derived from the master secret (HKDF-SHA-256), so that none can stand in for another.

use aws_lc_rs::{
    error::Unspecified,
    hkdf::{HKDF_SHA256, Prk, Salt},
    hmac,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::{email::EmailAddress, secret::Secret};

const KEY_BYTES: usize = 32;
const KEY_ID_BYTES: usize = 8;

/// Enough of a keyed hash to tell accounts apart in a log.
const ACCOUNT_TAG_BYTES: usize = 8;

pub(super) struct Keys {
    /// Signs access tokens.
    pub(super) access: Secret<[u8; KEY_BYTES]>,
    /// Names `access` in a token's header; says nothing about it.
    pub(super) access_id: String,
    /// Authenticates refresh tokens.
    pub(super) refresh: hmac::Key,
    /// Turns e-mail addresses into tags for the log.
    pub(super) log: hmac::Key,
}

impl Keys {
    /// Derives all keys; equal secrets give equal keys, on every instance.
    pub(super) fn derive(secret: &Secret<String>) -> Result<Self, Unspecified> {
        let root = Salt::new(HKDF_SHA256, b"deepersensor").extract(secret.reveal().as_bytes());
        let id = expand(&root, b"access token key id 1")?;
        Ok(Self {
            access: Secret::new(expand(&root, b"access token signing 1")?),
            access_id: URL_SAFE_NO_PAD.encode(&id[..KEY_ID_BYTES]),
            refresh: hmac::Key::new(hmac::HMAC_SHA256, &expand(&root, b"refresh token 1")?),
            log: hmac::Key::new(hmac::HMAC_SHA256, &expand(&root, b"log 1")?),
        })
    }

    /// Stands for an address in the log: the same for each attempt on one account, worthless without the key.
    pub(super) fn account_tag(&self, email: &EmailAddress) -> String {
        let tag = hmac::sign(&self.log, email.as_str().as_bytes());
        URL_SAFE_NO_PAD.encode(&tag.as_ref()[..ACCOUNT_TAG_BYTES])
    }
}

fn expand(root: &Prk, label: &[u8]) -> Result<[u8; KEY_BYTES], Unspecified> {
    let mut key = [0; KEY_BYTES];
    root.expand(&[label], HKDF_SHA256)?.fill(&mut key)?;
    Ok(key)
}
