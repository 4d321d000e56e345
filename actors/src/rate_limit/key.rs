//! Who pays: callers reduced to the keys of their buckets.

use std::{fmt, net::IpAddr};

use domain::{
    id::{ApiKeyId, UserId},
    model_name::CanonicalName,
    quota::{Quota, Verdict},
};

use super::{Decision, Said, Scope};
use crate::digest::sha256;

/// Names one bucket among those of its scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(u128);

/// What one question spends from one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Charge {
    pub scope: Scope,
    pub key: Key,
    /// How the bucket fills; a bucket whose quota changed starts full.
    pub quota: Quota,
    pub cost: u32,
}

/// What one question spends from the buckets of one payer: all of it, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Charges {
    /// Names the payer, which decides the shard.
    pub first: Charge,
    pub more: Vec<Charge>,
}

impl Charges {
    pub(super) const fn one(scope: Scope, key: Key, quota: Quota, cost: u32) -> Self {
        Self { first: Charge { scope, key, quota, cost }, more: Vec::new() }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Charge> {
        std::iter::once(&self.first).chain(&self.more)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Charge> {
        std::iter::once(&mut self.first).chain(&mut self.more)
    }

    /// Decides by what `look` says of each charge, by its place, without spending anything.
    pub(super) fn decide(&self, mut look: impl FnMut(usize, &Charge) -> Verdict) -> Decision {
        let mut say = |at, charge: &Charge| Said { scope: charge.scope, verdict: look(at, charge) };
        let first = say(0, &self.first);
        if self.more.is_empty() {
            return first.into();
        }
        let mut said = Vec::with_capacity(1 + self.more.len());
        said.push(first);
        said.extend(self.more.iter().enumerate().map(|(at, charge)| say(at + 1, charge)));
        if said.iter().any(|said| !said.verdict.allowed) {
            for (at, (charge, said)) in self.iter().zip(&mut said).enumerate() {
                if said.verdict.allowed {
                    *said = say(at, &Charge { cost: 0, ..*charge });
                }
            }
        }
        Decision::of(said).unwrap_or_else(|| first.into())
    }
}

impl Charge {
    /// What it spends from a bucket of this quota, its own or one that is shared: of what is reserved, no more than either
    /// ever holds.
    pub(super) fn cost_in(&self, quota: &Quota) -> u32 {
        if self.scope.counts_tokens() { self.cost.min(self.quota.burst).min(quota.burst) } else { self.cost }
    }
}

/// The network part of an IPv6 address: what one customer is given at the least (RFC 6177).
const V6_NETWORK: u128 = !0 << 64;

/// What counts as one address wherever callers are counted by it: an IPv4 address, or an IPv6 network of 64 bits.
pub fn one_address(address: IpAddr) -> u128 {
    match address.to_canonical() {
        // In the mapped form, whose host part is never zero: no IPv6 network can be taken for it.
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits() & V6_NETWORK,
    }
}

impl Key {
    /// Belongs to nobody.
    pub(super) const NOBODY: Self = Self(0);

    /// Of one user with one model; the same on every instance.
    pub(super) fn of_model(user: UserId, model: &CanonicalName) -> Self {
        let text = [user.as_uuid().as_bytes(), model.as_str().as_bytes()].concat();
        let half = sha256(text).first_chunk().copied().unwrap_or_default();
        Self(u128::from_be_bytes(half))
    }

    /// Of an address: whether it is an IPv6 one, and the network around it, a /48 of IPv6 or a /24 of IPv4, which is about
    /// what one customer may have.
    pub(super) const fn surroundings(self) -> (bool, u128) {
        let is_v6 = self.0 & !V6_NETWORK == 0;
        (is_v6, self.0 >> if is_v6 { 80 } else { 8 })
    }
}

impl fmt::LowerHex for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl From<IpAddr> for Key {
    fn from(address: IpAddr) -> Self {
        Self(one_address(address))
    }
}

impl From<UserId> for Key {
    fn from(user: UserId) -> Self {
        Self(user.as_uuid().as_u128())
    }
}

impl From<ApiKeyId> for Key {
    fn from(key: ApiKeyId) -> Self {
        Self(key.as_uuid().as_u128())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn c4_ipv6_addresses_of_one_64_are_one_key_and_neighbours_are_not() {
        assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
    }

    #[test]
    fn an_ipv4_mapped_address_is_the_ipv4_address() {
        assert_eq!(key("::ffff:192.0.2.7"), key("192.0.2.7"));
        assert_ne!(key("192.0.2.7"), key("192.0.2.8"));
    }

    #[test]
    fn c4_the_surroundings_of_an_address_are_its_48_or_its_24() {
        let around = |text: &str| key(text).surroundings();
        assert_eq!(around("2001:db8:7::1"), around("2001:db8:7:ffff::1"));
        assert_ne!(around("2001:db8:7::1"), around("2001:db8:8::1"));
        assert_eq!(around("192.0.2.7"), around("::ffff:192.0.2.250"));
        assert_ne!(around("192.0.2.7"), around("192.0.3.7"));
        assert!(around("::").0 && around("2001:db8::1").0 && !around("0.0.0.0").0);
    }

    #[test]
    fn a_user_has_one_key_for_each_model_whoever_asks() {
        let model = |name: &str| domain::model_name::ModelName::parse(name).unwrap().canonical();
        let user = |number| UserId::from(uuid::Uuid::from_u128(number));
        let one = Key::of_model(user(1), &model("qwen3:8b"));
        assert_eq!(one, Key::of_model(user(1), &model("Qwen3:8B")));
        assert_ne!(one, Key::of_model(user(2), &model("qwen3:8b")));
        assert_ne!(one, Key::of_model(user(1), &model("qwen3:4b")));
    }

    #[test]
    fn no_ipv4_address_shares_a_key_with_an_ipv6_network() {
        assert_ne!(key("0.0.0.0"), key("::"));
        assert_ne!(key("0.0.0.0"), key("::1"));
    }
}
