//! What steps of load brought, in numbers and as a table.

use std::{fmt::Write as _, time::Duration};

use support::stats::percentile;
use tokio::time::Instant;

use super::generator::Seen;

/// One step: the same load for a while.
pub(super) struct Step {
    /// How many times the capacity.
    pub(super) times: u32,
    /// Requests per second that were sent.
    pub(super) offered: f64,
    /// Answers per second.
    pub(super) goodput: f64,
    /// Of the answered.
    pub(super) answered: Latency,
    pub(super) refused: Latency,
    /// How late the generator sent what was due.
    pub(super) late: Latency,
    pub(super) limited: usize,
    pub(super) overloaded: usize,
    pub(super) memory: Memory,
}

/// In milliseconds; zero when there was none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

/// Resident memory in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// When a third of the step was over.
    pub(super) early: u64,
    /// The most from there on.
    pub(super) late_peak: u64,
    pub(super) peak: u64,
}

impl Step {
    /// Of all that was due within `window` after `begin`, and all that was answered within it.
    pub(super) fn of(times: u32, begin: Instant, window: Duration, seen: &[Seen], memory: Memory) -> Self {
        let within = |at: Instant| at >= begin && at < begin + window;
        let due: Vec<_> = seen.iter().filter(|seen| within(seen.due)).collect();
        let good = seen.iter().filter(|seen| seen.is_answered() && within(seen.done)).count();
        let with = |status| due.iter().filter(|seen| seen.status == status).count();
        let took = |is_answered| due.iter().filter(move |seen| seen.is_answered() == is_answered);
        let per_second = |count: usize| count as f64 / window.as_secs_f64();
        Self {
            times,
            offered: per_second(due.len()),
            goodput: per_second(good),
            answered: Latency::of(took(true).map(|seen| seen.took())),
            refused: Latency::of(took(false).map(|seen| seen.took())),
            late: Latency::of(due.iter().map(|seen| seen.sent - seen.due)),
            limited: with(429),
            overloaded: with(503),
            memory,
        }
    }
}

impl Latency {
    fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut ms: Vec<_> = times.map(|time| time.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        Self { p50: percentile(&ms, 0.5), p99: percentile(&ms, 0.99) }
    }
}

impl Memory {
    /// `looks` are equally far apart, and one at least.
    pub(super) fn of(looks: &[u64]) -> Self {
        let third = looks.len() / 3;
        let most = |looks: &[u64]| looks.iter().copied().max().unwrap_or_default();
        Self { early: looks[third], late_peak: most(&looks[third..]), peak: most(looks) }
    }
}

pub(super) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The steps in Markdown.
pub(super) fn table(steps: &[Step]) -> String {
    let mut text = String::from(
        "| load | offered/s | goodput/s | admitted p50 ms | admitted p99 ms | refused p99 ms | 429 | 503 | \
         peak RSS MB | sent late p99 ms |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for step in steps {
        let Step { times, offered, goodput, answered, refused, late, limited, overloaded, memory } = step;
        let refused_p99 =
            if limited + overloaded == 0 { "–".to_owned() } else { format!("{:.1}", refused.p99) };
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "| {times}× | {offered:.1} | {goodput:.1} | {:.0} | {:.0} | {refused_p99} | {limited} | {overloaded} | \
             {:.1} | {:.1} |",
            answered.p50,
            answered.p99,
            megabytes(memory.peak),
            late.p99,
        );
    }
    text
}

#[test]
fn a_step_counts_what_was_due_and_what_was_answered_within_it() {
    let (begin, ms) = (Instant::now() + Duration::from_secs(60), Duration::from_millis);
    let seen = |due: i32, took: u64, status: u16| {
        let due = if due < 0 { begin - ms(due.unsigned_abs().into()) } else { begin + ms(due as u64) };
        Seen { due, sent: due + ms(1), done: due + ms(took), status }
    };
    let seen = [
        // Before the window, answered within it.
        seen(-50, 100, 200),
        seen(0, 100, 200),
        seen(500, 300, 200),
        seen(600, 7, 503),
        seen(700, 5, 429),
        // Within the window, answered after it.
        seen(999, 200, 200),
        seen(1_000, 100, 200),
    ];
    let memory = Memory::of(&[9, 1, 3, 2, 4, 5]);
    assert_eq!((memory.early, memory.late_peak, memory.peak), (3, 5, 9));
    let step = Step::of(2, begin, Duration::from_secs(1), &seen, memory);
    assert_eq!((step.offered, step.goodput), (5.0, 3.0));
    assert_eq!((step.limited, step.overloaded), (1, 1));
    assert_eq!(
        (step.answered.p50, step.answered.p99, step.refused.p99, step.late.p99),
        (200.0, 300.0, 7.0, 1.0)
    );
    let table = table(&[step]);
    assert!(table.ends_with("| 2× | 5.0 | 3.0 | 200 | 300 | 7.0 | 1 | 1 | 0.0 | 1.0 |\n"), "{table}");
}
