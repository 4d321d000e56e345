//! Who pays: callers reduced to the keys of their buckets.

use std::{cmp::Reverse, fmt, net::IpAddr};

use domain::{
    id::{ApiKeyId, UserId},
    quota::{Quota, Verdict},
};

use super::{Decision, Scope};

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

    /// Does `judge` to each charge; the decision that binds is the refusal with the longest wait, else that of the bucket
    /// with the least left.
    pub(super) fn judge(&self, mut judge: impl FnMut(&Charge) -> Verdict) -> Decision {
        let mut decide = |charge: &Charge| Decision { scope: charge.scope, verdict: judge(charge) };
        let tightness = |decision: &Decision| {
            let verdict = &decision.verdict;
            (verdict.allowed, Reverse(verdict.retry_after), verdict.remaining)
        };
        let first = decide(&self.first);
        self.more.iter().map(decide).fold(first, |one, other| std::cmp::min_by_key(one, other, tightness))
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
    fn no_ipv4_address_shares_a_key_with_an_ipv6_network() {
        assert_ne!(key("0.0.0.0"), key("::"));
        assert_ne!(key("0.0.0.0"), key("::1"));
    }
}
