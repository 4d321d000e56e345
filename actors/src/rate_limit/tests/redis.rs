//! A server that is away, slow or back.

use domain::id::UserId;
use futures_util::{StreamExt as _, stream};

use super::*;
use crate::clock::fresh_id;

/// Longest a caller may notice that the server is away: the patience of a question and some work (C3).
const NOTICED: Duration = Duration::from_millis(60);
fn noticed() -> Duration {
    if proof().is_some() { NOTICED } else { 5 * NOTICED }
}

/// Until all instances count together again (C3).
const BACK: Duration = Duration::from_secs(5);

/// One of four instances, with the patience of production.
async fn instance(server: &Redis) -> Room {
    let config = RateLimitConfig { instance_count: 4, ..slow(100) };
    room(RateLimitConfig { redis_url: Some(Secret::new(server.url())), ..config }).await
}

async fn take(room: &Room, number: u128) -> Decision {
    room.limits.take_principal(&user(number), 1).await.expect("never an error").unwrap()
}

/// Takes one after the other and tells how many were allowed; one in fifty may be late, or rather later where neighbours
/// compile on the same cores.
async fn hammer(room: &Room, number: u128, times: usize) -> usize {
    let (mut allowed, mut late) = (0, Vec::new());
    for _ in 0..times {
        let asked = Instant::now();
        allowed += usize::from(take(room, number).await.verdict.allowed);
        late.extend(Some(asked.elapsed()).filter(|elapsed| *elapsed > noticed()));
    }
    assert!(late.len() <= times / 50, "{late:?}");
    allowed
}

/// Waits until both rooms count together again: what one spends, the other sees.
async fn until_shared(rooms: [&Room; 2]) {
    let healed = Instant::now();
    for attempt in 0.. {
        assert!(healed.elapsed() < BACK, "still apart after {BACK:?}");
        let caller = 1_000 + attempt;
        let before = take(rooms[0], caller).await.verdict.remaining;
        if before == 99 && take(rooms[1], caller).await.verdict.remaining == 98 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for room in rooms {
        assert_eq!(room.metric("deepersensor_redis_up"), 1);
    }
}

/// What holds while the server does not answer, however it came to that.
async fn counts_alone_and_strictly(room: &Room) {
    // A quarter of the burst of 100, and no more.
    assert_eq!(hammer(room, 1, 60).await, 25);
    assert_eq!(room.metric("deepersensor_redis_up"), 0);
    assert!(room.fallbacks() >= 60);
    let here = "192.0.2.1".parse().unwrap();
    let mut log_ins = 0;
    for _ in 0..20 {
        log_ins += usize::from(room.limits.take_log_in(here).await.unwrap().unwrap().verdict.allowed);
    }
    assert_eq!(log_ins, 5, "the whole limit, not a share of it, and not open");
    let mut looks = 0;
    for _ in 0..20 {
        looks += usize::from(room.limits.guess([7; 16], here, false).await == Ok(Guess::Admitted));
    }
    assert_eq!(looks, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_a_killed_server_costs_no_error_and_is_found_again() {
    let server = Redis::start().await.unwrap();
    let (one, other) = (instance(&server).await, instance(&server).await);
    until_shared([&one, &other]).await;
    server.kill().unwrap();
    counts_alone_and_strictly(&one).await;
    counts_alone_and_strictly(&other).await;
    server.restart().await.unwrap();
    until_shared([&one, &other]).await;
    one.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_a_frozen_server_costs_sixty_milliseconds_a_few_times_and_then_nothing() {
    let server = Redis::start().await.unwrap();
    let (one, other) = (instance(&server).await, instance(&server).await);
    until_shared([&one, &other]).await;
    server.freeze().unwrap();
    counts_alone_and_strictly(&one).await;
    let asked = Instant::now();
    hammer(&one, 2, 100).await;
    assert!(asked.elapsed() < 5 * noticed(), "an open breaker costs nothing: {:?}", asked.elapsed());
    server.unfreeze().unwrap();
    until_shared([&one, &other]).await;
    one.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_a_start_without_a_server_warns_and_serves() {
    let server = Redis::start().await.unwrap();
    server.kill().unwrap();
    let (one, other) = (instance(&server).await, instance(&server).await);
    counts_alone_and_strictly(&one).await;
    server.restart().await.unwrap();
    until_shared([&one, &other]).await;
    one.end().await;
    other.end().await;
}

/// Users of a proof: so many that no shard is asked more at once than its gate lets in.
const USERS: usize = 8;

/// Asks `calls` times, each user as often as any other and each room in turn, and tells how many each user was allowed.
///
/// At full size all of them are under way at once; in the suite, no more than a busy machine bears.
async fn allowed_of<F: Future<Output = bool>>(calls: usize, ask: impl Fn(usize, u128) -> F) -> Vec<usize> {
    let at_once = if proof().is_some() { calls } else { 500 };
    let asked = (0..calls).map(|call| {
        let user = call / 4 % USERS;
        let answer = ask(call % 4, user as u128);
        async move { (user, answer.await) }
    });
    let answers: Vec<_> = stream::iter(asked).buffer_unordered(at_once).collect().await;
    let of = |user| answers.iter().filter(|answer| **answer == (user, true)).count();
    (0..USERS).map(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_c6_four_instances_admit_and_reserve_exactly_what_one_would() {
    let server = Redis::start().await.unwrap();
    let calls = proof().unwrap_or(10_000);
    let (requests, budget) = (calls / USERS / 3, calls / USERS / 5);
    let tokens = Some(Quota { burst: u32::try_from(10 * budget).unwrap(), ..slow(1).user });
    let config = || RateLimitConfig { tokens, ..slow(u32::try_from(requests).unwrap()) };
    let rooms = join_all((0..4).map(|_| room_at(&server, config()))).await;

    let begun = Instant::now();
    let allowed = allowed_of(calls, async |room: usize, user| take(&rooms[room], user).await.verdict.allowed);
    assert_eq!(allowed.await, [requests; USERS]);
    println!(
        "{calls} calls of {USERS} users at four instances, {requests} each admitted: {:?}",
        begun.elapsed()
    );

    // Other users, whose requests would suffice for a third of their turns, and their tokens for a fifth.
    let begun = Instant::now();
    let reserves = Mutex::new(Vec::new());
    let ask = async |room: usize, user| {
        let (decision, reserve) = turn(&rooms[room].limits, &super::user(100 + user), 10).await;
        reserves.lock().push((room, reserve));
        decision.verdict.allowed
    };
    assert_eq!(allowed_of(calls, ask).await, [budget; USERS]);
    println!("{calls} turns of {USERS} users, {budget} each admitted: {:?}", begun.elapsed());

    // Half of what was reserved comes back, so half as many turns can be had again.
    for (_, reserve) in reserves.into_inner() {
        reserve.settle(5);
    }
    for room in &rooms {
        for user in 0..USERS {
            take(room, 100 + user as u128).await;
        }
    }
    for user in 0..USERS {
        let (decision, _) = turn(&rooms[user % 4].limits, &super::user(100 + user as u128), 1).await;
        assert_eq!(left(&decision, Scope::Tokens), u32::try_from(5 * budget - 1).unwrap());
    }
    for room in rooms {
        assert_eq!((room.fallbacks(), room.metric("deepersensor_rate_limit_lost_settlements_total")), (0, 0));
        room.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c6_a_reserve_is_settled_where_it_was_made_or_flows_back() {
    let server = Redis::start().await.unwrap();
    let (one, other) = (instance(&server).await, instance(&server).await);
    until_shared([&one, &other]).await;
    let (_, there) = turn(&one.limits, &user(1), 600).await;
    server.kill().unwrap();
    // Of a quarter of the thousand.
    let (alone, here) = turn(&one.limits, &user(1), 200).await;
    assert_eq!(left(&alone, Scope::Tokens), 50);
    there.settle(0);
    let (alone, _) = turn(&one.limits, &user(1), 1).await;
    assert_eq!(left(&alone, Scope::Tokens), 49, "what was reserved there is not given back here");
    assert_eq!(one.metric("deepersensor_rate_limit_lost_settlements_total"), 1);

    server.restart().await.unwrap();
    until_shared([&one, &other]).await;
    let (shared, _) = turn(&one.limits, &user(2), 400).await;
    assert_eq!(left(&shared, Scope::Tokens), 600);
    let fallbacks = one.fallbacks();
    here.settle(0);
    assert_eq!(take(&one, 1).await.verdict.remaining, 99);
    server.kill().unwrap();
    let (alone, _) = turn(&one.limits, &user(1), 1).await;
    assert_eq!(left(&alone, Scope::Tokens), 249, "what was reserved here is back here");
    assert_eq!(one.fallbacks(), fallbacks + 1);
    one.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_a_server_that_forgot_the_scripts_is_taught_again() {
    let server = Redis::start().await.unwrap();
    let room = room_at(&server, slow(10)).await;
    take(&room, 1).await;
    server.run(&["SCRIPT", "FLUSH"]).await.unwrap();
    assert_eq!(take(&room, 1).await.verdict.remaining, 8);
    assert_eq!(room.fallbacks(), 0);
    room.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_a_server_that_can_only_be_read_is_one_that_is_away() {
    let server = Redis::start().await.unwrap();
    let room = room_at(&server, slow(100)).await;
    server.run(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await.unwrap();
    for _ in 0..10 {
        take(&room, 1).await;
    }
    assert_eq!((room.fallbacks(), room.metric("deepersensor_redis_up")), (10, 0));
    // It answers, but decides nothing: no reason to ask it again.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(room.metric("deepersensor_redis_up"), 0);
    room.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_idle_keys_vanish_and_every_name_is_ours() {
    let server = Redis::start().await.unwrap();
    let quick = Quota { permits: 1_000, period: Duration::from_secs(1), burst: 100 };
    let room = room_at(&server, RateLimitConfig { user: quick, ..slow(100) }).await;
    take(&room, 1).await;
    let address = "192.0.2.1".parse().unwrap();
    room.limits.take_address(address, 1).await.unwrap();
    room.limits.guess([1; 16], address, false).await.unwrap();
    let mut left = String::new();
    let patience = Instant::now() + Duration::from_secs(5);
    while Instant::now() < patience {
        left = server.run(&["KEYS", "*"]).await.unwrap();
        if left.starts_with("*2") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let names: Vec<_> = left.lines().filter(|line| !line.starts_with(['*', '$'])).collect();
    assert_eq!(names.len(), 2, "the user's bucket is full again: {left}");
    for name in names {
        assert!(name.starts_with("deepersensor:{"), "{name}");
        let ttl: i64 = server.run(&["PTTL", name]).await.unwrap()[1..].parse().unwrap();
        assert!(ttl > 0, "{name}: {ttl}");
    }
    room.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_connection_is_not_made_to_a_server_that_only_speaks_plainly() {
    let server = Redis::start().await.unwrap();
    let url = Some(Secret::new(server.url().replace("redis://", "rediss://")));
    let room = room(RateLimitConfig { redis_url: url, ..slow(100) }).await;
    assert!(take(&room, 1).await.verdict.allowed);
    assert_eq!((room.fallbacks(), room.metric("deepersensor_redis_up")), (1, 0));
    room.end().await;
}

#[tokio::test]
async fn an_address_that_is_none_is_told_without_its_password() {
    let url = Some(Secret::new("redis://:hunter2@[broken".to_owned()));
    let config = RateLimitConfig { redis_url: url, ..slow(1) };
    assert!(!format!("{config:?}").contains("hunter2"));
    let error = build(&context(), config).await.err().unwrap();
    assert!(error.to_string().contains("REDIS_URL") && !error.to_string().contains("hunter2"), "{error}");
}

/// Short, so that a test can see it end.
const LEASE: Duration = Duration::from_millis(900);

async fn lease(room: &Room, user: UserId, cap: u32) -> Option<StreamLease> {
    room.limits.lease_stream(user, fresh_id(), cap).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c7_leases_of_a_crashed_instance_run_out_and_those_of_a_living_one_do_not() {
    let server = Redis::start().await.unwrap();
    let config = RateLimitConfig { stream_lease: LEASE, ..slow(100) };
    let (crashed, living) = (room_at(&server, config.clone()).await, room_at(&server, config).await);
    let (ada, bob) = (fresh_id(), fresh_id());
    let lost = [lease(&crashed, ada, 2).await.unwrap(), lease(&crashed, ada, 2).await.unwrap()];
    let kept = lease(&living, bob, 1).await.unwrap();
    let names = server.run(&["KEYS", "*:streams"]).await.unwrap();
    for name in names.lines().filter(|line| line.starts_with("deepersensor:{")) {
        let ttl: u128 = server.run(&["PTTL", name]).await.unwrap()[1..].parse().unwrap();
        assert!(ttl <= LEASE.as_millis(), "{name}: {ttl}");
    }
    assert!(lease(&living, ada, 2).await.is_none());

    // Nobody renews and nobody releases any more.
    crashed.supervisor.stop().await;
    let crash = Instant::now();
    drop(lost);
    let mut taken = Vec::new();
    while taken.len() < 2 {
        assert!(crash.elapsed() < 5 * LEASE, "still not free");
        taken.extend(lease(&living, ada, 2).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(lease(&living, ada, 2).await.is_none());
    tokio::time::sleep(LEASE).await;
    assert!(lease(&living, bob, 1).await.is_none(), "whoever lives renews");
    drop((kept, taken));
    crashed.end().await;
    living.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c7_without_the_server_each_instance_counts_its_share_from_what_it_runs() {
    let server = Redis::start().await.unwrap();
    let config = RateLimitConfig { instance_count: 4, stream_lease: LEASE, ..slow(100) };
    let (one, other) = (room_at(&server, config.clone()).await, room_at(&server, config).await);
    let (ada, bob) = (fresh_id(), fresh_id());
    let running = lease(&one, ada, 8).await.unwrap();
    server.kill().unwrap();
    let more = lease(&one, ada, 8).await.expect("a quarter of eight is two, of which one runs");
    assert!(lease(&one, ada, 8).await.is_none());
    let least = lease(&one, bob, 1).await.expect("one at the least");
    assert!(lease(&one, bob, 1).await.is_none());
    assert!(lease(&other, bob, 1).await.is_some(), "it knows nothing of the others");
    assert_eq!(one.metric("deepersensor_redis_up"), 0);

    server.restart().await.unwrap();
    until_shared([&one, &other]).await;
    // Empty, and told again.
    let back = Instant::now();
    while lease(&other, ada, 2).await.is_some() || lease(&other, bob, 1).await.is_some() {
        assert!(back.elapsed() < 5 * LEASE, "still not told");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop((running, more, least));
    one.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c7_a_frozen_server_costs_a_turn_no_more_than_a_moment_and_loses_no_lease() {
    let server = Redis::start().await.unwrap();
    let one = instance(&server).await;
    let ada = fresh_id();
    let running = lease(&one, ada, 4).await.unwrap();
    server.freeze().unwrap();
    for _ in 0..20 {
        assert!(lease(&one, ada, 4).await.is_none(), "a quarter of four is one, and it runs");
    }
    drop(running);
    assert!(lease(&one, ada, 4).await.is_some(), "what ends meanwhile is free");
    server.unfreeze().unwrap();
    one.end().await;
}
