//! Access tokens: short-lived JWTs in the profile of RFC 9068, signed with HS256 or EdDSA (Ed25519).
//!
//! What a token says about itself is never believed before its signature: the key named by `kid` decides the algorithm,
//! and `jku`, `jwk`, `x5u` and `x5c` are never looked at. Every claim is required and typed. There is one answer to a
//! token that is not good (A7): no.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::error::Unspecified;
use chrono::{DateTime, Utc};
use domain::{
    id::{SessionId, UserId},
    secret::Secret,
};
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::key_set::KeySets;
use crate::clock::fresh_id;

/// Longer texts are refused before they are looked at.
pub(super) const MAX_TOKEN_BYTES: usize = 4_096;

/// How far another instance's clock may be ahead of ours. None is granted at the end of a token's life.
pub(super) const LEEWAY_SECONDS: i64 = 30;

const TYPE: &str = "at+jwt";

/// The only client there is: ourselves.
const CLIENT: &str = "deepersensor";

/// What a token grants, as long as its session lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) user: UserId,
    pub(super) session: SessionId,
    /// The session's refresh counter when the token was made: a session that is behind it is out of date.
    pub(super) epoch: u32,
    /// Unix time in seconds; the token is worthless from this second on.
    pub(super) expires_at: i64,
}

impl Grant {
    pub(super) const fn is_current(&self, now: DateTime<Utc>) -> bool {
        now.timestamp() < self.expires_at
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: UserId,
    exp: i64,
    iat: i64,
    jti: Uuid,
    client_id: String,
    sid: SessionId,
    epoch: u32,
}

/// A token whose signature and claims are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verified {
    pub(super) grant: Grant,
    /// Of the key that signed it; once that is retired, so is the token.
    pub(super) generation: u32,
}

/// Makes and checks the tokens of one issuer and audience.
pub(super) struct AccessTokens {
    issuer: String,
    audience: String,
    ttl: Duration,
    keys: Arc<KeySets>,
    hs256: Validation,
    eddsa: Validation,
}

impl AccessTokens {
    pub(super) fn new(keys: Arc<KeySets>, issuer: &str, audience: &str) -> Self {
        let rules = |algorithm| {
            let mut rules = Validation::new(algorithm);
            rules.set_issuer(&[issuer]);
            rules.set_audience(&[audience]);
            rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
            // Time is judged here, by the clock we are given; `Claims` demands the claim and its type.
            rules.validate_exp = false;
            rules
        };
        Self {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            ttl: keys.times.access_ttl,
            keys,
            hs256: rules(Algorithm::HS256),
            eddsa: rules(Algorithm::EdDSA),
        }
    }

    /// Makes a token that lives for the usual time, but not beyond `not_after`; returns its seconds to live beside it.
    ///
    /// # Errors
    ///
    /// There is no key yet, or the signature could not be made: our own fault.
    pub(super) fn mint(
        &self,
        user: UserId,
        session: SessionId,
        epoch: u32,
        not_after: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(Secret<String>, u64), Unspecified> {
        let iat = now.timestamp();
        let ttl = i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX);
        let exp = iat.saturating_add(ttl).min(not_after.timestamp());
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: user,
            exp,
            iat,
            jti: fresh_id(),
            client_id: CLIENT.to_owned(),
            sid: session,
            epoch,
        };
        let keys = self.keys.current();
        let key = keys.signing(now).ok_or(Unspecified)?;
        let (typ, kid) = (Some(TYPE.to_owned()), Some(key.id.clone()));
        let header = Header { typ, kid, ..Header::new(key.algorithm) };
        let token = jsonwebtoken::encode(&header, &claims, &key.signing).map_err(|_| Unspecified)?;
        Ok((Secret::new(token), u64::try_from(exp - iat).unwrap_or(0)))
    }

    /// What `token` grants; `None` for every reason it may not be good. Whether its session lives is not asked here.
    pub(super) fn verify(&self, token: &str, now: DateTime<Utc>) -> Option<Verified> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let header = jsonwebtoken::decode_header(token).ok()?;
        // RFC 7515 §4.1.11: an extension we do not know must not be ignored, and we know none.
        if header.typ.as_deref() != Some(TYPE) || header.crit.is_some() {
            return None;
        }
        let keys = self.keys.current();
        let key = keys.named(&header.kid?, now)?;
        let rules = match key.algorithm {
            Algorithm::EdDSA => &self.eddsa,
            _ => &self.hs256,
        };
        let claims = jsonwebtoken::decode::<Claims>(token, &key.verifying, rules).ok()?.claims;
        let grant =
            Grant { user: claims.sub, session: claims.sid, epoch: claims.epoch, expires_at: claims.exp };
        let is_from_the_future = claims.iat > now.timestamp().saturating_add(LEEWAY_SECONDS);
        let is_good = grant.is_current(now) && !is_from_the_future && claims.client_id == CLIENT;
        is_good.then_some(Verified { grant, generation: key.generation })
    }

    /// Whether a token that was good before still is, as far as time and its key go.
    pub(super) fn honours(&self, verified: &Verified, now: DateTime<Utc>) -> bool {
        verified.grant.is_current(now) && self.keys.current().honours(verified.generation, now)
    }
}
