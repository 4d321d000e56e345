use std::time::Duration;

use domain::{
    guessing::Rule,
    id::{TurnId, UserId},
    quota::Quota,
    session::Network,
};

use super::*;
use crate::rate_limit::{
    AccountTag, Decision, RateLimitConfig, Scope,
    key::{Charge, Charges, Key},
    message::LookEnd,
    tests::proof,
    turn::{Hold, Kept},
};

const SECOND: u64 = 1_000_000;

/// A permit per second, ten at once, for users and five times that for addresses.
fn buckets(keys: usize) -> (Buckets, ShardMetrics) {
    let metrics = ShardMetrics::default();
    let config = RateLimitConfig { keys_per_shard: keys, ..config() };
    (Buckets::new(&config.into_live(), &metrics), metrics)
}

#[test]
fn those_who_share_a_bucket_go_by_the_newest_limits() {
    let live = RateLimitConfig { keys_per_shard: 1, ..config() }.into_live();
    let mut buckets = Buckets::new(&live, &ShardMetrics::default());
    buckets.take(Micros(0), &user(1, 1));
    let shared = |buckets: &mut Buckets| buckets.take(Micros(0), &user(2, 1)).verdict;
    assert_eq!((shared(&mut buckets).quota.burst, shared(&mut buckets).remaining), (10, 8));
    live.rcu(|config| config.followed_by(&RateLimitConfig::new(60, 3)));
    assert_eq!((shared(&mut buckets).quota.burst, shared(&mut buckets).remaining), (3, 1));
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
fn c4_a_network_that_fills_the_table_leaves_newcomers_from_elsewhere_their_share() {
    let (mut buckets, metrics) = buckets(10);
    let log_in = |address: std::net::IpAddr| Charges::one(Scope::LogIn, address.into(), config().log_in, 1);
    let v6 = |network: u128| std::net::IpAddr::from(std::net::Ipv6Addr::from_bits(network << 64));
    // One /48 with all its 65,536 networks.
    for network in 0..1 << 16 {
        buckets.take(Micros(0), &log_in(v6(0x2001_0db8_0001_0000 | network)));
    }
    assert!(metrics.of(Scope::LogIn).overflow.get() > 65_000);
    let is_let_in =
        |charges: &Charges, buckets: &mut Buckets| buckets.take(Micros(0), charges).verdict.allowed;
    // Nobody of IPv4 shares with it, and of other networks hardly anybody.
    assert!(is_let_in(&log_in([192, 0, 2, 1].into()), &mut buckets));
    let others = (2..200).map(|site: u128| log_in(v6(0x2001_0db8_0000_0000 | site << 16)));
    let let_in = others.filter(|charges| is_let_in(charges, &mut buckets)).count();
    assert!(let_in > 150, "{let_in} of 198");
    assert!(!is_let_in(&log_in(v6(0x2001_0db8_0001_ffff)), &mut buckets), "its own newcomers share");
}

#[test]
fn c6_reserves_of_those_without_room_are_given_back_to_the_bucket_they_share() {
    let (mut buckets, _) = buckets(1);
    let now = Micros(0);
    let quota = RateLimitConfig::per_minute(600, 600);
    let turn = |number, cost| {
        let tokens = Charge { scope: Scope::Tokens, key: user_key(number), quota, cost };
        Charges { more: vec![tokens], ..user(number, 1) }
    };
    let held = |(decision, holds): (Decision, Vec<Hold>)| {
        assert!(decision.verdict.allowed, "{decision:?}");
        holds[0]
    };
    let own = held(buckets.pay(now, &turn(1, 400)));
    let shared = held(buckets.pay(now, &turn(2, u32::MAX)));
    assert_eq!((own.kept, own.amount), (Kept::Own, 400));
    assert_eq!((shared.kept, shared.amount), (Kept::Shared, 600), "no more than its own bucket would hold");
    buckets.settle(now, &shared, 100);
    let (shared, _) = buckets.pay(now, &turn(3, 1));
    let tokens_left = shared.said().last().unwrap().verdict.remaining;
    assert_eq!(tokens_left, config().quota(Scope::Tokens).burst - 101);
    buckets.settle(now, &own, 0);
    assert_eq!(buckets.take(now, &turn(1, 0)).said().last().unwrap().verdict.remaining, 600);
}

#[test]
fn c6_a_debt_is_remembered_though_its_bucket_was_forgotten() {
    let (mut buckets, _) = buckets(10);
    let quota = RateLimitConfig::per_minute(600, 600);
    let hold = Hold { scope: Scope::Tokens, key: user_key(1), quota, amount: 10, kept: Kept::Own };
    buckets.settle(Micros(0), &hold, 5);
    assert_eq!(buckets.table(Scope::Tokens).len(), 0, "what was forgotten was full");
    buckets.settle(Micros(0), &hold, 700);
    let refused = buckets.take(Micros(0), &Charges::one(Scope::Tokens, user_key(1), quota, 1));
    assert_eq!((refused.verdict.allowed, refused.verdict.retry_after), (false, Duration::from_millis(9_100)));
    // Under another quota it is another bucket.
    let other = RateLimitConfig::per_minute(60, 60);
    assert!(buckets.take(Micros(0), &Charges::one(Scope::Tokens, user_key(1), other, 60)).verdict.allowed);
    buckets.settle(Micros(0), &hold, 0);
    assert!(!buckets.take(Micros(0), &Charges::one(Scope::Tokens, user_key(1), other, 1)).verdict.allowed);
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
    let mut shards: Vec<_> =
        metrics.iter().map(|metrics| Buckets::new(&config.clone().into_live(), metrics)).collect();

    let full = flood(&mut shards, 0, 200_000);
    assert!(metrics.iter().all(|shard| shard.of(Scope::Address).overflow.get() > 0), "every table is full");
    // A thousand for each of the calls of a proof.
    let sources = proof().map_or(1_000_000, |count| 1_000 * count as u64);
    let after = flood(&mut shards, 200_000, sources.saturating_sub(200_000));
    println!("{sources} sources of IPv6: {full} bytes when all tables were full, then {after}");
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
    assert_eq!(refused.verdict.retry_after, Duration::from_secs(3));
    assert_eq!(told(refused), (Scope::User, false, 0), "both refuse; the user waits longer");
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

const LIFETIME: Duration = Duration::from_secs(60);

fn streams(users: usize) -> (Streams, ShardMetrics) {
    let metrics = ShardMetrics::default();
    (Streams::new(users, LIFETIME, metrics.streams.clone()), metrics)
}

fn turn(number: u128) -> TurnId {
    uuid::Uuid::from_u128(number).into()
}

fn at(seconds: u64) -> Micros {
    Micros(seconds * SECOND)
}

#[test]
fn c7_a_lease_runs_out_unless_it_is_renewed() {
    let (mut streams, _) = streams(10);
    let ada = user_key(1);
    assert!(streams.lease(at(0), ada, turn(1), 2) && streams.lease(at(0), ada, turn(2), 2));
    streams.renew(at(59), ada, &[turn(1)]);
    assert!(!streams.lease(Micros(60 * SECOND - 1), ada, turn(3), 2));
    assert!(streams.lease(at(60), ada, turn(3), 2), "the second turn's lease has run out");
    assert!(!streams.lease(at(118), ada, turn(4), 2));
    assert!(streams.lease(at(119), ada, turn(4), 2), "and the first one's, a minute after it was renewed");
}

#[test]
fn c7_a_turn_that_is_released_or_asks_again_counts_once_at_most() {
    let (mut streams, _) = streams(10);
    let (ada, bob) = (user_key(1), user_key(2));
    for _ in 0..3 {
        assert!(streams.lease(at(0), ada, turn(1), 1), "its own lease is not in its way");
    }
    assert!(!streams.lease(at(0), ada, turn(2), 1));
    assert!(streams.lease(at(0), bob, turn(3), 1), "other users are not, either");
    for _ in 0..2 {
        streams.release(ada, turn(1));
    }
    assert!(streams.lease(at(0), ada, turn(2), 1));
    assert!(!streams.lease(at(0), bob, turn(4), 1));
}

#[test]
fn c7_renewing_makes_known_what_was_forgotten() {
    let (mut streams, _) = streams(10);
    streams.renew(at(0), user_key(1), &[turn(1), turn(2)]);
    assert!(!streams.lease(at(59), user_key(1), turn(3), 2));
    assert!(streams.lease(at(60), user_key(1), turn(3), 2));
}

#[test]
fn c4_users_with_running_turns_keep_their_entries_and_newcomers_share_one() {
    let (mut streams, metrics) = streams(2);
    for number in 1..=2 {
        assert!(streams.lease(at(0), user_key(number), turn(number), 1));
    }
    let granted = (3..=20).filter(|number| streams.lease(at(0), user_key(*number), turn(*number), 1)).count();
    assert_eq!((granted, metrics.streams.overflow.get()), (1, 18));
    streams.release(user_key(3), turn(3));
    assert!(streams.lease(at(0), user_key(20), turn(20), 1), "what is shared is given back, too");
    streams.release(user_key(1), turn(1));
    assert!(streams.lease(at(1), user_key(30), turn(30), 1));
    assert_eq!(metrics.streams.keys.get(), 2, "who runs nothing makes room");
    assert!(!streams.lease(at(1), user_key(2), turn(31), 1), "who runs something is remembered");
}
