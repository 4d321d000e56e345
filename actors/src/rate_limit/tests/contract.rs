//! What every backend promises, asked through the room's handle. Nothing here waits, so that it is the same on paused time
//! and on a server's clock; the quotas are too slow to refill meanwhile.

use domain::id::ApiKeyId;

use super::*;

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
        Principal { credential: Credential::Key { id, scopes: Default::default(), limits }, ..*of }
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
