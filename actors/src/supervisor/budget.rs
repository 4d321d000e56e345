//! How often something may restart, and how long to wait before the next time. Pure: time is an argument.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::Policy;

/// Exits remembered per child; beyond it only the newest count, which is far above any sane limit.
const LOG_LIMIT: usize = 256;

/// When something was restarted, as far back as a window reaches.
#[derive(Debug, Default)]
pub(crate) struct RestartLog(VecDeque<Instant>);

impl RestartLog {
    /// Adds a restart and says how many the window now holds.
    pub(crate) fn record(&mut self, now: Instant, window: Duration) -> usize {
        self.0.push_back(now);
        while self.0.len() > LOG_LIMIT || self.0.front().is_some_and(|at| now - *at > window) {
            self.0.pop_front();
        }
        self.0.len()
    }

    /// How many restarts the window that ends `now` holds.
    pub(crate) fn within(&self, now: Instant, window: Duration) -> usize {
        self.0.iter().filter(|at| now.duration_since(**at) <= window).count()
    }
}

/// One child's restarts: intensity, and a backoff that doubles until the child has been healthy.
#[derive(Debug, Default)]
pub(super) struct Budget {
    log: RestartLog,
    /// Doublings since the child was last healthy.
    attempt: u32,
    running_since: Option<Instant>,
}

/// What a restart costs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) restarts_in_window: usize,
    pub(super) backoff: Duration,
    /// More restarts than the policy allows in its window.
    pub(super) is_exceeded: bool,
}

impl Budget {
    pub(super) fn started(&mut self, policy: &Policy, now: Instant) {
        self.forgive(policy, now);
        self.running_since = Some(now);
    }

    /// Forgets the doublings if the incarnation that ends `now` was healthy.
    fn forgive(&mut self, policy: &Policy, now: Instant) {
        if self.running_since.take().is_some_and(|since| now - since >= policy.healthy_after) {
            self.attempt = 0;
        }
    }

    /// Pays for one restart after an exit at `now`.
    pub(super) fn spend(&mut self, policy: &Policy, now: Instant) -> Cost {
        self.forgive(policy, now);
        let backoff = policy.backoff_min.saturating_mul(2u32.saturating_pow(self.attempt));
        self.attempt = self.attempt.saturating_add(1);
        let restarts_in_window = self.log.record(now, policy.window);
        Cost {
            restarts_in_window,
            backoff: backoff.min(policy.backoff_max),
            is_exceeded: restarts_in_window > policy.max_restarts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_backoff_doubles_up_to_its_bound_and_starts_over_after_health() {
        let (policy, mut budget) = (Policy::default(), Budget::default());
        let waits: Vec<_> =
            (0..9).map(|_| budget.spend(&policy, Instant::now()).backoff.as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);

        budget.started(&policy, Instant::now());
        tokio::time::advance(policy.healthy_after - Duration::from_millis(1)).await;
        assert_eq!(budget.spend(&policy, Instant::now()).backoff, policy.backoff_max, "not healthy yet");

        budget.started(&policy, Instant::now());
        tokio::time::advance(policy.healthy_after).await;
        assert_eq!(budget.spend(&policy, Instant::now()).backoff, policy.backoff_min);
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_is_exceeded_by_the_sixth_restart_in_the_window_and_not_by_slower_ones() {
        let (policy, mut budget) = (Policy::default(), Budget::default());
        let exceeded: Vec<_> = (0..6).map(|_| budget.spend(&policy, Instant::now()).is_exceeded).collect();
        assert_eq!(exceeded, [false, false, false, false, false, true]);

        let mut slow = Budget::default();
        for _ in 0..20 {
            assert!(!slow.spend(&policy, Instant::now()).is_exceeded);
            tokio::time::advance(Duration::from_secs(13)).await;
        }
    }

    #[test]
    fn the_log_of_a_child_that_dies_without_pause_stays_bounded() {
        let (mut log, now) = (RestartLog::default(), Instant::now());
        for _ in 0..10_000 {
            log.record(now, Duration::from_secs(60));
        }
        assert_eq!(log.within(now, Duration::from_secs(60)), LOG_LIMIT);
    }
}
