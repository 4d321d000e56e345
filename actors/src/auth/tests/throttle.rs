//! A5, A6: how fast passwords can be guessed and accounts be made.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use domain::audit::{AuditEvent, AuditFilter};

use super::{
    bench::{Bench, EMAIL, PASSWORD, secret},
    log::Diary,
};
use crate::auth::{AuthError, Origin};

pub(super) fn from(address: [u8; 4]) -> Origin {
    Origin { address: Some(IpAddr::from(address)), ..Origin::default() }
}

const HASHES: &str = "deepersensor_password_hash_seconds_count";

impl Bench {
    async fn guess(&self, email: &str, origin: Origin) -> AuthError {
        self.auth.log_in(email, secret("a wrong guess"), origin).await.unwrap_err()
    }
}

fn is_throttled(error: &AuthError) -> bool {
    matches!(error, AuthError::Throttled { .. })
}

#[tokio::test]
async fn a06_an_address_has_five_log_ins_at_once_and_then_waits() {
    let bench = Bench::start_limited().await;
    bench.sign_up().await;
    for _ in 0..5 {
        bench.auth.log_in(EMAIL, secret(PASSWORD), from([192, 0, 2, 1])).await.unwrap();
    }
    let hashed = bench.metric(HASHES);
    let refused = bench.auth.log_in(EMAIL, secret(PASSWORD), from([192, 0, 2, 1])).await.unwrap_err();
    let AuthError::Throttled { retry_after } = refused else { panic!("{refused}") };
    assert!(retry_after <= Duration::from_secs(12), "{retry_after:?}: five a minute");
    assert_eq!(bench.metric(HASHES), hashed, "nothing was hashed");
    assert_eq!(bench.metric("deepersensor_sign_ins_total{action=\"log_in\",outcome=\"throttled\"}"), 1);
    bench.auth.log_in(EMAIL, secret(PASSWORD), from([192, 0, 2, 2])).await.expect("another address");
    bench.stop().await;
}

#[tokio::test]
async fn a06_an_account_waits_after_ten_failures_whoever_made_them_and_whether_or_not_it_exists() {
    let bench = Bench::start_limited().await;
    bench.sign_up().await;
    for email in [EMAIL, "nobody@example.org"] {
        for network in 0..10 {
            let refused = bench.guess(email, from([10, 0, network, 1])).await;
            assert_eq!(refused, AuthError::BadCredentials, "{email} from network {network}");
        }
        let hashed = bench.metric(HASHES);
        let refused = bench.guess(email, from([10, 1, 0, 1])).await;
        assert!(is_throttled(&refused), "{email}: {refused}");
        assert_eq!(bench.metric(HASHES), hashed, "nothing was hashed");
    }
    bench.stop().await;
}

#[tokio::test]
async fn a06_the_owner_gets_in_from_where_they_are_known_while_strangers_wait() {
    let bench = Bench::start_limited().await;
    bench.sign_up().await;
    let home = || from([192, 0, 2, 1]);
    bench.auth.log_in(EMAIL, secret(PASSWORD), home()).await.unwrap();
    for network in 0..20 {
        bench.guess(EMAIL, from([10, 0, network, 1])).await;
    }
    let stranger = bench.auth.log_in(EMAIL, secret(PASSWORD), from([10, 1, 0, 1])).await.unwrap_err();
    assert!(is_throttled(&stranger), "{stranger}");
    bench.auth.log_in(EMAIL, secret(PASSWORD), home()).await.expect("known from here");

    bench.wait_by_the_wall(31 * 86_400);
    let forgotten = bench.auth.log_in(EMAIL, secret(PASSWORD), home()).await.unwrap_err();
    assert!(is_throttled(&forgotten), "{forgotten}");
    bench.stop().await;
}

#[tokio::test]
async fn a06_a_right_password_forgets_the_failures_of_its_network() {
    let bench = Bench::start_limited().await;
    bench.sign_up().await;
    // Different hosts of one network, so that only the failures count.
    for round in 0..3 {
        for host in 0..9 {
            let refused = bench.guess(EMAIL, from([10, 0, 0, round * 10 + host])).await;
            assert_eq!(refused, AuthError::BadCredentials, "round {round}, host {host}");
        }
        let right = bench.auth.log_in(EMAIL, secret(PASSWORD), from([10, 0, 0, 100 + round])).await;
        right.expect("the tenth");
    }
    bench.stop().await;
}

#[tokio::test]
async fn a06_a_password_that_could_not_be_looked_at_is_no_guess() {
    let bench = Bench::start_limited().await;
    bench.stop_store().await;
    for host in 0..15 {
        let refused = bench.guess(EMAIL, from([10, 0, 0, host])).await;
        assert!(matches!(refused, AuthError::Unavailable(_)), "try {host}: {refused}");
    }
    bench.stop().await;
}

#[tokio::test]
async fn a06_without_the_limiter_nothing_is_looked_at() {
    let bench = Bench::start_limited().await;
    bench.sign_up().await;
    bench.stop_limits().await;
    let hashed = bench.metric(HASHES);
    let refused = bench.auth.log_in(EMAIL, secret(PASSWORD), from([10, 0, 0, 1])).await.unwrap_err();
    assert!(matches!(refused, AuthError::Unavailable(_)), "{refused}");
    let refused = bench.auth.sign_up("eve@example.org", secret(PASSWORD), None, from([10, 0, 0, 1])).await;
    assert!(matches!(refused, Err(AuthError::Unavailable(_))), "{refused:?}");
    assert_eq!(bench.metric(HASHES), hashed, "nothing was hashed");
    bench.stop().await;
}

#[tokio::test]
async fn a06_guessing_the_current_password_is_throttled_as_at_log_in() {
    let bench = Bench::start_limited().await;
    let owner = bench.owner().await.principal;
    let change = |current: &'static str, host| {
        let new = secret("another four words");
        bench.auth.change_password(&owner, secret(current), new, false, from([10, 0, 0, host]))
    };
    for host in 0..10 {
        let refused = change("a wrong guess", host).await.unwrap_err();
        assert_eq!(refused, AuthError::BadCredentials, "{host}");
    }
    let refused = change(PASSWORD, 10).await.unwrap_err();
    assert!(is_throttled(&refused), "{refused}");
    let refused = bench.auth.log_in(EMAIL, secret(PASSWORD), from([10, 0, 0, 11])).await.unwrap_err();
    assert!(is_throttled(&refused), "one count for both: {refused}");
    bench.stop().await;
}

#[tokio::test]
async fn a05_an_address_has_ten_sign_ups_and_then_waits() {
    let bench = Bench::start_limited().await;
    let sign_up = |n: usize, origin| {
        let email = format!("ada{n}@example.org");
        let auth = bench.auth.clone();
        async move { auth.sign_up(&email, secret(PASSWORD), None, origin).await }
    };
    for n in 0..10 {
        sign_up(n, from([10, 0, 0, 1])).await.unwrap();
    }
    let refused = sign_up(10, from([10, 0, 0, 1])).await.unwrap_err();
    assert!(is_throttled(&refused), "{refused}");
    sign_up(10, from([10, 0, 0, 2])).await.expect("another address");
    bench.stop().await;
}

#[tokio::test]
async fn a19_a_lock_is_told_once_a_minute_and_names_the_account_if_there_is_one() {
    let bench = Bench::start_limited().await;
    let ada = bench.auth.sign_up(EMAIL, secret(PASSWORD), None, Origin::default()).await.unwrap();
    for email in [EMAIL, "nobody@example.org"] {
        for network in 0..25 {
            bench.guess(email, from([10, 0, network, 1])).await;
        }
    }
    let filter = AuditFilter { event: Some(AuditEvent::AuthnLoginLock), ..AuditFilter::default() };
    let locks = bench.trail(filter, 2).await;
    let users: Vec<_> = locks.iter().map(|lock| lock.user).collect();
    assert_eq!(users, [None, Some(ada.id)]);
    bench.stop().await;
}

#[tokio::test]
async fn a19_a_lock_whose_account_could_not_be_asked_for_says_so_in_the_log() {
    let diary = Diary::default();
    let bench = Bench::start_limited().await;
    bench.sign_up().await;
    for host in 0..10 {
        bench.guess(EMAIL, from([10, 0, 0, host])).await;
    }
    bench.stop_store().await;
    let hears = diary.listen();
    let refused = bench.guess(EMAIL, from([10, 0, 0, 10])).await;
    drop(hears);
    assert!(is_throttled(&refused), "{refused}");
    assert_eq!(diary.lines("auth.lock.account_unknown").len(), 1);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a05_unknown_and_known_accounts_are_refused_in_the_same_time() {
    const PAIRS: usize = 200;
    let bench = Bench::start().await;
    bench.sign_up().await;
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        for (email, times) in [(EMAIL, &mut known), ("nobody@example.org", &mut unknown)] {
            let began = Instant::now();
            assert_eq!(bench.guess(email, Origin::default()).await, AuthError::BadCredentials);
            times.push(began.elapsed().as_secs_f64());
        }
    }
    // Other tests share the cores: the quickest tries are those that waited for nobody.
    let quick = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 10]
    };
    let (known, unknown) = (quick(known), quick(unknown));
    let difference = (known - unknown).abs() / known;
    assert!(difference < 0.05, "{known} s and {unknown} s");
    bench.stop().await;
}
