//! A server that is away, slow or back.

use super::*;

/// Longest a caller may notice that the server is away: the patience of a question and some work (C3).
const NOTICED: Duration = Duration::from_millis(60);
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

/// Takes one after the other and tells how many were allowed; one in fifty may be late on a busy machine.
async fn hammer(room: &Room, number: u128, times: usize) -> usize {
    let (mut allowed, mut late) = (0, Vec::new());
    for _ in 0..times {
        let asked = Instant::now();
        allowed += usize::from(take(room, number).await.verdict.allowed);
        late.extend(Some(asked.elapsed()).filter(|elapsed| *elapsed > NOTICED));
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
    assert!(asked.elapsed() < 5 * NOTICED, "an open breaker costs nothing: {:?}", asked.elapsed());
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_four_instances_admit_exactly_what_one_would() {
    let server = Redis::start().await.unwrap();
    let rooms = join_all((0..4).map(|_| room_at(&server, slow(1_234)))).await;
    let mut admitted = 0;
    // Ten thousand, no more at once than the patience of this test's machine.
    for _ in 0..20 {
        let takes = (0..500).map(|number| take(&rooms[number % 4], 1));
        admitted += join_all(takes).await.iter().filter(|decision| decision.verdict.allowed).count();
    }
    assert_eq!(admitted, 1_234);
    for room in rooms {
        assert_eq!(room.fallbacks(), 0);
        room.end().await;
    }
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
