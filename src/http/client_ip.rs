//! Whose address a request counts against.
//!
//! A peer we do not trust is itself. Behind trusted proxies, `X-Forwarded-For` is walked from its right end, where the
//! nearest proxy wrote, past every trusted hop; whatever lies left of the first stranger could be forged and is not read.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Finds the client behind `peer`; an entry that is no address ends the walk at the last good one.
pub(crate) fn client_ip(peer: IpAddr, headers: &HeaderMap, trusts: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut client = peer.to_canonical();
    if !trusts(client) {
        return client;
    }
    // Several header lines are one list; the last line was added last.
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    for entry in lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')) {
        let Some(hop) = address(entry) else { break };
        client = hop;
        if !trusts(hop) {
            break;
        }
    }
    client
}

/// An address as proxies write it: bare, or with a port.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|with_port| with_port.ip()))
        .ok()
        .map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        let ten: ipnet::IpNet = "10.0.0.0/8".parse().unwrap();
        client_ip(peer.parse().unwrap(), &headers, |ip| ten.contains(&ip)).to_string()
    }

    #[test]
    fn b07_a_header_from_a_stranger_changes_nothing() {
        assert_eq!(walk("192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
        assert_eq!(walk("::ffff:192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
    }

    #[test]
    fn b07_trusted_hops_are_skipped_from_the_right_and_forged_entries_left_of_the_client_are_not_read() {
        assert_eq!(walk("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(walk("10.0.0.1", &["1.1.1.1, 198.51.100.7, 10.9.9.9"]), "198.51.100.7");
        assert_eq!(walk("10.0.0.1", &["1.1.1.1", "198.51.100.7"]), "198.51.100.7");
        assert_eq!(walk("10.0.0.1", &["198.51.100.7:4711"]), "198.51.100.7");
        assert_eq!(walk("10.0.0.1", &["[2001:db8::1]:443"]), "2001:db8::1");
    }

    #[test]
    fn b07_an_entry_that_is_no_address_ends_the_walk_at_the_last_good_one() {
        assert_eq!(walk("10.0.0.1", &["198.51.100.7, unknown"]), "10.0.0.1");
        assert_eq!(walk("10.0.0.1", &["198.51.100.7, evil, 10.2.2.2"]), "10.2.2.2");
        assert_eq!(walk("10.0.0.1", &[""]), "10.0.0.1");
        assert_eq!(walk("10.0.0.1", &[]), "10.0.0.1");
    }
}
