//! Limits that are set for one account or one key, rather than for everybody.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::quota::Quota;

/// Most that can be set, in requests per minute.
pub const REQUESTS_PER_MINUTE_MAX: u32 = 1_000_000;

/// Most that can be set, in tokens per minute.
pub const TOKENS_PER_MINUTE_MAX: u32 = 1_000_000_000;

/// Most that can be set, in turns that run at once.
pub const STREAMS_MAX: u32 = 10_000;

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
    /// See [`requests_per_minute`].
    pub fn requests(&self) -> Option<Quota> {
        self.requests_per_minute.map(requests_per_minute)
    }

    /// See [`tokens_per_minute`].
    pub fn tokens(&self) -> Option<Quota> {
        self.tokens_per_minute.map(tokens_per_minute)
    }

    /// What `asked` comes to for somebody with these limits.
    pub fn cap(&self, asked: Priority) -> Priority {
        self.priority.map_or(asked, |most| asked.max(most))
    }

    /// The first of them that is out of its bounds, and why it will not do, for the person who chose it.
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        let bounds = [
            (REQUESTS, self.requests_per_minute, REQUESTS_PER_MINUTE_MAX, "use 1 to 1,000,000, or null"),
            (TOKENS, self.tokens_per_minute, TOKENS_PER_MINUTE_MAX, "use 1 to 1,000,000,000, or null"),
            (STREAMS, self.streams, STREAMS_MAX, "use 1 to 10,000, or null"),
        ];
        let is_outside = |value: Option<u32>, most| value.is_some_and(|value| !(1..=most).contains(&value));
        let (name, _, _, why) = bounds.into_iter().find(|(_, value, most, _)| is_outside(*value, *most))?;
        Some((name, why))
    }

    /// What is no longer as it was `before`, for the audit trail (`streams none to 2, priority batch to none`); `None` when
    /// all is.
    pub fn told_since(&self, before: &Self) -> Option<String> {
        fn told<T: PartialEq + ToString>(name: &str, before: Option<T>, now: Option<T>) -> Option<String> {
            let text = |value: Option<T>| value.map_or_else(|| "none".to_owned(), |value| value.to_string());
            (before != now).then(|| format!("{name} {} to {}", text(before), text(now)))
        }
        let priority = |limits: &Self| limits.priority.map(Priority::as_str);
        let changes = [
            told(REQUESTS, before.requests_per_minute, self.requests_per_minute),
            told(TOKENS, before.tokens_per_minute, self.tokens_per_minute),
            told(STREAMS, before.streams, self.streams),
            told(PRIORITY, priority(before), priority(self)),
        ];
        let changes: Vec<_> = changes.into_iter().flatten().collect();
        (!changes.is_empty()).then(|| changes.join(", "))
    }
}

/// What each limit is called, here and on the wire.
const REQUESTS: &str = "requests_per_minute";
const TOKENS: &str = "tokens_per_minute";
const STREAMS: &str = "streams";
const PRIORITY: &str = "priority";

/// What changes about somebody's limits: `None` leaves one as it is, `Some(None)` removes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsChange {
    pub requests_per_minute: Option<Option<u32>>,
    pub tokens_per_minute: Option<Option<u32>>,
    pub streams: Option<Option<u32>>,
    pub priority: Option<Option<Priority>>,
}

impl LimitsChange {
    /// Leaves all as it is.
    pub const NONE: Self =
        Self { requests_per_minute: None, tokens_per_minute: None, streams: None, priority: None };

    /// What it makes of the limits there were.
    pub fn of(self, before: Limits) -> Limits {
        Limits {
            requests_per_minute: self.requests_per_minute.unwrap_or(before.requests_per_minute),
            tokens_per_minute: self.tokens_per_minute.unwrap_or(before.tokens_per_minute),
            streams: self.streams.unwrap_or(before.streams),
            priority: self.priority.unwrap_or(before.priority),
        }
    }

    /// As [`Limits::fault`], of what is set.
    pub fn fault(self) -> Option<(&'static str, &'static str)> {
        self.of(Limits::default()).fault()
    }
}

/// A third of a minute's requests may come at once.
pub const fn requests_per_minute(permits: u32) -> Quota {
    per_minute(permits, if permits < 3 { 1 } else { permits / 3 })
}

/// A whole minute's tokens may be spent at once: one answer can take most of them.
pub const fn tokens_per_minute(permits: u32) -> Quota {
    per_minute(permits, permits)
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

    const SOME: Limits = Limits {
        requests_per_minute: Some(60),
        tokens_per_minute: Some(5_000),
        streams: None,
        priority: Some(Priority::Batch),
    };

    #[test]
    fn the_first_limit_outside_its_bounds_is_named() {
        let none = Limits::default();
        for (limits, at) in [
            (none, None),
            (SOME, None),
            (Limits { requests_per_minute: Some(1_000_000), streams: Some(1), ..none }, None),
            (Limits { tokens_per_minute: Some(1_000_000_000), streams: Some(10_000), ..none }, None),
            (Limits { requests_per_minute: Some(0), streams: Some(0), ..none }, Some("requests_per_minute")),
            (Limits { requests_per_minute: Some(1_000_001), ..none }, Some("requests_per_minute")),
            (Limits { tokens_per_minute: Some(0), ..SOME }, Some("tokens_per_minute")),
            (Limits { tokens_per_minute: Some(1_000_000_001), ..SOME }, Some("tokens_per_minute")),
            (Limits { streams: Some(0), ..SOME }, Some("streams")),
            (Limits { streams: Some(10_001), ..SOME }, Some("streams")),
        ] {
            assert_eq!(limits.fault().map(|(name, _)| name), at, "{limits:?}");
        }
        let change = LimitsChange { streams: Some(Some(0)), ..LimitsChange::NONE };
        assert_eq!(change.fault().map(|(name, _)| name), Some("streams"));
        assert_eq!(LimitsChange { streams: Some(None), ..LimitsChange::NONE }.fault(), None);
    }

    #[test]
    fn a_change_sets_removes_and_leaves_and_what_it_did_is_told() {
        assert_eq!(LimitsChange::NONE.of(SOME), SOME);
        assert_eq!(SOME.told_since(&SOME), None);
        let change = LimitsChange {
            requests_per_minute: Some(Some(90)),
            tokens_per_minute: None,
            streams: Some(Some(2)),
            priority: Some(None),
        };
        let changed = change.of(SOME);
        let expected = Limits { requests_per_minute: Some(90), streams: Some(2), priority: None, ..SOME };
        assert_eq!(changed, expected);
        let told = "requests_per_minute 60 to 90, streams none to 2, priority batch to none";
        assert_eq!(changed.told_since(&SOME).as_deref(), Some(told));
        assert_eq!(change.of(changed), changed, "again");
    }
}
