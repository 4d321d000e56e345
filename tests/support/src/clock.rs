//! The wall clock of the test ground, read here only.

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::DateTime;

/// Time since 1970 by the machine's clock; comparable between processes of one machine.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a fake server stamps its replies, as the real one does")]
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Writes RFC 3339 times the way Go does: up to nine decimals, trailing zeros trimmed.
///
/// Keeps the text of the current second, because a stream at full speed needs a time per line.
#[derive(Debug, Default)]
pub(crate) struct Stamp {
    second: u64,
    date: String,
}

impl Stamp {
    /// Appends the present, in UTC.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>) {
        self.write_at(now(), out);
    }

    /// Appends the time `at` after 1970, in UTC.
    pub(crate) fn write_at(&mut self, at: Duration, out: &mut Vec<u8>) {
        if self.date.is_empty() || self.second != at.as_secs() {
            self.second = at.as_secs();
            let seconds = i64::try_from(self.second).unwrap_or(i64::MAX);
            self.date = DateTime::from_timestamp(seconds, 0)
                .map(|date| date.format("%Y-%m-%dT%H:%M:%S").to_string())
                .unwrap_or_default();
        }
        out.extend_from_slice(self.date.as_bytes());
        if at.subsec_nanos() > 0 {
            // Writing into a vector cannot fail.
            let _ = write!(out, ".{:09}", at.subsec_nanos());
            while out.last() == Some(&b'0') {
                out.pop();
            }
        }
        out.push(b'Z');
    }
}

/// The time `at` after 1970 as text.
pub(crate) fn rfc3339(at: Duration) -> String {
    let mut out = Vec::new();
    Stamp::default().write_at(at, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_trimmed_as_go_trims_them() {
        assert_eq!(rfc3339(Duration::new(1_787_306_441, 200_000_000)), "2026-08-21T10:00:41.2Z");
        assert_eq!(rfc3339(Duration::new(1_787_306_441, 131_902_140)), "2026-08-21T10:00:41.13190214Z");
        assert_eq!(rfc3339(Duration::new(1_787_306_441, 0)), "2026-08-21T10:00:41Z");
    }
}
