//! Who is asking, and what a route asks for.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    id::{ApiKeyId, SessionId, UserId},
    limits::{Limits, Priority},
    model_access::ModelPatterns,
};

/// What an account may do. Admin includes all that a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    User,
    Admin,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "user" => Some(Self::User),
            "admin" => Some(Self::Admin),
            _ => None,
        }
    }
}

/// A part of the service that an API key can be let into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    Chat,
    Models,
    Embeddings,
    Conversations,
    Usage,
    /// Opens administrators' routes, for keys of administrators only.
    Admin,
}

impl Scope {
    pub const ALL: [Self; 6] =
        [Self::Chat, Self::Models, Self::Embeddings, Self::Conversations, Self::Usage, Self::Admin];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Models => "models",
            Self::Embeddings => "embeddings",
            Self::Conversations => "conversations",
            Self::Usage => "usage",
            Self::Admin => "admin",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }

    /// Reads what [`fmt::Display`] wrote; `None` when a word is not a scope.
    pub fn parse(text: &str) -> Option<Self> {
        text.split_whitespace().map(Scope::parse).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

/// The names in one line, as OAuth writes them (RFC 6749 §3.3): `chat models`.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, scope) in self.iter().enumerate() {
            let gap = if n == 0 { "" } else { " " };
            write!(f, "{gap}{}", scope.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

/// With what a caller proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// An access token: somebody signed in, who may do all that their role allows.
    Session(SessionId),
    Key {
        id: ApiKeyId,
        scopes: Scopes,
        /// The key's own, beside its user's.
        limits: Limits,
        /// The models it opens of those that its user may ask; `None`: all of them.
        models: Option<ModelPatterns>,
    },
}

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub user: UserId,
    pub role: Role,
    /// What an administrator set for the account.
    pub limits: Limits,
    /// The models that an administrator let the account ask, in place of its role's; see
    /// [`RoleModels::allow`](crate::model_access::RoleModels::allow).
    pub models: Option<ModelPatterns>,
    pub credential: Credential,
}

impl Principal {
    /// The key they came with; `None` for a session.
    pub const fn key(&self) -> Option<ApiKeyId> {
        match self.credential {
            Credential::Session(_) => None,
            Credential::Key { id, .. } => Some(id),
        }
    }

    /// What a turn that asks for `asked` is served as: no more than account and key may have.
    pub fn priority(&self, asked: Priority) -> Priority {
        let by_account = self.limits.cap(asked);
        match self.credential {
            Credential::Session(_) => by_account,
            Credential::Key { limits, .. } => limits.cap(by_account),
        }
    }
}

/// What a route demands of its caller; each route declares exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Public,
    /// Whoever shows the operators' token, where there is one; no principal, on the operators' own listener.
    Operator,
    /// Any caller we know, whatever their key's scopes.
    Anybody,
    /// Somebody who signed in: what concerns the account itself is closed to keys, or a stolen key could mint others.
    Session,
    /// A session, or a key with this scope.
    Scope(Scope),
    /// An administrator's session, or an administrator's key with the scope `admin`.
    Admin,
}

impl Access {
    /// Whether `principal` may enter.
    pub fn admits(self, principal: &Principal) -> bool {
        let has = |scope| match principal.credential {
            Credential::Session(_) => true,
            Credential::Key { scopes, .. } => scopes.contains(scope),
        };
        match self {
            Self::Public | Self::Anybody => true,
            Self::Operator => false,
            Self::Session => matches!(principal.credential, Credential::Session(_)),
            Self::Scope(scope) => has(scope),
            Self::Admin => matches!(principal.role, Role::Admin) && has(Scope::Admin),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_turn_is_served_as_no_more_than_both_account_and_key_may_have() {
        use Priority::{Batch, Interactive};
        let most = |priority| Limits { priority, ..Limits::default() };
        let principal = |account, key: Option<Option<Priority>>| Principal {
            user: Uuid::from_u128(1).into(),
            role: Role::User,
            limits: most(account),
            models: None,
            credential: key.map_or(Credential::Session(Uuid::from_u128(2).into()), |key| Credential::Key {
                id: Uuid::from_u128(3).into(),
                scopes: Scopes::default(),
                limits: most(key),
                models: None,
            }),
        };
        for (account, key, served) in [
            (None, None, Interactive),
            (None, Some(None), Interactive),
            (None, Some(Some(Batch)), Batch),
            (Some(Batch), Some(Some(Interactive)), Batch),
            (Some(Batch), None, Batch),
        ] {
            let principal = principal(account, key);
            assert_eq!(principal.priority(Interactive), served, "{account:?} {key:?}");
            assert_eq!(principal.priority(Batch), Batch, "who asks for less gets it");
        }
    }
}
