//! Which of several servers a key prefers: weighted rendezvous hashing.
//!
//! Each pair of key and server has a score, and the key prefers the server with the highest. So every instance agrees without
//! telling another, servers are preferred in proportion to their weights, and a server that comes or goes moves only the
//! keys that it wins or had.

/// A key that was hashed once, to be scored for several servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affinity(u64);

impl Affinity {
    /// The key is all `parts` together, in their order.
    pub fn of(parts: &[&[u8]]) -> Self {
        // Parts are set apart by a byte that ends each, so that no two lists of texts are one key.
        Self(parts.iter().fold(FNV_OFFSET, |hash, part| fnv(fnv(hash, part), &[0xff])))
    }

    /// Higher is preferred. A server of twice the weight wins twice as many keys.
    pub fn score(self, server: &str, weight: u32) -> f64 {
        let hash = mix(fnv(self.0, server.as_bytes()));
        // In (0, 1): the 53 bits that a float holds, and half a step so that neither end is met.
        let drawn = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        // -weight / ln(x) of a uniform x: the largest of several falls to each in proportion to its weight.
        f64::from(weight) / -drawn.ln()
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

/// Spreads every bit over all (the finalizer of SplitMix64): names that differ in their last letter must not score alike.
const fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: u32 = 1_000;

    fn preferred<'s>(key: u32, servers: &[(&'s str, u32)]) -> &'s str {
        let key = Affinity::of(&[&key.to_be_bytes()]);
        let score = |(name, weight): &&(&str, u32)| key.score(name, *weight);
        servers.iter().max_by(|one, two| score(one).total_cmp(&score(two))).unwrap().0
    }

    #[test]
    fn keys_fall_to_servers_in_proportion_to_their_weights() {
        let servers = [("gpu1", 1), ("gpu2", 2), ("gpu3", 5)];
        for (name, weight) in servers {
            let won = (0..KEYS).filter(|key| preferred(*key, &servers) == name).count();
            let due = (KEYS * weight / 8) as usize;
            // Four standard deviations of the largest share, 5/8 of 1,000 draws.
            assert!(won.abs_diff(due) <= 61, "{name} has {won} of {due}");
        }
    }

    #[test]
    fn a_server_that_goes_moves_only_its_own_keys_and_one_whose_weight_rises_only_gains() {
        let three = [("a", 1), ("b", 1), ("c", 1)];
        let moved = |after: &[(&'static str, u32)]| {
            let keys = (0..KEYS).map(|key| (preferred(key, &three), preferred(key, after)));
            keys.filter(|(before, after)| before != after).collect::<Vec<_>>()
        };
        let gone = moved(&three[..2]);
        assert!(gone.iter().all(|(before, _)| *before == "c") && gone.len() > 200, "{}", gone.len());
        let raised = moved(&[("a", 1), ("b", 1), ("c", 9)]);
        assert!(raised.iter().all(|(_, after)| *after == "c") && raised.len() > 200, "{}", raised.len());
    }

    #[test]
    fn a_key_is_its_parts_in_their_order() {
        let keys: [&[&[u8]]; 4] = [&[b"ab", b"c"], &[b"a", b"bc"], &[b"c", b"ab"], &[b"abc"]];
        for (i, one) in keys.iter().enumerate() {
            assert!(keys[..i].iter().all(|other| Affinity::of(other) != Affinity::of(one)));
            assert_eq!(Affinity::of(one), Affinity::of(one));
        }
    }
}
