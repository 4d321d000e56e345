use std::time::Duration;

use domain::{guessing::Rule, id::UserId, quota::Quota, session::Network};

use super::*;
use crate::rate_limit::{
    AccountTag, Decision, Scope,
    key::{Charge, Charges, Key},
    message::LookEnd,
};

const SECOND: u64 = 1_000_000;

/// A permit per second, ten at once, for users and five times that for addresses.
fn buckets(keys: usize) -> (Buckets, ShardMetrics) {
    let metrics = ShardMetrics::default();
    let config = RateLimitConfig { keys_per_shard: keys, ..config() };
    (Buckets::new(&config, &metrics), metrics)
}

fn config() -> RateLimitConfig {
    RateLimitConfig::new(60, 10)
}

fn address(number: u32, cost: u32) -> Charges {
    let address: std::net::IpAddr = std::net::Ipv4Addr::from_bits(number).into();
    Charges::one(Scope::Address, address.into(), config().address, cost)
}

fn user(number: u128, cost: u32) -> Charges {
    Charges::one(Scope::User, user_key(number), config().user, cost)
}

fn user_key(number: u128) -> Key {
    UserId::from(uuid::Uuid::from_u128(number)).into()
}

#[test]
fn a_refusal_costs_nothing_and_names_the_bucket_that_refused() {
    let (mut buckets, _) = buckets(10);
    let now = Micros(0);
    assert_eq!(buckets.take(now, &user(1, 8)).verdict.remaining, 2);
    let refused = buckets.take(now, &user(1, 3));
    assert!(!refused.verdict.allowed);
    assert_eq!((refused.scope, refused.verdict.retry_after), (Scope::User, Duration::from_secs(1)));
    assert!(buckets.take(now, &user(1, 2)).verdict.allowed);
    // An address has five times as much, and none of it is the user's.
    let address = buckets.take(now, &address(1, 50));
    assert_eq!((address.scope, address.verdict.allowed), (Scope::Address, true));
}

#[test]
fn c4_idle_keys_make_room_and_busy_ones_stay() {
    let (mut buckets, metrics) = buckets(2);
    buckets.take(Micros(0), &user(1, 10));
    buckets.take(Micros(0), &user(2, 1));
    // User 2 is full again, user 1 is not.
    let now = Micros(5 * SECOND);
    assert!(buckets.take(now, &user(3, 10)).verdict.allowed);
    assert_eq!(metrics.of(Scope::User).overflow.get(), 0);
    assert_eq!(metrics.of(Scope::User).keys.get(), 2);
    assert_eq!(buckets.take(now, &user(1, 0)).verdict.remaining, 5, "its spending is remembered");
}

#[test]
fn c4_without_room_new_keys_share_one_bucket_and_old_ones_keep_theirs() {
    let (mut buckets, metrics) = buckets(2);
    let now = Micros(0);
    for number in 1..=2 {
        buckets.take(now, &user(number, 1));
    }
    let admitted = (3..=100).filter(|number| buckets.take(now, &user(*number, 1)).verdict.allowed).count();
    assert_eq!(admitted, 10, "one burst for all newcomers together");
    assert_eq!(metrics.of(Scope::User).overflow.get(), 98);
    assert_eq!(buckets.take(now, &user(1, 0)).verdict.remaining, 9);
    assert_eq!(metrics.of(Scope::User).keys.get(), 2);
}

#[test]
fn a_flood_of_addresses_leaves_users_their_own_buckets() {
    let (mut buckets, metrics) = buckets(100);
    for number in 0..10_000 {
        buckets.take(Micros(0), &address(number, 1));
    }
    assert!(metrics.of(Scope::Address).overflow.get() > 0);
    assert!(buckets.take(Micros(0), &user(1, 10)).verdict.allowed);
    assert_eq!(metrics.of(Scope::User).overflow.get(), 0);
}

#[test]
fn a_full_table_is_searched_once_per_interval() {
    let (mut buckets, _) = buckets(1);
    buckets.take(Micros(0), &user(1, 1));
    buckets.take(Micros(SECOND - 1), &user(2, 1));
    assert_eq!(buckets.table(Scope::User).len(), 1);
    // User 1's bucket is full by now, but the table has just been searched.
    buckets.take(Micros(SECOND), &user(2, 0));
    assert!(!buckets.table(Scope::User).holds(&user_key(2)));
    buckets.take(Micros(SECOND + 250_000), &user(2, 0));
    assert!(buckets.table(Scope::User).holds(&user_key(2)));
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
        let address = std::net::IpAddr::from(address);
        let charges = Charges::one(Scope::Address, address.into(), config().address, 1);
        shards[shard].take(Micros(source), &charges);
    }
    shards.iter().flat_map(|shard| Scope::ALL.map(|scope| shard.table(scope).size_bytes())).sum()
}

#[test]
fn c4_a_million_random_ipv6_sources_take_a_few_mib_once_the_tables_are_full() {
    let config = RateLimitConfig::new(60, 20);
    let metrics: Vec<_> = (0..config.shards).map(|_| ShardMetrics::default()).collect();
    let mut shards: Vec<_> = metrics.iter().map(|metrics| Buckets::new(&config, metrics)).collect();

    let full = flood(&mut shards, 0, 200_000);
    assert!(metrics.iter().all(|shard| shard.of(Scope::Address).overflow.get() > 0), "every table is full");
    let after = flood(&mut shards, 200_000, 800_000);
    // The traces of forgotten keys make a map double its places, once: from then on they fit.
    assert!(after <= 2 * full, "{full}, then {after} bytes");
    assert!((1 << 20..64 << 20).contains(&after), "{after} bytes");
    assert!(shards.iter().all(|shard| shard.table(Scope::Address).len() <= config.keys_per_shard));
    assert!(config.shards * config.keys_per_shard * Scope::ALL.len() <= 100_000);
}

/// The charges of a key with a quota of its own, of three permits at once.
fn key_of(user_number: u128, key: u128, cost: u32) -> Charges {
    let quota = Quota { burst: 3, ..config().user };
    let own = Charge { scope: Scope::Key, key: user_key(key), quota, cost };
    Charges { more: vec![own], ..user(user_number, cost) }
}

#[test]
fn a_key_spends_from_its_user_and_itself_or_from_neither() {
    let (mut buckets, _) = buckets(10);
    let now = Micros(0);
    let told = |decision: Decision| (decision.scope, decision.verdict.allowed, decision.verdict.remaining);
    assert_eq!(told(buckets.take(now, &key_of(1, 7, 2))), (Scope::Key, true, 1));
    assert_eq!(told(buckets.take(now, &key_of(1, 7, 2))), (Scope::Key, false, 1));
    assert_eq!(
        told(buckets.take(now, &user(1, 0))),
        (Scope::User, true, 8),
        "a refusal by the key costs the user nothing"
    );
    buckets.take(now, &user(1, 8));
    let refused = buckets.take(now, &key_of(1, 7, 3));
    assert_eq!(told(refused), (Scope::User, false, 0), "both refuse; the user waits longer");
    assert_eq!(refused.verdict.retry_after, Duration::from_secs(3));
    assert_eq!(
        told(buckets.take(now, &key_of(2, 7, 1))),
        (Scope::Key, true, 0),
        "which cost the key nothing"
    );
}

#[test]
fn a_bucket_whose_quota_changed_starts_full() {
    let (mut buckets, _) = buckets(10);
    let now = Micros(0);
    buckets.take(now, &user(1, 10));
    let more = Quota { permits: 7, ..config().user };
    let decision = buckets.take(now, &Charges::one(Scope::User, user_key(1), more, 1));
    assert_eq!((decision.verdict.allowed, decision.verdict.remaining), (true, 9));
}

const fn tag(number: u8) -> AccountTag {
    [number; 16]
}

fn network(number: u8) -> Network {
    Network::of(std::net::Ipv4Addr::new(10, 0, number, 1).into())
}

fn accounts(capacity: usize) -> Accounts {
    Accounts::new(capacity, ShardMetrics::default().accounts)
}

#[test]
fn a06_accounts_without_room_are_counted_together_and_clear_only_themselves() {
    let mut accounts = accounts(1);
    let now = Micros(3_600 * SECOND);
    // Account 1 waits, so it keeps its place.
    for _ in 0..Rule::DEFAULT.free {
        accounts.admit(now, tag(1), network(1), false).unwrap();
    }
    for account in 2..12 {
        accounts.admit(now, tag(account), network(account), false).unwrap();
    }
    assert!(accounts.admit(now, tag(50), network(50), false).is_err(), "one entry for all newcomers");
    accounts.looked(tag(2), network(2), LookEnd::Right);
    accounts.admit(now, tag(2), network(2), false).unwrap();
    assert!(accounts.admit(now, tag(50), network(50), false).is_err(), "one right password freed one try");
    // When account 1 waits for nothing any more, it makes room.
    let later = Micros(now.0 + 2 * SECOND);
    accounts.admit(later, tag(60), network(60), false).unwrap();
    assert!(accounts.admit(later, tag(50), network(50), false).is_ok());
}

#[test]
fn a06_a_full_table_forgets_first_who_was_hardly_guessed_at() {
    let mut accounts = accounts(2);
    let now = Micros(3_600 * SECOND);
    for _ in 0..Rule::DEFAULT.free {
        accounts.admit(now, tag(1), network(1), false).unwrap();
    }
    accounts.admit(now, tag(2), network(2), false).unwrap();
    // Neither waits any more; account 3 takes the place of account 2.
    let later = Micros(now.0 + 2 * SECOND);
    accounts.admit(later, tag(3), network(3), false).unwrap();
    accounts.admit(later, tag(1), network(1), false).unwrap();
    assert!(accounts.admit(later, tag(1), network(1), false).is_err(), "its failures are remembered");
}

#[test]
fn a06_a_try_is_taken_back_only_from_where_it_was_counted() {
    let mut accounts = accounts(1);
    let now = Micros(3_600 * SECOND);
    // Account 1 has one failure and is forgotten for account 2, which waits and stays.
    accounts.admit(now, tag(1), network(1), false).unwrap();
    for _ in 0..Rule::DEFAULT.free {
        accounts.admit(now, tag(2), network(2), false).unwrap();
    }
    for account in 10..20 {
        accounts.admit(now, tag(account), network(1), false).unwrap();
    }
    accounts.looked(tag(1), network(1), LookEnd::Undone);
    assert!(accounts.admit(now, tag(50), network(1), false).is_err(), "the shared entry lost nothing");
    accounts.looked(tag(10), network(1), LookEnd::Undone);
    assert!(accounts.admit(now, tag(50), network(1), false).is_ok());
}
