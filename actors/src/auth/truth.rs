//! What the store said about a session or a key, and what follows from it for whoever shows one.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    account::User,
    api_key::{ApiKey, KeyHash},
    id::{ApiKeyId, SessionId, UserId},
    limits::Limits,
    model_access::ModelPatterns,
    principal::{Credential, Principal, Role, Scopes},
    session::Session,
};
use tokio::time::Instant;

use super::access_token::Grant;

/// While the store is away, truth this old may still serve callers that are not admins.
pub(super) const MAX_STALE: Duration = Duration::from_secs(60);

/// What truth is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Session(SessionId),
    /// By the hash of the whole key: nothing shorter stands for it (A15 tells of a cache that let users become each other).
    Key(KeyHash),
}

impl From<SessionId> for Subject {
    fn from(session: SessionId) -> Self {
        Self::Session(session)
    }
}

impl From<KeyHash> for Subject {
    fn from(key: KeyHash) -> Self {
        Self::Key(key)
    }
}

/// What a caller has shown that we made: a token whose signature is ours, or a key, which only the store can know.
#[derive(Clone, Copy)]
pub(super) enum Shown {
    Token(Grant),
    Key(KeyHash),
}

impl Shown {
    pub(super) const fn subject(&self) -> Subject {
        match self {
            Self::Token(grant) => Subject::Session(grant.session),
            Self::Key(hash) => Subject::Key(*hash),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Session {
        user: UserId,
        role: Role,
        limits: Limits,
        models: Option<ModelPatterns>,
        counter: u32,
        min_epoch: u32,
    },
    Key {
        user: UserId,
        role: Role,
        limits: Limits,
        models: Option<ModelPatterns>,
        id: ApiKeyId,
        scopes: Scopes,
        key_limits: Limits,
        key_models: Option<ModelPatterns>,
        expires_at: Option<DateTime<Utc>>,
    },
    /// Revoked, or its user is disabled.
    Ended,
    /// The store has no such thing.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Truth {
    pub(super) state: State,
    /// Before the store was asked.
    pub(super) as_of: Instant,
}

impl Truth {
    pub(super) fn of(session: &Session, user: &User, as_of: Instant) -> Self {
        let state = if session.revoked_at.is_some() || user.disabled || session.user != user.id {
            State::Ended
        } else {
            let Session { counter, min_epoch, .. } = *session;
            State::Session {
                user: user.id,
                role: user.role,
                limits: user.limits,
                models: user.models.clone(),
                counter,
                min_epoch,
            }
        };
        Self { state, as_of }
    }

    /// Whether the key has expired is judged when it is shown.
    pub(super) fn of_key(key: &ApiKey, user: &User, as_of: Instant) -> Self {
        let state = if key.revoked_at.is_some() || user.disabled || key.user != user.id {
            State::Ended
        } else {
            let &ApiKey { id, scopes, expires_at, .. } = key;
            State::Key {
                user: user.id,
                role: user.role,
                limits: user.limits,
                models: user.models.clone(),
                id,
                scopes,
                key_limits: key.limits,
                key_models: key.models.clone(),
                expires_at,
            }
        };
        Self { state, as_of }
    }

    pub(super) const fn ended(as_of: Instant) -> Self {
        Self { state: State::Ended, as_of }
    }

    pub(super) const fn unknown(as_of: Instant) -> Self {
        Self { state: State::Unknown, as_of }
    }

    /// The account that lives by it.
    pub(super) const fn user(&self) -> Option<UserId> {
        match self.state {
            State::Session { user, .. } | State::Key { user, .. } => Some(user),
            State::Ended | State::Unknown => None,
        }
    }

    /// Whether what is shown was made after what we know: then we know too little.
    pub(super) const fn is_behind(&self, shown: &Shown) -> bool {
        match (&self.state, shown) {
            (State::Session { counter, .. }, Shown::Token(grant)) => *counter < grant.epoch,
            _ => false,
        }
    }

    /// Whether this may still be believed while the store is away.
    pub(super) fn may_serve_stale(&self, now: Instant) -> bool {
        let is_admin = matches!(
            self.state,
            State::Session { role: Role::Admin, .. } | State::Key { role: Role::Admin, .. }
        );
        !is_admin && now.duration_since(self.as_of) <= MAX_STALE
    }

    /// The caller whom this lets in with what was `shown`.
    pub(super) fn principal(&self, shown: &Shown, now: DateTime<Utc>) -> Option<Principal> {
        let (user, role, limits, models, credential) = match (&self.state, shown) {
            (State::Session { user, role, limits, models, min_epoch, .. }, Shown::Token(grant))
                if *user == grant.user && *min_epoch <= grant.epoch =>
            {
                (user, role, limits, models, Credential::Session(grant.session))
            }
            (
                State::Key { user, role, limits, models, id, scopes, key_limits, key_models, expires_at },
                Shown::Key(_),
            ) if expires_at.is_none_or(|end| now < end) => {
                let credential = Credential::Key {
                    id: *id,
                    scopes: *scopes,
                    limits: *key_limits,
                    models: key_models.clone(),
                };
                (user, role, limits, models, credential)
            }
            _ => return None,
        };
        Some(Principal { user: *user, role: *role, limits: *limits, models: models.clone(), credential })
    }
}
