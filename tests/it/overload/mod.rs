//! D1: what the service does when far more is asked of it than its model can answer.
//!
//! ```text
//! generator ──▶ deepersensor serve, its limits on ──▶ fake Ollama: slots, the same time for each answer
//!  (a trusted proxy: many users, many addresses)
//! ```
//!
//! The capacity is measured by a closed loop. Steps of an open loop at 1, 2, 5 and 10 times as much follow, and then a look
//! at how soon all is as before. Times count from the moment a request was due; a generator that is late fails the proof.
//!
//! # The queue's limit
//!
//! A queue of `Q` turns before a model that answers `r` a second makes the last of them wait `Q / r`. With as many places
//! as slots that is one service time: however much is asked, nobody who is let in waits longer for a slot than for the
//! answer itself, so that no latency is more than twice the least. Fewer places would lose answers, because strangers come
//! in bursts: at the capacity itself (1×) ten slots without a queue would refuse 21 of a hundred, with ten places 4, with
//! twenty 2 (by simulation of a Poisson process before equal services). More places would gain no more than those, and make
//! everybody wait longer as soon as there is too much.
//!
//! Small in the suite; `scripts/prove overload` runs the same at full size on the release build, where figures are strict.

mod arrivals;
mod callers;
mod figures;
mod generator;
mod ground;
mod plot;
mod sockets;

use std::{cell::Cell, path::PathBuf, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use self::{
    arrivals::arrivals,
    callers::Callers,
    figures::{Memory, Step, megabytes, table},
    generator::{Generator, Seen},
    ground::Ground,
    sockets::Sockets,
};
use crate::harness::asked;

/// The steps, in multiples of the capacity.
const TIMES: [u32; 4] = [1, 2, 5, 10];

/// Before a step is measured it runs this many service times, so that none begins with an empty queue.
const LEAD: u32 = 3;

/// Between two looks at a service that recovers.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How large the proof is.
struct Size {
    slots: usize,
    /// How long the model takes for an answer.
    service: Duration,
    users: usize,
    /// Turns that are over before anything is measured: see [`warm_up`].
    warm_up: usize,
    /// How long a step is measured.
    window: Duration,
    seed: u64,
    bounds: Bounds,
}

/// What must hold.
struct Bounds {
    /// The least capacity, as a share of slots ÷ service time.
    capacity: f64,
    /// The least goodput of a step, as a share of the best one's.
    goodput: f64,
    /// The slowest admitted request in a hundred, in multiples of its time at the capacity.
    latency: f64,
    refused_p99: Duration,
    /// How late the generator may be, one time in a hundred.
    late_p99: Duration,
    /// Memory after the first third of a step, and after the load, in multiples of what it was before.
    memory: f64,
    /// When all is as before the load.
    recovery: Duration,
    /// A lone request's time, in multiples of the model's.
    lone: f64,
}

impl Size {
    /// The size that `scripts/prove` asks for, or the suite's: few requests, and bounds that a debug build keeps beside
    /// neighbours on the same cores.
    fn asked() -> Self {
        let seed = asked("PROVE_SEED").unwrap_or(1);
        let recovery = Duration::from_secs(10);
        match asked("PROVE_COUNT").map(Duration::from_secs) {
            Some(window) => Self {
                slots: 10,
                service: Duration::from_millis(100),
                users: 1_000,
                warm_up: 15_000,
                window,
                seed,
                bounds: Bounds {
                    capacity: 0.9,
                    goodput: 0.9,
                    latency: 2.0,
                    refused_p99: Duration::from_millis(50),
                    late_p99: Duration::from_millis(10),
                    memory: 1.1,
                    recovery,
                    lone: 1.25,
                },
            },
            None => Self {
                slots: 5,
                service: Duration::from_millis(250),
                users: 400,
                warm_up: 300,
                window: Duration::from_secs(2),
                seed,
                bounds: Bounds {
                    capacity: 0.6,
                    goodput: 0.6,
                    latency: 4.0,
                    refused_p99: Duration::from_secs(1),
                    late_p99: Duration::from_secs(1),
                    memory: 1.5,
                    recovery,
                    lone: 2.0,
                },
            },
        }
    }

    /// Places in the model's queue: see the head of this file.
    const fn queue(&self) -> usize {
        self.slots
    }

    /// Of a closed loop: all slots busy, and a queue that nobody is refused from.
    const fn clients(&self) -> usize {
        self.slots + self.queue() / 2
    }

    fn lead(&self) -> Duration {
        self.service * LEAD
    }

    /// What the model could answer if nothing else took time, per second.
    fn ideal(&self) -> f64 {
        self.slots as f64 / self.service.as_secs_f64()
    }
}

/// The whole proof's figures.
struct Proof {
    /// Answers per second that a closed loop got.
    capacity: f64,
    steps: Vec<Step>,
    /// From the end of the load until all was as before.
    recovered: Duration,
    /// Bytes before the steps, and after the recovery.
    memory: (u64, u64),
}

/// Has many turns answered without delay, so that what is bounded and fills by and by is full before memory counts: buckets of
/// users and addresses, what is known of keys, and most of all SQLite's cache of 2 MB for what is written.
async fn warm_up(generator: &mut Generator, ground: &Ground, size: &Size) {
    let left = Cell::new(size.warm_up);
    let goes_on = || left.replace(left.get().saturating_sub(1)) > 0;
    ground.set_service_time(Duration::ZERO);
    let seen = generator.saturate(size.clients(), goes_on).await.unwrap();
    assert!(seen.iter().all(Seen::is_answered), "a closed loop was refused");
    ground.set_service_time(size.service);
}

/// Measures the capacity: by Little's law the clients ÷ their mean time, which no edge of a window spoils.
async fn capacity(generator: &mut Generator, size: &Size) -> f64 {
    let begin = Instant::now() + size.lead();
    let end = begin + (size.window / 3).max(size.lead());
    let seen = generator.saturate(size.clients(), || Instant::now() < end).await.unwrap();
    assert!(seen.iter().all(Seen::is_answered), "a closed loop was refused");
    let took: Vec<_> =
        seen.iter().filter(|seen| seen.due >= begin).map(|seen| seen.took().as_secs_f64()).collect();
    size.clients() as f64 / (took.iter().sum::<f64>() / took.len() as f64)
}

/// Offers `times` the capacity for a while. Returns also when the load ended.
async fn step(
    generator: &mut Generator,
    ground: &Ground,
    size: &Size,
    times: u32,
    capacity: f64,
) -> (Step, Instant) {
    let span = size.lead() + size.window;
    let due = arrivals(generator.random(), capacity * f64::from(times), span);
    let begin = Instant::now();
    let (seen, looks) = ground.watched(generator.offer(begin, &due)).await;
    let (seen, bad): (Vec<_>, Vec<_>) = seen.into_iter().partition(Result::is_ok);
    let few: Vec<_> = bad.iter().filter_map(|bad| bad.as_ref().err()).take(5).collect();
    assert!(bad.is_empty(), "{} of {} bad replies at {times}×: {few:#?}", bad.len(), due.len());
    let seen: Vec<Seen> = seen.into_iter().flatten().collect();
    (Step::of(times, begin + size.lead(), size.window, &seen, Memory::of(&looks)), begin + span)
}

/// Waits until the queue is empty and a lone request takes what the model takes, and returns how long after `end` it was.
async fn recovered(generator: &mut Generator, size: &Size, end: Instant) -> Duration {
    loop {
        let seen = generator.ask().await.unwrap();
        let is_prompt = seen.took() < size.service.mul_f64(size.bounds.lone);
        if seen.is_answered() && is_prompt && generator.queue().await.unwrap() == 0 {
            return end.elapsed();
        }
        assert!(end.elapsed() < size.bounds.recovery, "not recovered: {seen:?}");
        sleep(LOOK_EVERY).await;
    }
}

impl Proof {
    async fn run(size: &Size) -> Self {
        rlimit::increase_nofile_limit(u64::MAX).unwrap();
        let ground = Ground::start(size).await;
        let addr = ground.gateway.addr;
        let callers = Callers::create(size.users, addr, &ground.database).await;
        let mut generator = Generator::new(callers, Sockets::to(addr), size.seed);
        warm_up(&mut generator, &ground, size).await;
        let capacity = capacity(&mut generator, size).await;

        let before = ground.memory();
        let (mut steps, mut end) = (Vec::new(), Instant::now());
        for times in TIMES {
            let (step, ended) = step(&mut generator, &ground, size, times, capacity).await;
            steps.push(step);
            end = ended;
        }
        let recovered = recovered(&mut generator, size, end).await;
        sleep_until(end + size.bounds.recovery.min(size.window)).await;
        let memory = (before, ground.memory());
        ground.finish(size);
        Self { capacity, steps, recovered, memory }
    }

    fn judge(&self, Size { bounds, .. }: &Size, ideal: f64) {
        let Self { capacity, steps, recovered, memory: (before, after) } = self;
        assert!((bounds.capacity..1.02).contains(&(capacity / ideal)), "{capacity} of {ideal}");
        let peak = steps.iter().map(|step| step.goodput).fold(0.0, f64::max);
        let at_capacity = steps[0].answered.p99;
        let ms = |bound: Duration| bound.as_secs_f64() * 1e3;
        let grown = |from: u64, to: u64| to as f64 / from as f64;
        for step in steps {
            let times = step.times;
            assert!(step.late.p99 <= ms(bounds.late_p99), "{times}×: the generator was {:?} late", step.late);
            assert!(step.goodput >= bounds.goodput * peak, "{times}×: {} of {peak}", step.goodput);
            assert!(step.answered.p99 <= bounds.latency * at_capacity, "{times}×: {:?}", step.answered);
            assert!(step.refused.p99 <= ms(bounds.refused_p99), "{times}×: refused in {:?}", step.refused);
            let growth = grown(step.memory.early, step.memory.late_peak);
            assert!(growth <= bounds.memory, "{times}×: memory grows, {:?}", step.memory);
        }
        assert!(steps.last().is_some_and(|step| step.overloaded > 0), "nobody was refused");
        assert!(*recovered <= bounds.recovery, "{recovered:?}");
        assert!(grown(*before, *after) <= bounds.memory, "memory stays: {before} bytes, then {after}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d01_ten_times_the_capacity_costs_neither_answers_nor_latency_nor_memory() {
    let (size, machine) = (Size::asked(), support::process::machine());
    let proof = Proof::run(&size).await;
    let Proof { capacity, steps, recovered, memory: (before, after) } = &proof;
    println!("{machine}; seed {}", size.seed);
    println!(
        "{} slots of {:?}: {capacity:.1} answers a second of {:.1}; a queue of {}; {} users; {:?} a step\n\n{}",
        size.slots,
        size.service,
        size.ideal(),
        size.queue(),
        size.users,
        size.window,
        table(steps),
    );
    println!(
        "Recovered {:.0} ms after the load; RSS {:.1} MB before, {:.1} MB after.",
        recovered.as_secs_f64() * 1e3,
        megabytes(*before),
        megabytes(*after),
    );
    let picture = plot::draw(&proof);
    if let Some(file) = asked::<PathBuf>("PROVE_PLOT") {
        std::fs::write(file, &picture).unwrap();
    }
    proof.judge(&size, size.ideal());
}
