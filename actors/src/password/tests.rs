//! The room on real argon2, under load, kills and impatience.

use std::sync::Arc;

use futures_util::future::join_all;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use ractor::{ActorCell, ActorStatus, registry::where_is};
use tokio::task::yield_now;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::{clock::Clock, handle::GateCollector, supervisor::Root, tree::Tree};

struct Bench {
    passwords: PasswordHandle,
    kitchen_path: String,
    root: Root,
    context: RoomContext,
}

async fn start(system: &str, workers: usize) -> Bench {
    let context = RoomContext {
        system: system.into(),
        clock: Clock::system(),
        tracker: TaskTracker::new(),
        closing: CancellationToken::new(),
        registry: Arc::new(Mutex::new(Registry::default())),
        tree: Tree::new(),
        gates: GateCollector::new(),
    };
    let (passwords, spec) =
        build(&context, PasswordConfig { workers: Some(workers), ..Default::default() }).unwrap();
    let child = spec.into_child(PATH, system, context.tree.clone(), Default::default());
    let root = Root::start(system, Policy::default(), vec![child], context.tree.clone()).await.unwrap();
    let kitchen_path = child_name(system, &child_path(PATH, ACTOR));
    Bench { passwords, kitchen_path, root, context }
}

impl Bench {
    fn factory(&self) -> ActorCell {
        where_is(&self.kitchen_path).unwrap()
    }

    async fn stop(self) {
        self.root.stop().await;
        self.context.tracker.close();
        self.context.tracker.wait().await;
        assert_eq!(self.passwords.room.gate().in_use(), 0, "a permit was lost");
    }
}

fn password(text: &str) -> Password {
    Password::new(text.to_owned())
}

fn resident_kib() -> i64 {
    let pages: i64 =
        std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_matches_its_password_and_no_other() {
    let bench = start("password-match", 1).await;
    let hash = bench.passwords.hash(password("green tea at six")).await.unwrap();
    let verify = |text: &str, hash| bench.passwords.verify(password(text), hash);
    let good = verify("green tea at six", Some(hash.clone())).await.unwrap();
    assert_eq!(good, Verified { matches: true, is_stale: false });
    assert!(!verify("green tea at ten", Some(hash)).await.unwrap().matches);
    assert!(!verify("green tea at six", None).await.unwrap().matches);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a3_five_hundred_at_once_are_served_or_refused_and_only_as_many_as_wait_are_served() {
    let bench = start("password-flood", 2).await;
    let outcomes = join_all((0..500).map(|_| bench.passwords.verify(password("wrong"), None))).await;
    let served = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let refused = outcomes.iter().filter(|o| **o == Err(PasswordError::Overloaded)).count();
    assert_eq!(served + refused, 500, "nothing but an answer or a refusal");
    assert!(served >= 2, "{served} served");
    assert!(refused >= 500 - 2 * PLACES_PER_WORKER, "{refused} refused");
    bench.stop().await;
}

/// The other tests of this process hash too, so memory is measured in one of its own.
#[test]
fn a3_five_hundred_at_once_stay_within_the_memory_of_the_workers() {
    let alone = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "password::tests::memory_of_a_flood", "--ignored"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&alone.stdout);
    assert!(alone.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run, alone in its process, by a3_five_hundred_at_once_stay_within_the_memory_of_the_workers"]
async fn memory_of_a_flood() {
    let bench = start("password-memory", 2).await;
    let before = resident_kib();
    let seen = join_all((0..500).map(|_| async {
        // Either outcome will do: the other test judges them.
        let _ = bench.passwords.verify(password("wrong"), None).await;
        resident_kib()
    }))
    .await;
    let grown = seen.into_iter().max().unwrap() - before;
    let one = i64::from(HashCost::default().memory_kib);
    assert!(grown > one, "{grown} KiB: nothing was hashed");
    assert!(grown <= 2 * one + 32 * 1024, "{grown} KiB");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_left_cost_no_hash() {
    let bench = start("password-left", 1).await;
    let left: Vec<_> = (0..40)
        .map(|_| {
            let passwords = bench.passwords.clone();
            bench.context.tracker.spawn(async move { passwords.verify(password("x"), None).await })
        })
        .collect();
    while bench.passwords.room.gate().in_use() < 40 {
        yield_now().await;
    }
    for task in &left {
        task.abort();
    }
    bench.passwords.verify(password("x"), None).await.unwrap();
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &bench.context.registry.lock()).unwrap();
    let hashed: u32 = text
        .lines()
        .find_map(|line| line.strip_prefix("deepersensor_password_hash_seconds_count "))
        .unwrap()
        .parse()
        .unwrap();
    assert!(hashed < 40, "{hashed} hashes for one caller");
    bench.stop().await;
}

#[tokio::test]
async fn a_dead_factory_fails_its_callers_at_once_and_the_next_one_serves() {
    let bench = start("password-dead", 1).await;
    let waiting = bench.passwords.verify(password("x"), None);
    let kill = async {
        while bench.passwords.room.gate().in_use() < 1 {
            yield_now().await;
        }
        bench.factory().kill_and_wait(None).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(waiting, kill);
    // Unless its hash had begun: then it is answered all the same.
    assert!(matches!(outcome, Err(PasswordError::Unavailable) | Ok(Verified { matches: false, .. })));

    while bench.passwords.verify(password("x"), None).await.is_err() {
        yield_now().await;
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_killed_worker_is_replaced_and_its_caller_is_answered_or_told() {
    let bench = start("password-kill", 1).await;
    let first = bench.context.tracker.spawn({
        let passwords = bench.passwords.clone();
        async move { passwords.hash(password("green tea at six")).await }
    });
    // A worker that waits for its hash has no other way to be busy.
    let worker = loop {
        if bench.passwords.room.gate().in_use() == 1 && !bench.factory().get_children().is_empty() {
            break bench.factory().get_children().remove(0);
        }
        yield_now().await;
    };
    worker.kill_and_wait(None).await.unwrap();
    assert_eq!(bench.factory().get_status(), ActorStatus::Running, "the factory outlives its worker");
    let second = bench.passwords.verify(password("x"), None).await.unwrap();
    assert!(!second.matches);
    // Answered by its closure if that had begun, and otherwise told at once.
    assert!(matches!(first.await.unwrap(), Ok(_) | Err(PasswordError::Unavailable)));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a3_who_has_waited_two_seconds_is_told_to_come_back() {
    let kitchen = Kitchen::new(1, HashCost::default());
    let bench = start("password-wait", 1).await;
    let taken = kitchen.enter(Instant::now() + MAX_WAIT).await.unwrap();
    let began = Instant::now();
    assert!(kitchen.enter(began + MAX_WAIT).await.is_none(), "the only place is taken");
    assert_eq!(began.elapsed(), MAX_WAIT);
    drop(taken);
    assert!(kitchen.enter(Instant::now() + MAX_WAIT).await.is_some());

    // A job that grew old in the mailbox of a busy factory is refused without a hash.
    let late = bench.passwords.room.ask(|permit, reply| {
        let work = Work::Verify { password: password("x"), hash: None, reply };
        let msg = PasswordJob { work, permit, asked: began - MAX_WAIT };
        PasswordMessage::Dispatch(Job { key: (), msg, options: JobOptions::default(), accepted: None })
    });
    assert_eq!(late.await.unwrap(), Err(PasswordError::Overloaded));
    bench.stop().await;
}

#[tokio::test]
async fn retry_after_grows_with_what_waits() {
    let bench = start("password-retry", 1).await;
    assert_eq!(bench.passwords.retry_after(), Duration::from_secs(1));
    let held: Vec<_> = (0..PLACES_PER_WORKER).map(|_| bench.passwords.room.gate().try_enter()).collect();
    assert_eq!(bench.passwords.retry_after(), Duration::from_secs(2), "64 hashes of 20 ms each");
    assert_eq!(bench.passwords.hash(password("x")).await, Err(PasswordError::Overloaded));
    drop(held);
    bench.stop().await;
}

#[tokio::test]
async fn a_room_whose_workers_keep_dying_says_so_at_once() {
    let bench = start("password-degraded", 1).await;
    for _ in 0..=Policy::default().max_restarts {
        bench.context.tree.worker_exit("password/password_actor/worker-0", "crash of a test");
    }
    assert_eq!(bench.passwords.hash(password("x")).await, Err(PasswordError::Unavailable));
    bench.stop().await;
}
