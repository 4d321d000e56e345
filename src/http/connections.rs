//! How many connections are open, in all and from one address.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use actors::rate_limit::one_address;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;

use super::metrics::Refusal;

/// Counts places; holds at most [`Connections::limit`] entries, one for each place that is counted by address.
pub(crate) struct Connections {
    limit: usize,
    limit_per_address: usize,
    open: Gauge,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    all: usize,
    /// By [`one_address`].
    by_address: HashMap<u128, usize>,
}

/// An open connection's place; given back on drop.
pub(crate) struct Place {
    connections: Arc<Connections>,
    counted: Option<u128>,
}

impl Connections {
    pub(crate) fn new(limit: usize, limit_per_address: usize, open: Gauge) -> Arc<Self> {
        Arc::new(Self { limit, limit_per_address, open, counts: Mutex::default() })
    }

    /// Takes a place. An exempt peer (loopback, a trusted proxy) counts only against the whole.
    ///
    /// # Errors
    ///
    /// Which cap was reached: say 503 and close.
    pub(crate) fn take(self: &Arc<Self>, peer: IpAddr, is_exempt: bool) -> Result<Place, Refusal> {
        let address = one_address(peer);
        let mut counts = self.counts.lock();
        if counts.all >= self.limit {
            return Err(Refusal::TooMany);
        }
        if !is_exempt {
            let of_this = counts.by_address.entry(address).or_default();
            if *of_this >= self.limit_per_address {
                return Err(Refusal::TooManyOfOneAddress);
            }
            *of_this += 1;
        }
        counts.all += 1;
        self.open.inc();
        Ok(Place { connections: Arc::clone(self), counted: (!is_exempt).then_some(address) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open.dec();
        let mut counts = self.connections.counts.lock();
        counts.all -= 1;
        let Some(address) = self.counted else { return };
        if let Some(of_this) = counts.by_address.get_mut(&address) {
            *of_this -= 1;
            if *of_this == 0 {
                counts.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b08_places_are_bounded_in_all_and_per_address_and_come_back() {
        let connections = Connections::new(3, 2, Gauge::default());
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = connections.take(a, false).ok().unwrap();
        let _second = connections.take(a, false).ok().unwrap();
        assert!(matches!(connections.take(a, false), Err(Refusal::TooManyOfOneAddress)));
        let third = connections.take(b, false).ok().unwrap();
        assert!(matches!(connections.take(b, true), Err(Refusal::TooMany)));
        drop((first, third));
        assert_eq!(connections.counts.lock().by_address.len(), 1);
        assert!(connections.take(a, false).is_ok());
        assert_eq!(connections.open.get(), 1);
    }

    #[test]
    fn b08_an_ipv6_network_of_one_customer_is_one_address() {
        let connections = Connections::new(9, 1, Gauge::default());
        let take = |peer: &str| connections.take(peer.parse().unwrap(), false);
        let _first = take("2001:db8:0:1::1").ok().unwrap();
        assert!(matches!(take("2001:db8:0:1:ffff::2"), Err(Refusal::TooManyOfOneAddress)));
        assert!(take("2001:db8:0:2::1").is_ok());
    }
}
