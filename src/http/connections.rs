//! How many connections are open, in all and from one address.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use actors::rate_limit::one_address;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;

use super::metrics::Refusal;

/// How many connections may be open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caps {
    pub(crate) all: usize,
    pub(crate) of_one_address: usize,
}

/// A site of IPv6, as most providers give to one customer at the most: it may have as many as this many of its addresses.
const ADDRESSES_OF_A_SITE: usize = 4;
const V6_SITE: u128 = !0 << 80;

/// What connections are counted by: an address, or the IPv6 site around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Network {
    Address(u128),
    Site(u128),
}

impl Network {
    /// Those that a peer belongs to, each with its share of `cap`.
    fn around(peer: IpAddr, cap: usize) -> impl Iterator<Item = (Self, usize)> {
        let address = one_address(peer);
        let site = peer.to_canonical().is_ipv6().then_some(Self::Site(address & V6_SITE));
        let sites = site.map(|site| (site, cap.saturating_mul(ADDRESSES_OF_A_SITE)));
        std::iter::once((Self::Address(address), cap)).chain(sites)
    }
}

/// Counts places; holds at most two entries for each place that is counted by address.
pub(crate) struct Connections {
    caps: Caps,
    open: Gauge,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    all: usize,
    by_network: HashMap<Network, usize>,
}

/// An open connection's place; given back on drop.
pub(crate) struct Place {
    connections: Arc<Connections>,
    counted: Option<IpAddr>,
}

impl Connections {
    pub(crate) fn new(caps: Caps, open: Gauge) -> Arc<Self> {
        Arc::new(Self { caps, open, counts: Mutex::default() })
    }

    /// Takes a place. An exempt peer (loopback, a trusted proxy) counts only against the whole.
    ///
    /// # Errors
    ///
    /// Which cap was reached: say 503 and close.
    pub(crate) fn take(self: &Arc<Self>, peer: IpAddr, is_exempt: bool) -> Result<Place, Refusal> {
        let mut counts = self.counts.lock();
        if counts.all >= self.caps.all {
            return Err(Refusal::TooMany);
        }
        if !is_exempt {
            let cap = self.caps.of_one_address;
            let is_full = |(network, cap)| counts.by_network.get(&network).is_some_and(|open| *open >= cap);
            if Network::around(peer, cap).any(is_full) {
                return Err(Refusal::TooManyOfOneAddress);
            }
            for (network, _) in Network::around(peer, cap) {
                *counts.by_network.entry(network).or_default() += 1;
            }
        }
        counts.all += 1;
        self.open.inc();
        Ok(Place { connections: Arc::clone(self), counted: (!is_exempt).then_some(peer) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open.dec();
        let mut counts = self.connections.counts.lock();
        counts.all -= 1;
        let Some(peer) = self.counted else { return };
        for (network, _) in Network::around(peer, 0) {
            if let Some(open) = counts.by_network.get_mut(&network) {
                *open -= 1;
                if *open == 0 {
                    counts.by_network.remove(&network);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b08_places_are_bounded_in_all_and_per_address_and_come_back() {
        let connections = Connections::new(Caps { all: 3, of_one_address: 2 }, Gauge::default());
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = connections.take(a, false).ok().unwrap();
        let _second = connections.take(a, false).ok().unwrap();
        assert!(matches!(connections.take(a, false), Err(Refusal::TooManyOfOneAddress)));
        let third = connections.take(b, false).ok().unwrap();
        assert!(matches!(connections.take(b, true), Err(Refusal::TooMany)));
        drop((first, third));
        assert_eq!(connections.counts.lock().by_network.len(), 1);
        assert!(connections.take(a, false).is_ok());
        assert_eq!(connections.open.get(), 1);
    }

    #[test]
    fn b08_an_ipv6_network_of_one_customer_is_one_address() {
        let connections = Connections::new(Caps { all: 99, of_one_address: 1 }, Gauge::default());
        let take = |peer: &str| connections.take(peer.parse().unwrap(), false);
        let _first = take("2001:db8:0:1::1").ok().unwrap();
        assert!(matches!(take("2001:db8:0:1:ffff::2"), Err(Refusal::TooManyOfOneAddress)));
        assert!(take("2001:db8:0:2::1").is_ok());
    }

    #[test]
    fn b08_the_many_networks_of_one_ipv6_site_get_a_few_shares_and_no_more() {
        let connections = Connections::new(Caps { all: 99, of_one_address: 2 }, Gauge::default());
        let take = |peer: &str| connections.take(peer.parse().unwrap(), false);
        // The first network of a site has the site's own bits.
        let networks = (0..20).map(|network| format!("2001:db8:0:{network:x}::1"));
        let mut places: Vec<_> = networks.filter_map(|peer| take(&peer).ok()).collect();
        assert_eq!(places.len(), 2 * ADDRESSES_OF_A_SITE);
        assert!(matches!(take("2001:db8:0:ffff::1"), Err(Refusal::TooManyOfOneAddress)));
        assert!(take("2001:db8:1::1").is_ok() && take("192.0.2.1").is_ok(), "others notice nothing");
        places.pop();
        assert!(take("2001:db8:0:ffff::1").is_ok());
        drop(places);
        assert!(connections.counts.lock().by_network.is_empty());
    }
}
