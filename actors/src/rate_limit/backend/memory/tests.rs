use std::time::Duration;

use super::*;
use crate::rate_limit::{Scope, key::Key, metrics::TableMetrics};

const SECOND: u64 = 1_000_000;

fn metrics() -> ShardMetrics {
    ShardMetrics { address: TableMetrics::default(), user: TableMetrics::default() }
}

/// A permit per second, ten at once, for users and five times that for addresses.
fn buckets(keys: usize) -> (Buckets, ShardMetrics) {
    let metrics = metrics();
    let config = RateLimitConfig { keys_per_shard: keys, ..RateLimitConfig::new(60, 10) };
    (Buckets::new(&config, metrics.clone()), metrics)
}

fn address(number: u32) -> Payer {
    Payer::address(std::net::Ipv4Addr::from_bits(number).into())
}

fn user(number: u128) -> Payer {
    let principal = domain::principal::Principal {
        user: uuid::Uuid::from_u128(number).into(),
        session: uuid::Uuid::nil().into(),
        role: domain::principal::Role::User,
    };
    Payer::principal(&principal)
}

fn key_of(payer: Payer) -> Key {
    match payer {
        Payer::Address(key) | Payer::User(key) => key,
    }
}

#[test]
fn a_refusal_costs_nothing_and_names_the_bucket_that_refused() {
    let (mut buckets, _) = buckets(10);
    let now = Micros(0);
    assert_eq!(buckets.take(now, user(1), 8).verdict.remaining, 2);
    let refused = buckets.take(now, user(1), 3);
    assert!(!refused.verdict.allowed);
    assert_eq!((refused.scope, refused.verdict.retry_after), (Scope::User, Duration::from_secs(1)));
    assert!(buckets.take(now, user(1), 2).verdict.allowed);
    // An address has five times as much, and none of it is the user's.
    let address = buckets.take(now, address(1), 50);
    assert_eq!((address.scope, address.verdict.allowed), (Scope::Address, true));
}

#[test]
fn c4_idle_keys_make_room_and_busy_ones_stay() {
    let (mut buckets, metrics) = buckets(2);
    buckets.take(Micros(0), user(1), 10);
    buckets.take(Micros(0), user(2), 1);
    // User 2 is full again, user 1 is not.
    let now = Micros(5 * SECOND);
    assert!(buckets.take(now, user(3), 10).verdict.allowed);
    assert_eq!(metrics.user.overflow.get(), 0);
    assert_eq!(metrics.user.keys.get(), 2);
    assert_eq!(buckets.take(now, user(1), 0).verdict.remaining, 5, "its spending is remembered");
}

#[test]
fn c4_without_room_new_keys_share_one_bucket_and_old_ones_keep_theirs() {
    let (mut buckets, metrics) = buckets(2);
    let now = Micros(0);
    for number in 1..=2 {
        buckets.take(now, user(number), 1);
    }
    let admitted = (3..=100).filter(|number| buckets.take(now, user(*number), 1).verdict.allowed).count();
    assert_eq!(admitted, 10, "one burst for all newcomers together");
    assert_eq!(metrics.user.overflow.get(), 98);
    assert_eq!(buckets.take(now, user(1), 0).verdict.remaining, 9);
    assert_eq!(metrics.user.keys.get(), 2);
}

#[test]
fn a_flood_of_addresses_leaves_users_their_own_buckets() {
    let (mut buckets, metrics) = buckets(100);
    for number in 0..10_000 {
        buckets.take(Micros(0), address(number), 1);
    }
    assert!(metrics.address.overflow.get() > 0);
    assert!(buckets.take(Micros(0), user(1), 10).verdict.allowed);
    assert_eq!(metrics.user.overflow.get(), 0);
}

#[test]
fn a_full_table_is_searched_once_per_interval() {
    let (mut buckets, _) = buckets(1);
    buckets.take(Micros(0), user(1), 1);
    buckets.take(Micros(SECOND - 1), user(2), 1);
    assert_eq!(buckets.user.len(), 1);
    // User 1's bucket is full by now, but the table has just been searched.
    buckets.take(Micros(SECOND), user(2), 0);
    assert!(!buckets.user.holds(key_of(user(2))));
    buckets.take(Micros(SECOND + 250_000), user(2), 0);
    assert!(buckets.user.holds(key_of(user(2))));
}

/// Sends `sources` networks, none of them twice, and returns the bytes that the shards hold in the end.
fn flood(shards: &mut [Buckets], first: u64, sources: u64) -> usize {
    for source in first..first + sources {
        // splitmix64: a bijection, so every network is new; reproducible.
        let mut network = source.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        network = (network ^ (network >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        network = (network ^ (network >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        network ^= network >> 31;
        let address = std::net::Ipv6Addr::from_bits(u128::from(network) << 64 | u128::from(source));
        let shard = usize::try_from(network % shards.len() as u64).unwrap();
        // A microsecond each: a million requests per second.
        shards[shard].take(Micros(source), Payer::address(address.into()), 1);
    }
    shards.iter().map(|shard| shard.address.size_bytes() + shard.user.size_bytes()).sum()
}

#[test]
fn c4_a_million_random_ipv6_sources_take_a_few_mib_once_the_tables_are_full() {
    let config = RateLimitConfig::new(60, 20);
    let metrics: Vec<_> = (0..config.shards).map(|_| metrics()).collect();
    let mut shards: Vec<_> = metrics.iter().map(|metrics| Buckets::new(&config, metrics.clone())).collect();

    let full = flood(&mut shards, 0, 200_000);
    assert!(metrics.iter().all(|shard| shard.address.overflow.get() > 0), "every table is full");
    let after = flood(&mut shards, 200_000, 800_000);
    // The traces of forgotten keys make a map double its places, once: from then on they fit.
    assert!((full..=2 * full).contains(&after), "{full}, then {after} bytes");
    assert!((1 << 20..64 << 20).contains(&after), "{after} bytes");
    assert!(shards.iter().all(|shard| shard.address.len() <= config.keys_per_shard));
    assert!(config.shards * config.keys_per_shard * 2 <= 100_000);
}
