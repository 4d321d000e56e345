//! Whoever has the master secret and makes tokens by hand: a forger who still has to say the right things.

use aws_lc_rs::{
    hkdf::{HKDF_SHA256, Salt},
    hmac,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::signing_key::SigningAlgorithm::{self, EdDsa, Hs256};
use serde_json::{Value, json};

use crate::harness::{SECRET, Session};

/// A key of the service, or of somebody else.
#[derive(Clone, Copy)]
pub(super) struct SigningKey {
    algorithm: SigningAlgorithm,
    secret: [u8; 32],
}

impl SigningKey {
    /// The service's own derivation.
    pub(super) fn of(algorithm: SigningAlgorithm, generation: u32) -> Self {
        let root = Salt::new(HKDF_SHA256, b"deepersensor").extract(SECRET.as_bytes());
        let label = format!("access token signing {} {generation}", algorithm.as_str());
        let mut secret = [0; 32];
        root.expand(&[label.as_bytes()], HKDF_SHA256).unwrap().fill(&mut secret).unwrap();
        Self { algorithm, secret }
    }

    pub(super) const fn with_secret(self, secret: [u8; 32]) -> Self {
        Self { secret, ..self }
    }

    fn pair(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&self.secret).unwrap()
    }

    pub(super) fn public(&self) -> Vec<u8> {
        self.pair().public_key().as_ref().to_vec()
    }

    pub(super) fn jwk(&self) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(self.public())})
    }

    /// Signs in this key's own way, whatever the header says.
    pub(super) fn signed(&self, header: &Value, claims: &Value) -> String {
        match self.algorithm {
            Hs256 => hmac_signed(&self.secret, header, claims),
            EdDsa => {
                let message = message(header, claims);
                let signature = self.pair().sign(message.as_bytes());
                format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
            }
        }
    }
}

pub(super) fn hmac_signed(secret: &[u8], header: &Value, claims: &Value) -> String {
    let message = message(header, claims);
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac))
}

fn message(header: &Value, claims: &Value) -> String {
    let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}", encoded(header), encoded(claims))
}

/// A good token taken apart, to be put together again with one thing changed.
#[derive(Clone)]
pub(super) struct Forge {
    pub(super) key: SigningKey,
    pub(super) header: Value,
    pub(super) claims: Value,
}

impl Forge {
    pub(super) fn of(session: &Session, key: SigningKey) -> Self {
        let decoded = |part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        let mut parts = session.access.split('.').take(2).map(decoded);
        Self { key, header: parts.next().unwrap(), claims: parts.next().unwrap() }
    }

    pub(super) fn good(&self) -> String {
        self.key.signed(&self.header, &self.claims)
    }

    pub(super) fn with_claim(&self, name: &str, value: Value) -> String {
        let mut claims = self.claims.clone();
        claims[name] = value;
        self.key.signed(&self.header, &claims)
    }

    pub(super) fn without_claim(&self, name: &str) -> String {
        let mut claims = self.claims.clone();
        claims.as_object_mut().unwrap().shift_remove(name).unwrap();
        self.key.signed(&self.header, &claims)
    }

    pub(super) fn with_header(&self, name: &str, value: Value) -> String {
        let mut header = self.header.clone();
        header[name] = value;
        self.key.signed(&header, &self.claims)
    }

    pub(super) fn without_header(&self, name: &str) -> String {
        let mut header = self.header.clone();
        header.as_object_mut().unwrap().shift_remove(name).unwrap();
        self.key.signed(&header, &self.claims)
    }
}
