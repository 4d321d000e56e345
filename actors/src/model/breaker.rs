//! The breaker of one model server: whether it is worth asking now.
//!
//! ```text
//! closed ── N failures of its own in a row ──▶ open ── each second ──▶ half-open ── probe answered ──▶ closed
//!                                               ▲                        │
//!                                               └────── no answer ───────┘
//! ```
//!
//! A value that is told what happened; whoever owns it probes (see [`super::upstream`]). No caller's turn is ever the one
//! that tries whether the server is back.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

/// Between the end of one probe and the beginning of the next.
pub(super) const PROBE_EVERY: Duration = Duration::from_secs(1);

/// As operators see it; the numbers are the gauge's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Closed = 0,
    HalfOpen = 1,
    Open = 2,
}

pub(super) struct Breaker {
    /// Failures in a row that open it.
    threshold: u32,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { probe_at: Instant },
    HalfOpen,
}

impl Breaker {
    pub fn new(threshold: u32) -> Self {
        Self { threshold: threshold.max(1), state: watch::Sender::new(State::Closed { failures: 0 }) }
    }

    pub fn phase(&self) -> Phase {
        match *self.state.borrow() {
            State::Closed { .. } => Phase::Closed,
            State::HalfOpen => Phase::HalfOpen,
            State::Open { .. } => Phase::Open,
        }
    }

    /// How long until it is known whether the server is back; `None` while it is worth asking.
    pub fn refuses_for(&self) -> Option<Duration> {
        match *self.state.borrow() {
            State::Closed { .. } => None,
            State::HalfOpen => Some(PROBE_EVERY),
            State::Open { probe_at } => Some(probe_at.saturating_duration_since(Instant::now())),
        }
    }

    /// Waits until the server is worth asking. Bounded by whoever waits, for a server may stay away for ever.
    pub async fn closed(&self) {
        let is_closed = |state: &State| matches!(state, State::Closed { .. });
        // The sender is ours, so it cannot be gone.
        let _ = self.state.subscribe().wait_for(is_closed).await;
    }

    /// Waits until it is not closed. Bounded by whoever waits, for a server may stay well for ever.
    pub async fn opened(&self) {
        let is_open = |state: &State| !matches!(state, State::Closed { .. });
        // The sender is ours, so it cannot be gone.
        let _ = self.state.subscribe().wait_for(is_open).await;
    }

    /// The server answered a turn: failures before that do not count any more.
    pub fn worked(&self) {
        if *self.state.borrow() == (State::Closed { failures: 0 }) {
            return;
        }
        self.state.send_if_modified(|state| {
            if let State::Closed { failures } = state {
                *failures = 0;
            }
            // Nobody waits for a count.
            false
        });
    }

    /// Counts a failure of the server itself; `true` for the one that opened it, whose teller must see to the probes.
    ///
    /// While it is not closed nothing is counted: what fails then was asked before.
    pub fn failed(&self) -> bool {
        self.state.send_if_modified(|state| {
            let State::Closed { failures } = state else { return false };
            *failures += 1;
            let opens = *failures >= self.threshold;
            if opens {
                *state = State::Open { probe_at: Instant::now() + PROBE_EVERY };
            }
            opens
        })
    }

    /// The server is being probed.
    pub fn probing(&self) {
        self.state.send_replace(State::HalfOpen);
    }

    /// It did not answer the probe.
    pub fn still_away(&self) {
        self.state.send_replace(State::Open { probe_at: Instant::now() + PROBE_EVERY });
    }

    /// It answered the probe.
    pub fn close(&self) {
        self.state.send_replace(State::Closed { failures: 0 });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn d06_failures_in_a_row_open_it_and_an_answer_between_them_does_not_let_them_add_up() {
        let breaker = Breaker::new(3);
        assert!(!breaker.failed() && !breaker.failed());
        breaker.worked();
        assert!(!breaker.failed() && !breaker.failed());
        assert_eq!((breaker.phase(), breaker.refuses_for()), (Phase::Closed, None));
        assert!(breaker.failed(), "the third in a row");
        assert_eq!((breaker.phase(), breaker.refuses_for()), (Phase::Open, Some(PROBE_EVERY)));
        assert!(!breaker.failed(), "it is opened once");
        breaker.worked();
        assert_eq!(breaker.phase(), Phase::Open, "what was asked before closes nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn d06_an_open_breaker_says_when_it_is_probed_next_and_lets_go_of_who_waits_when_it_closes() {
        let breaker = Breaker::new(1);
        assert!(breaker.failed());
        tokio::time::advance(PROBE_EVERY / 4).await;
        assert_eq!(breaker.refuses_for(), Some(PROBE_EVERY * 3 / 4));
        tokio::time::advance(PROBE_EVERY).await;
        assert_eq!(breaker.refuses_for(), Some(Duration::ZERO), "a late probe is due, not overdue");
        let mut waits = Box::pin(breaker.closed());
        breaker.probing();
        assert_eq!(breaker.phase(), Phase::HalfOpen);
        assert_eq!((&mut waits).now_or_never(), None);
        breaker.still_away();
        assert_eq!((&mut waits).now_or_never(), None);
        assert_eq!(breaker.refuses_for(), Some(PROBE_EVERY));
        breaker.close();
        assert_eq!((&mut waits).now_or_never(), Some(()));
        assert_eq!(breaker.phase(), Phase::Closed);
    }
}
