//! What every backend promises, asked through the room's handle. Nothing here waits, so that it is the same on paused time
//! and on a server's clock; the quotas are too slow to refill meanwhile.

use domain::id::{ApiKeyId, TurnId, UserId};

use super::*;
use crate::clock::fresh_id;

/// Runs the whole contract in memory, where both rooms are one, and on two rooms that share a server.
macro_rules! contract {
    ($($name:ident)+) => {
        mod memory {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let room = super::super::room(super::super::slow(100)).await;
                    super::$name(&room.limits, &room.limits).await;
                    room.end().await;
                }
            )+
        }

        mod redis {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let server = support::redis::Redis::shared().await.unwrap();
                    let one = super::super::room_at(server, super::super::slow(100)).await;
                    let other = super::super::room_at(server, super::super::slow(100)).await;
                    super::$name(&one.limits, &other.limits).await;
                    for room in [one, other] {
                        assert_eq!(room.fallbacks(), 0, "the server answered everything");
                        room.end().await;
                    }
                }
            )+
        }
    };
}

contract! {
    c1_a_thousand_concurrent_takes_admit_exactly_the_burst
    c2_a_key_and_its_user_pay_together_or_not_at_all
    c6_concurrent_turns_reserve_exactly_what_the_budget_holds
    c6_what_a_turn_did_not_spend_is_given_back_and_what_it_spent_beyond_is_owed
    c6_a_turn_pays_every_bucket_or_none
    c7_of_a_hundred_turns_at_once_exactly_as_many_run_as_may
    c7_a_turn_that_asks_twice_or_is_released_twice_counts_once
    c7_a_renewed_lease_counts_also_where_it_was_forgotten
    a05_ten_sign_ups_of_one_address_and_no_more
    a06_five_log_ins_of_one_address_and_no_more
    a06_a_thousand_wrong_passwords_from_a_hundred_networks_get_at_most_a_hundred_looks
    a06_failures_are_forgotten_by_a_right_password_and_taken_back_when_nobody_looked
}

/// Of nobody else, so that rooms on one server do not meet by accident.
fn stranger() -> Principal {
    user(Uuid::now_v7().as_u128())
}

/// The random half of the identity is its network.
fn address() -> IpAddr {
    std::net::Ipv6Addr::from_bits(Uuid::now_v7().as_u128().rotate_left(64)).into()
}

fn account() -> AccountTag {
    Uuid::now_v7().into_bytes()
}

fn network(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, number, 1).into()
}

/// How many of `asks`, all at the same time and half of them by either room, are allowed.
async fn allowed<F: Future<Output = bool>>(
    rooms: [&RateLimitHandle; 2],
    asks: usize,
    ask: impl Fn(RateLimitHandle, usize) -> F,
) -> usize {
    let asked = (0..asks).map(|number| ask(rooms[number % 2].clone(), number));
    join_all(asked).await.into_iter().filter(|allowed| *allowed).count()
}

async fn c1_a_thousand_concurrent_takes_admit_exactly_the_burst(
    one: &RateLimitHandle,
    other: &RateLimitHandle,
) {
    let ada = stranger();
    let admitted = allowed([one, other], 1_000, async |limits, _| {
        limits.take_principal(&ada, 1).await.unwrap().unwrap().verdict.allowed
    });
    assert_eq!(admitted.await, 100);
    let refused = other.take_principal(&ada, 1).await.unwrap().unwrap();
    assert_eq!((refused.scope, refused.verdict.allowed), (Scope::User, false));
    assert!(refused.verdict.retry_after > Duration::from_secs(30 * 60), "one flows back each hour");
    assert!(one.take_principal(&stranger(), 1).await.unwrap().unwrap().verdict.allowed);
}

async fn c2_a_key_and_its_user_pay_together_or_not_at_all(one: &RateLimitHandle, other: &RateLimitHandle) {
    let key = |of: &Principal, burst: u32| {
        let limits = Limits { requests_per_minute: Some(3 * burst), ..Limits::default() };
        let id = ApiKeyId::from(Uuid::now_v7());
        Principal {
            credential: Credential::Key { id, scopes: Default::default(), limits, models: None },
            ..of.clone()
        }
    };
    let ada = stranger();
    let (small, large) = (key(&ada, 10), key(&ada, 1_000));
    let admitted = allowed([one, other], 50, async |limits, _| {
        limits.take_principal(&small, 1).await.unwrap().unwrap().verdict.allowed
    });
    assert_eq!(admitted.await, 10);
    let refused = other.take_principal(&small, 1).await.unwrap().unwrap();
    assert_eq!((refused.scope, refused.verdict.allowed), (Scope::Key, false));
    let told = one.take_principal(&ada, 0).await.unwrap().unwrap();
    assert_eq!((told.scope, told.verdict.remaining), (Scope::User, 90), "refusals cost the user nothing");
    let admitted = allowed([one, other], 200, async |limits, _| {
        limits.take_principal(&large, 1).await.unwrap().unwrap().verdict.allowed
    });
    assert_eq!(admitted.await, 90);
    let refused = one.take_principal(&large, 1).await.unwrap().unwrap();
    assert_eq!((refused.scope, refused.verdict.allowed), (Scope::User, false));
}

async fn c7_of_a_hundred_turns_at_once_exactly_as_many_run_as_may(
    one: &RateLimitHandle,
    other: &RateLimitHandle,
) {
    let (ada, bob) = (stranger().user, stranger().user);
    let asks = (0..100).map(|number| {
        let limits = [one, other][number % 2];
        async move { limits.lease_stream(ada, fresh_id(), 4).await.unwrap() }
    });
    let mut running: Vec<_> = join_all(asks).await.into_iter().flatten().collect();
    assert_eq!(running.len(), 4);
    assert!(
        one.lease_stream(bob, fresh_id(), 4).await.unwrap().is_some(),
        "one user's turns are not another's"
    );
    assert!(one.lease_stream(ada, fresh_id(), 5).await.unwrap().is_some(), "the asker says how many may run");
    let mut kept = Vec::new();
    while running.pop().is_some() {
        // Whichever room gave it back: it says so before it asks for the next one, and soon.
        let mut next = None;
        while next.is_none() {
            next = other.lease_stream(ada, fresh_id(), 4).await.unwrap();
        }
        kept.extend(next);
        assert!(other.lease_stream(ada, fresh_id(), 4).await.unwrap().is_none());
        assert!(one.lease_stream(ada, fresh_id(), 4).await.unwrap().is_none());
    }
}

async fn c7_a_turn_that_asks_twice_or_is_released_twice_counts_once(
    one: &RateLimitHandle,
    other: &RateLimitHandle,
) {
    let ada = stranger().user;
    let turn = fresh_id();
    let first = one.lease_stream(ada, turn, 1).await.unwrap().unwrap();
    let again = one.lease_stream(ada, turn, 1).await.unwrap().expect("it does not stand in its own way");
    assert!(other.lease_stream(ada, fresh_id(), 1).await.unwrap().is_none());
    drop(first);
    drop(again);
    let second = one.lease_stream(ada, fresh_id(), 1).await.unwrap().expect("it is free again");
    // One that asked in vain and one that never asked give back what is not theirs.
    assert!(one.lease_stream(ada, fresh_id(), 1).await.unwrap().is_none());
    release(one, ada, fresh_id());
    assert!(one.lease_stream(ada, fresh_id(), 1).await.unwrap().is_none());
    drop(second);
    assert!(one.lease_stream(ada, fresh_id(), 1).await.unwrap().is_some());
}

async fn c7_a_renewed_lease_counts_also_where_it_was_forgotten(
    one: &RateLimitHandle,
    other: &RateLimitHandle,
) {
    let (ada, turn) = (stranger().user, fresh_id());
    let lease = one.lease_stream(ada, turn, 1).await.unwrap().unwrap();
    release(one, ada, turn);
    renew(one, ada, turn);
    assert!(one.lease_stream(ada, fresh_id(), 1).await.unwrap().is_none());
    assert!(other.lease_stream(ada, fresh_id(), 1).await.unwrap().is_none());
    drop(lease);
    assert!(one.lease_stream(ada, fresh_id(), 1).await.unwrap().is_some());
}

fn release(limits: &RateLimitHandle, user: UserId, turn: TurnId) {
    let user = Key::from(user);
    let shards = limits.0.as_ref().unwrap();
    shards.of(user).tell(|permit| RateLimitMessage::Release { user, turn, permit }).unwrap();
}

fn renew(limits: &RateLimitHandle, user: UserId, turn: TurnId) {
    let user = Key::from(user);
    let shards = limits.0.as_ref().unwrap();
    shards.of(user).tell(|permit| RateLimitMessage::Renew { user, turns: vec![turn], permit }).unwrap();
}

async fn c6_concurrent_turns_reserve_exactly_what_the_budget_holds(
    one: &RateLimitHandle,
    other: &RateLimitHandle,
) {
    let ada = stranger();
    let rooms = [one, other];
    let asked = (0..90).map(|number| turn(rooms[number % 2], &ada, 100));
    let turns = join_all(asked).await;
    let admitted: Vec<_> = turns.into_iter().filter(|(decision, _)| decision.verdict.allowed).collect();
    assert_eq!(admitted.len(), 10, "of a thousand tokens");
    let (refused, _) = turn(one, &ada, 1).await;
    assert_eq!((refused.scope, refused.verdict.allowed), (Scope::Tokens, false));
    assert_eq!(left(&refused, Scope::User), 90, "refusals cost no request");
    assert!(turn(other, &stranger(), 1_000).await.0.verdict.allowed);
    // More than a bucket ever holds is reserved as all it holds.
    let (all, _reserve) = turn(one, &stranger(), u32::MAX).await;
    assert!(all.verdict.allowed && left(&all, Scope::Tokens) == 0);
}

async fn c6_what_a_turn_did_not_spend_is_given_back_and_what_it_spent_beyond_is_owed(
    one: &RateLimitHandle,
    _: &RateLimitHandle,
) {
    let ada = stranger();
    // What is settled is told to the room before its next question.
    let tokens_left = async || left(&turn(one, &ada, 1).await.0, Scope::Tokens) + 1;
    let (_, reserve) = turn(one, &ada, 600).await;
    reserve.settle(250);
    assert_eq!(tokens_left().await, 750);
    let (_, reserve) = turn(one, &ada, 700).await;
    drop(reserve);
    assert_eq!(tokens_left().await, 750, "all of it is back, twice");
    let (_, reserve) = turn(one, &ada, 700).await;
    reserve.settle(700);
    assert_eq!(tokens_left().await, 50);
    let (_, reserve) = turn(one, &ada, 50).await;
    reserve.settle(53);
    let (owing, _) = turn(one, &ada, 1).await;
    assert_eq!((owing.verdict.allowed, left(&owing, Scope::Tokens)), (false, 0));
    let hours = owing.verdict.retry_after.as_secs_f64() / 3_600.0;
    assert!((3.9..=4.0).contains(&hours), "three that are owed and one: {hours}");
    assert_eq!(owing.verdict.reset_after.as_secs() / 3_600, 1_002);
}

async fn c6_a_turn_pays_every_bucket_or_none(one: &RateLimitHandle, other: &RateLimitHandle) {
    let key = |of: &Principal, tokens: u32| {
        let limits = Limits { tokens_per_minute: Some(tokens), ..Limits::default() };
        let id = ApiKeyId::from(Uuid::now_v7());
        Principal {
            credential: Credential::Key { id, scopes: Default::default(), limits, models: None },
            ..of.clone()
        }
    };
    let ada = stranger();
    // A thousandth of a token flows back each minute, and the key's nearly at once.
    let thrifty = key(&ada, 100);
    let (first, held) = turn(one, &thrifty, 90).await;
    assert_eq!(
        (first.scope, left(&first, Scope::Tokens), left(&first, Scope::KeyTokens)),
        (Scope::KeyTokens, 910, 10)
    );
    let (refused, nothing) = turn(other, &thrifty, 90).await;
    assert_eq!((refused.scope, refused.verdict.allowed), (Scope::KeyTokens, false));
    assert_eq!((left(&refused, Scope::User), left(&refused, Scope::Tokens)), (99, 910));
    drop(nothing);
    held.settle(0);
    let (again, _) = turn(one, &thrifty, 90).await;
    assert!(again.verdict.allowed && left(&again, Scope::Tokens) == 910, "{again:?}");

    // What is set for an account stands in place of what everybody has.
    let limits = Limits { requests_per_minute: Some(3), tokens_per_minute: Some(7), ..Limits::default() };
    let eve = Principal { limits, ..stranger() };
    let (small, _reserve) = turn(one, &eve, 5).await;
    assert_eq!((left(&small, Scope::User), left(&small, Scope::Tokens)), (0, 2));
    assert!(
        !one.take_principal(&eve, 1).await.unwrap().unwrap().verdict.allowed,
        "one at once, of three a minute"
    );
}

async fn a05_ten_sign_ups_of_one_address_and_no_more(one: &RateLimitHandle, other: &RateLimitHandle) {
    let here = address();
    let admitted = allowed([one, other], 50, async |limits, _| {
        limits.take_sign_up(here).await.unwrap().unwrap().verdict.allowed
    });
    assert_eq!(admitted.await, 10);
    let refused = one.take_sign_up(here).await.unwrap().unwrap();
    assert_eq!(refused.scope, Scope::SignUp);
    let wait = refused.verdict.retry_after;
    assert!(Duration::from_secs(5 * 60) < wait && wait <= Duration::from_secs(6 * 60), "{wait:?}");
}

async fn a06_five_log_ins_of_one_address_and_no_more(one: &RateLimitHandle, other: &RateLimitHandle) {
    let here = address();
    let admitted = allowed([one, other], 50, async |limits, _| {
        limits.take_log_in(here).await.unwrap().unwrap().verdict.allowed
    });
    assert_eq!(admitted.await, 5);
    let refused = other.take_log_in(here).await.unwrap().unwrap();
    assert_eq!(refused.scope, Scope::LogIn);
    assert!(refused.verdict.retry_after <= Duration::from_secs(12), "five a minute");
    assert!(one.take_address(here, 1).await.unwrap().unwrap().verdict.allowed, "requests are counted apart");
}

async fn a06_a_thousand_wrong_passwords_from_a_hundred_networks_get_at_most_a_hundred_looks(
    one: &RateLimitHandle,
    other: &RateLimitHandle,
) {
    let ada = account();
    let looks = allowed([one, other], 1_000, async |limits, number| {
        let from = network(u8::try_from(number % 100).unwrap());
        limits.guess(ada, from, false).await.unwrap() == Guess::Admitted
    });
    // At once, only the free ones; the requirement allows a hundred.
    assert_eq!(looks.await, 10);
    let home = network(200);
    let Guess::Refused { retry_after, by_account_alone } = other.guess(ada, home, false).await.unwrap()
    else {
        panic!("a stranger got in");
    };
    assert!(by_account_alone && retry_after <= Duration::from_secs(1));
    assert_eq!(
        other.guess(ada, home, true).await.unwrap(),
        Guess::Admitted,
        "the owner, from a known network"
    );
}

async fn a06_failures_are_forgotten_by_a_right_password_and_taken_back_when_nobody_looked(
    one: &RateLimitHandle,
    other: &RateLimitHandle,
) {
    let (ada, home) = (account(), network(1));
    let admitted =
        async |limits: &RateLimitHandle| limits.guess(ada, home, false).await == Ok(Guess::Admitted);
    for _ in 0..10 {
        assert!(admitted(one).await);
    }
    assert!(!admitted(other).await);
    one.guess_undone(ada, home);
    assert!(admitted(one).await);
    assert!(!admitted(other).await);
    one.guessed_right(ada, home);
    // The next question of the same room comes after it.
    for _ in 0..10 {
        assert!(admitted(one).await);
    }
    assert!(!admitted(other).await);
}
