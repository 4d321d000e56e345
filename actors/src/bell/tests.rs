use std::{collections::VecDeque, sync::atomic::AtomicUsize, time::Duration};

use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::*;
use crate::{
    supervisor::{ChildSpec, Policy, Root, child_name, spawn_child},
    tree::Tree,
};

#[derive(Clone)]
struct Sweeper {
    bell: Bell<Sweep>,
    shared: Arc<Shared>,
}

struct Sweep;

#[derive(Default)]
struct Shared {
    jobs: Mutex<VecDeque<u32>>,
    wakes: AtomicUsize,
    done: watch::Sender<u32>,
    /// The worker waits here while somebody holds it.
    brake: tokio::sync::Mutex<()>,
    /// Crash at the next this many wakes.
    crashes: AtomicUsize,
}

impl Actor for Sweeper {
    type Msg = Sweep;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Sweep>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Sweep>, _: Sweep, (): &mut ()) -> Result<(), ActorProcessingErr> {
        self.shared.wakes.fetch_add(1, Ordering::AcqRel);
        let crash =
            self.shared.crashes.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
        if crash.is_ok() {
            return Err("told to crash".into());
        }
        let _brake = self.shared.brake.lock().await;
        self.bell.about_to_check();
        loop {
            let Some(_) = self.shared.jobs.lock().pop_front() else { return Ok(()) };
            self.shared.done.send_modify(|done| *done += 1);
        }
    }
}

impl Sweeper {
    async fn start(system: &'static str) -> (Root, Self) {
        let sweeper = Self { bell: Bell::new(Slot::new(), || Sweep), shared: Arc::default() };
        let made = sweeper.clone();
        let child = ChildSpec::leaf("sweeper", move |supervisor| {
            let sweeper = made.clone();
            async move {
                let name = child_name(system, "sweeper");
                let actor = spawn_child(&supervisor, name, sweeper.clone(), ()).await?;
                sweeper.bell.publish(actor.clone());
                Ok(actor.get_cell())
            }
        });
        let policy = Policy { backoff_max: Duration::from_millis(1), ..Policy::default() };
        let root = Root::start(system, policy, vec![child], Tree::new()).await.unwrap();
        (root, sweeper)
    }

    fn place(&self, job: u32) {
        self.shared.jobs.lock().push_back(job);
        self.bell.ring();
    }

    async fn done(&self, jobs: u32) {
        let mut done = self.shared.done.subscribe();
        let waited = timeout(Duration::from_secs(30), done.wait_for(|done| *done >= jobs)).await;
        assert!(waited.is_ok(), "{} of {jobs} jobs were done", *self.shared.done.borrow());
    }
}

#[tokio::test(start_paused = true)]
async fn any_number_of_rings_is_one_wake_message() {
    let (root, sweeper) = Sweeper::start("bell_once").await;
    sweeper.place(0);
    sweeper.done(1).await;
    let brake = sweeper.shared.brake.lock().await;
    let before = sweeper.shared.wakes.load(Ordering::Acquire);
    for job in 0..1_000 {
        sweeper.place(job);
    }
    drop(brake);
    sweeper.done(1_001).await;
    assert_eq!(sweeper.shared.wakes.load(Ordering::Acquire) - before, 1);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_rang_at_a_dying_worker_is_done_by_its_successor() {
    let (root, sweeper) = Sweeper::start("bell_dying").await;
    sweeper.shared.crashes.store(3, Ordering::Release);
    sweeper.place(0);
    sweeper.done(1).await;
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_rang_at_a_dead_address_is_done_by_its_successor() {
    let (root, sweeper) = Sweeper::start("bell_dead").await;
    let first = sweeper.bell.slot().load().unwrap();
    first.kill();
    first.wait(None).await.unwrap();
    sweeper.place(0);
    sweeper.done(1).await;
    root.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_wake_up_is_lost_between_threads_and_crashes() {
    const PRODUCERS: u32 = 4;
    const JOBS: u32 = 5_000;
    let (root, sweeper) = Sweeper::start("bell_race").await;
    sweeper.shared.crashes.store(20, Ordering::Release);
    let mut producers = JoinSet::new();
    for _ in 0..PRODUCERS {
        let sweeper = sweeper.clone();
        producers.spawn(async move {
            for job in 0..JOBS {
                sweeper.place(job);
                if job % 64 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    producers.join_all().await;
    sweeper.done(PRODUCERS * JOBS).await;
    root.stop().await;
}
