//! Limits that are set for one account or one key, rather than for everybody.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::quota::Quota;

/// Whose turn comes first where turns wait: no batch turn is served while an interactive one waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Somebody waits for the answer.
    #[default]
    Interactive,
    /// It may take until the model has nothing better to do.
    Batch,
}

impl Priority {
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Batch];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Batch => "batch",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.as_str() == text)
    }
}

/// What was set for one account, in place of the service's own limits, or for one key, beside its account's. `None` sets
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    pub requests_per_minute: Option<u32>,
    pub tokens_per_minute: Option<u32>,
    /// Turns that run at once; those beyond it wait.
    pub streams: Option<u32>,
    /// The most that may be asked for.
    pub priority: Option<Priority>,
}

impl Limits {
    /// A third of a minute's requests may come at once.
    pub fn requests(&self) -> Option<Quota> {
        self.requests_per_minute.map(|permits| per_minute(permits, (permits / 3).max(1)))
    }

    /// A whole minute's tokens may be spent at once: one answer can take most of them.
    pub fn tokens(&self) -> Option<Quota> {
        self.tokens_per_minute.map(|permits| per_minute(permits, permits))
    }

    /// What `asked` comes to for somebody with these limits.
    pub fn cap(&self, asked: Priority) -> Priority {
        self.priority.map_or(asked, |most| asked.max(most))
    }
}

const fn per_minute(permits: u32, burst: u32) -> Quota {
    Quota { permits, period: Duration::from_secs(60), burst }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_more_than_their_priority_and_may_ask_for_less() {
        let of = |priority| Limits { priority, ..Limits::default() };
        use Priority::{Batch, Interactive};
        for (most, asked, got) in [
            (None, Interactive, Interactive),
            (None, Batch, Batch),
            (Some(Batch), Interactive, Batch),
            (Some(Interactive), Batch, Batch),
        ] {
            assert_eq!(of(most).cap(asked), got, "{most:?} {asked:?}");
        }
    }
}
