//! Guessing passwords: how long an account and a network wait after failures (A6).
//!
//! Each try is judged by two counters: the failures of its network at this account, and all failures at the account. What
//! strangers do makes strangers wait, so a network the account is known from is judged by its own failures only. Nobody
//! waits longer than [`Rule::longest_wait`], so nobody can lock somebody else out for good.
//!
//! # When the clock breaks
//!
//! A step back makes nobody wait longer than the longest wait from then on.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::{quota::Micros, session::Network};

/// The numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Failures in a row that cost no wait.
    pub free: u32,
    /// After the last free one; each further failure doubles it.
    pub first_wait: Duration,
    pub longest_wait: Duration,
    /// Failures from which an account lets each network try once per `longest_wait`, however many others do.
    pub besieged: u32,
    /// Without a failure for so long, all is forgotten.
    pub memory: Duration,
    /// Networks remembered per account; strangers from further ones are counted as one network.
    pub networks: usize,
}

impl Rule {
    pub const DEFAULT: Self = Self {
        free: 10,
        first_wait: Duration::from_secs(1),
        longest_wait: Duration::from_secs(15 * 60),
        besieged: 100,
        memory: Duration::from_secs(24 * 3_600),
        networks: 32,
    };
}

/// Failures in a row, and when the last one was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failures {
    count: u32,
    last: Micros,
}

impl Failures {
    const NONE: Self = Self { count: 0, last: Micros(0) };

    const fn add(&mut self, now: Micros) {
        self.count = self.count.saturating_add(1);
        self.last = now;
    }

    const fn take_off(&mut self, failures: u32) {
        self.count = self.count.saturating_sub(failures);
    }
}

/// What is remembered about the guesses at one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guesses {
    all: Failures,
    /// At most [`Rule::networks`].
    networks: Vec<(Network, Failures)>,
    /// Of all strangers whose network found no room.
    others: Failures,
}

impl Default for Guesses {
    fn default() -> Self {
        Self { all: Failures::NONE, networks: Vec::new(), others: Failures::NONE }
    }
}

/// A try that must not be made yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    pub retry_after: Duration,
    /// Whether somebody from a network the account is known from would not have to wait.
    pub by_account_alone: bool,
}

impl Rule {
    /// Judges a try from `network` and, if it may be made, counts it as a failure in advance, so that tries at the same
    /// time get no more looks than tries one after another. `is_known` says that the account was signed in to from this
    /// network lately.
    ///
    /// # Errors
    ///
    /// [`Wait`]; nothing was counted.
    pub fn admit(
        &self,
        guesses: &mut Guesses,
        now: Micros,
        network: Network,
        is_known: bool,
    ) -> Result<(), Wait> {
        self.forget(guesses, now);
        let own = guesses.of(network, is_known, self.networks);
        let by_network = left(self.penalty(own.count), own.last, now);
        let by_account = if is_known { Duration::ZERO } else { self.account_wait(guesses.all, own, now) };
        let retry_after = by_network.max(by_account);
        if !retry_after.is_zero() {
            return Err(Wait { retry_after, by_account_alone: by_network.is_zero() });
        }
        guesses.all.add(now);
        guesses.counter(network, is_known, self.networks).add(now);
        Ok(())
    }

    /// The password was right: what this network did is forgotten, and no longer held against the account.
    ///
    /// Of strangers that are counted together only the last try is, lest one of them clears the others.
    pub fn right(&self, guesses: &mut Guesses, network: Network) {
        match guesses.position(network) {
            Some(at) => {
                let (_, own) = guesses.networks.swap_remove(at);
                guesses.all.take_off(own.count);
            }
            None => self.undo(guesses, network),
        }
    }

    /// The password was not looked at after all: one failure of this network is taken back.
    ///
    /// When the failure before it was is no longer known, so a wait is measured from the try that was undone.
    pub fn undo(&self, guesses: &mut Guesses, network: Network) {
        let at = guesses.position(network);
        let own = at.map_or(&mut guesses.others, |at| &mut guesses.networks[at].1);
        if own.count == 0 {
            return;
        }
        own.take_off(1);
        guesses.all.take_off(1);
        if let Some(at) = at
            && guesses.networks[at].1.count == 0
        {
            guesses.networks.swap_remove(at);
        }
    }

    /// Whether nobody would have to wait, wherever from.
    pub fn is_idle(&self, guesses: &Guesses, now: Micros) -> bool {
        let networks = guesses.networks.iter().map(|(_, failures)| failures).chain([&guesses.others]);
        let mut waits = networks.map(|own| {
            left(self.penalty(own.count), own.last, now).max(self.account_wait(guesses.all, *own, now))
        });
        waits.all(|wait| wait.is_zero())
    }

    /// Whether forgetting gives back fewer tries than are free anyway: to be preferred when something must be forgotten.
    pub fn is_slight(&self, guesses: &Guesses, now: Micros) -> bool {
        guesses.all.count < self.free || passed(guesses.all.last, now) >= self.memory
    }

    /// From the last failure to the next try.
    fn penalty(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(self.free) else { return Duration::ZERO };
        let wait = 1u32.checked_shl(doublings).and_then(|times| self.first_wait.checked_mul(times));
        wait.unwrap_or(Duration::MAX).min(self.longest_wait)
    }

    /// What a stranger waits for because of the account, whose own network did `own`.
    fn account_wait(&self, all: Failures, own: Failures, now: Micros) -> Duration {
        if all.count < self.besieged {
            left(self.penalty(all.count), all.last, now)
        } else if own.count > 0 {
            left(self.longest_wait, own.last, now)
        } else {
            Duration::ZERO
        }
    }

    fn forget(&self, guesses: &mut Guesses, now: Micros) {
        let is_old = |failures: &Failures| passed(failures.last, now) >= self.memory;
        guesses.networks.retain(|(_, failures)| !is_old(failures));
        for failures in [&mut guesses.others, &mut guesses.all] {
            if is_old(failures) {
                *failures = Failures::NONE;
            }
        }
    }
}

impl Guesses {
    fn position(&self, network: Network) -> Option<usize> {
        self.networks.iter().position(|(known, _)| *known == network)
    }

    /// What this network did, or those it would be counted with.
    fn of(&self, network: Network, is_known: bool, room: usize) -> Failures {
        match self.position(network) {
            Some(at) => self.networks[at].1,
            None if is_known || self.networks.len() < room => Failures::NONE,
            None => self.others,
        }
    }

    /// Where a failure of this network is counted. One that the account is known from always finds room: it takes the
    /// place of the one that has rested longest.
    fn counter(&mut self, network: Network, is_known: bool, room: usize) -> &mut Failures {
        let at = match self.position(network) {
            Some(at) => at,
            None if self.networks.len() < room => {
                self.networks.push((network, Failures::NONE));
                self.networks.len() - 1
            }
            None if is_known => {
                let rested = self.networks.iter().enumerate().min_by_key(|(_, (_, failures))| failures.last);
                let at = rested.map_or(0, |(at, _)| at);
                self.networks[at] = (network, Failures::NONE);
                at
            }
            None => return &mut self.others,
        };
        &mut self.networks[at].1
    }
}

/// What is left of a wait that began at `since`; never more than all of it, also after the clock stepped back.
fn left(wait: Duration, since: Micros, now: Micros) -> Duration {
    wait.saturating_sub(passed(since, now))
}

const fn passed(since: Micros, now: Micros) -> Duration {
    Duration::from_micros(now.0.saturating_sub(since.0))
}
