//! What turns come to when they are added up.

use std::{iter::Sum, ops::Add};

/// What a number of turns came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub outcomes: Outcomes,
    /// Of turns that are not settled nothing is known yet.
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub sources: Sources,
    pub queued: Mean,
    pub load: Mean,
    pub first_token: Mean,
    pub total: Mean,
}

/// Turns by how they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcomes {
    pub complete: u64,
    pub interrupted: u64,
    pub cancelled: u64,
    pub failed: u64,
    pub streaming: u64,
}

/// Settled turns by where their counts of tokens come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sources {
    pub reported: u64,
    pub counted: u64,
    pub estimated: u64,
}

/// The mean of durations. Kept as a sum and a count, so that means are added up exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mean {
    pub sum_ms: u64,
    pub count: u64,
}

impl Tally {
    /// Turns in all.
    pub const fn requests(&self) -> u64 {
        let Outcomes { complete, interrupted, cancelled, failed, streaming } = self.outcomes;
        complete + interrupted + cancelled + failed + streaming
    }

    pub const fn total_tokens(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

impl Mean {
    /// In whole milliseconds, a half counts as one more; `None` of nothing.
    pub fn milliseconds(self) -> Option<u64> {
        let (sum, count) = (u128::from(self.sum_ms), u128::from(self.count));
        let rounded = (2 * sum + count).checked_div(2 * count)?;
        u64::try_from(rounded).ok()
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            outcomes: self.outcomes + other.outcomes,
            prompt_tokens: self.prompt_tokens.saturating_add(other.prompt_tokens),
            completion_tokens: self.completion_tokens.saturating_add(other.completion_tokens),
            sources: self.sources + other.sources,
            queued: self.queued + other.queued,
            load: self.load + other.load,
            first_token: self.first_token + other.first_token,
            total: self.total + other.total,
        }
    }
}

impl Add for Outcomes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            complete: self.complete + other.complete,
            interrupted: self.interrupted + other.interrupted,
            cancelled: self.cancelled + other.cancelled,
            failed: self.failed + other.failed,
            streaming: self.streaming + other.streaming,
        }
    }
}

impl Add for Sources {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            reported: self.reported + other.reported,
            counted: self.counted + other.counted,
            estimated: self.estimated + other.estimated,
        }
    }
}

impl Add for Mean {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { sum_ms: self.sum_ms.saturating_add(other.sum_ms), count: self.count + other.count }
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), Self::add)
    }
}
