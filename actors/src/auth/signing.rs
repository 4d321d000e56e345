//! Which keys sign access tokens: made at the first start, rotated by administrators, shown to verifiers.

use std::{sync::Arc, time::Duration};

use domain::{
    audit::{AuditEntry, AuditEvent},
    signing_key::{SigningAlgorithm, SigningKey},
};

use super::{Administrator, AuthError, AuthHandle, KeyState, Room, audit::Line, error::store_failed};
use crate::{db::NextKey, system::StartError};

/// A generation, as it is shown to administrators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedKey {
    pub key: SigningKey,
    pub state: KeyState,
}

impl AuthHandle {
    /// Reads the keys, and makes one if there is none of the configured algorithm to sign next. Before this nobody can
    /// sign in.
    ///
    /// # Errors
    ///
    /// [`StartError::Config`] when the newest key is of another master secret, [`StartError::Store`] when the store is
    /// away: do not serve.
    pub(crate) async fn open_keys(&self) -> Result<(), StartError> {
        let away = |error: AuthError| StartError::Store(error.to_string());
        let room = &self.0;
        let known = room.generations().await.map_err(away)?;
        let ours = room.ours(&known).map_err(away)?;
        if let Some(newest) = known.last() {
            if ours.last() != Some(newest) {
                return Err(other_secret(newest));
            }
            if newest.algorithm == room.algorithm {
                return room.learn_keys(&known).map_err(away);
            }
            let (newest, configured) = (newest.algorithm.as_str(), room.algorithm.as_str());
            tracing::warn!(newest, configured, "auth.keys.of_another_algorithm");
        }
        let added = room.add_key(known, room.algorithm, &Administrator::default()).await.map_err(away)?;
        // An instance of another secret may have started at the same time.
        match added.state {
            KeyState::Foreign => Err(other_secret(&added.key)),
            _ => Ok(()),
        }
    }

    /// Makes the next signing key; it signs once every verifier can know it. `None` keeps the algorithm. When another
    /// instance makes one at the same time, theirs is returned.
    ///
    /// # Errors
    ///
    /// After [`AuthError::Unavailable`] the key may have been made: look at [`AuthHandle::signing_keys`] before trying
    /// again.
    pub async fn rotate_signing_key(
        &self,
        by: &Administrator,
        algorithm: Option<SigningAlgorithm>,
    ) -> Result<ListedKey, AuthError> {
        let room = &self.0;
        let known = room.generations().await?;
        let newest = known.last().map(|newest| newest.algorithm);
        let algorithm = algorithm.or(newest).unwrap_or(room.algorithm);
        room.add_key(known, algorithm, by).await
    }

    /// Every generation, oldest first.
    ///
    /// # Errors
    ///
    /// [`AuthError::Unavailable`] when the store is away.
    pub async fn signing_keys(&self) -> Result<Vec<ListedKey>, AuthError> {
        let keys = self.0.generations().await?;
        let ours = self.0.ours(&keys)?;
        Ok(keys.into_iter().map(|key| self.0.listed(&ours, key)).collect())
    }

    /// The public halves of all keys whose tokens may still be about (RFC 7517), as JSON.
    pub fn jwks(&self) -> Arc<str> {
        self.0.key_sets.current().jwks()
    }

    /// How long [`AuthHandle::jwks`] may be kept without asking again; no key signs before everybody has asked.
    pub fn jwks_max_age(&self) -> Duration {
        self.0.key_sets.times.jwks_max_age
    }
}

impl Room {
    async fn generations(&self) -> Result<Vec<SigningKey>, AuthError> {
        self.db.signing_keys().await.map_err(store_failed)
    }

    fn ours(&self, generations: &[SigningKey]) -> Result<Vec<SigningKey>, AuthError> {
        self.keys.ours(generations).map_err(|_| not_derived())
    }

    fn learn_keys(&self, generations: &[SigningKey]) -> Result<(), AuthError> {
        self.key_sets.learn(generations, self.clock.now()).map_err(|_| not_derived())
    }

    /// Adds the generation after all `known` ones, or finds the one that somebody else added meanwhile.
    async fn add_key(
        self: &Arc<Self>,
        mut known: Vec<SigningKey>,
        algorithm: SigningAlgorithm,
        by: &Administrator,
    ) -> Result<ListedKey, AuthError> {
        let generation = known.last().map_or(1, |newest| newest.generation.saturating_add(1));
        let now = self.clock.now();
        // Nobody waits for the first one of a secret to be known: there is nothing else to sign with.
        let signs_from = match self.ours(&known)?.is_empty() {
            true => now,
            false => self.key_sets.times.signs_from(algorithm, now),
        };
        let kid = self.keys.signing_id(algorithm, generation).map_err(|_| not_derived())?;
        let entry = self.entry(AuditEvent::AuthnKeyRotated, &by.origin);
        let entry = AuditEntry { actor: by.user, detail: Some(kid.clone()), ..entry };
        let key = SigningKey { generation, algorithm, kid, created_at: now, signs_from };
        let room = Arc::clone(self);
        self.to_the_end(async move {
            let added = room.db.add_signing_key(key, entry.clone()).await.map_err(store_failed)?;
            if matches!(added, NextKey::Added(_)) {
                Line::of(&entry).write();
            }
            let key = added.key();
            known.push(key.clone());
            room.learn_keys(&known)?;
            Ok(room.listed(&room.ours(&known)?, key))
        })
        .await?
    }

    fn listed(&self, ours: &[SigningKey], key: SigningKey) -> ListedKey {
        let state = match ours.iter().position(|known| *known == key) {
            Some(index) => self.key_sets.times.state(ours, index, self.clock.now()),
            None => KeyState::Foreign,
        };
        ListedKey { key, state }
    }
}

fn other_secret(newest: &SigningKey) -> StartError {
    StartError::Config(format!(
        "JWT_SECRET is not the one that made the signing key {} of this database: give every instance the same; to \
         replace the secret on purpose, run `deepersensor keys rotate` with the new one first",
        newest.kid
    ))
}

fn not_derived() -> AuthError {
    AuthError::Internal("a signing key could not be derived".to_owned())
}
