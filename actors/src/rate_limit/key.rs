//! Who pays: callers reduced to the keys of their buckets.

use std::net::IpAddr;

use domain::principal::Principal;
use uuid::Uuid;

use super::Scope;

/// Names one bucket among those of its scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(u128);

/// Whose bucket pays; decides the shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Payer {
    Address(Key),
    User(Key),
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

impl Payer {
    pub(super) fn address(address: IpAddr) -> Self {
        Self::Address(Key(one_address(address)))
    }

    pub(super) fn principal(principal: &Principal) -> Self {
        Self::User(Key(Uuid::from(principal.user).as_u128()))
    }

    /// What its decisions count as.
    pub(super) const fn scope(self) -> Scope {
        match self {
            Self::Address(_) => Scope::Address,
            Self::User(_) => Scope::User,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Payer {
        Payer::address(text.parse().unwrap())
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
