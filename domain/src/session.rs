//! Sessions: one for each sign-in.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

use crate::{
    account::User,
    id::{SessionId, UserId},
};

/// Sessions of one account that live at once; signing in once more ends the one that rested longest.
pub const SESSIONS_PER_USER: usize = 100;

/// Longest text that is kept of what a device says it is, in characters.
pub const DEVICE_CHARS: usize = 256;

/// One sign-in: the family of all refresh tokens that descend from it.
///
/// No token is stored. The live refresh token is a function of `id` and `counter`; presenting an older counter is
/// reuse and ends the family (RFC 9700 §4.14.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub user: UserId,
    pub counter: u32,
    /// No token of a lower counter serves, however young: the password changed meanwhile.
    pub min_epoch: u32,
    pub created_at: DateTime<Utc>,
    /// When `counter` last rose; the refresh grace is measured from here.
    pub rotated_at: DateTime<Utc>,
    /// When a token of it was last shown, to within some minutes.
    pub last_used_at: DateTime<Utc>,
    /// No refresh after this instant, whatever happens (absolute lifetime).
    pub expires_at: DateTime<Utc>,
    pub revoked_at: Option<DateTime<Utc>>,
    /// What signed in, by its own account (`User-Agent`).
    pub device: Option<String>,
    /// Where from.
    pub address: Option<IpAddr>,
}

/// What a presented refresh token led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    /// The counter rose by one: the caller gets the token of `session.counter`.
    Rotated { session: Session, user: User },
    /// The direct parent, shown again within the grace: the caller gets the same token of `session.counter`.
    Repeated { session: Session, user: User },
    /// An older token: the family was revoked and the event audited in the same transaction.
    Reused { user: UserId },
    /// No such session, revoked, idle too long, expired, below `min_epoch`, or its user is disabled.
    Dead,
}

/// Which sessions of an account end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    One(SessionId),
    AllBut(SessionId),
    All,
}

/// The network somebody signs in from, as guessing is counted and familiar places are remembered: an IPv4 network of 24
/// bits or an IPv6 network of 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl Network {
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::from((v4.to_bits() & (!0 << 8)).to_be_bytes()),
            IpAddr::V6(v6) => IpAddr::from((v6.to_bits() & (!0 << 64)).to_be_bytes()),
        })
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bits = if self.0.is_ipv4() { 24 } else { 64 };
        write!(f, "{}/{bits}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a06_a_network_is_24_bits_of_ipv4_or_64_of_ipv6() {
        for (address, network) in [
            ("192.0.2.77", "192.0.2.0/24"),
            ("::ffff:192.0.2.77", "192.0.2.0/24"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(Network::of(address.parse().unwrap()).to_string(), network);
        }
    }
}
