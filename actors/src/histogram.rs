//! A histogram of times that costs its writers two atomic additions, 15 ns: no lock, so that it may stand where tokens pass.
//!
//! A scrape that comes between the two sees a sum that is one observation behind, which no rate notices.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use prometheus_client::encoding::{MetricEncoder, NoLabelSet};

/// Counts times by the first of `N` bounds, in seconds, that is not below them; what is above all of them is counted apart.
#[derive(Debug)]
pub(crate) struct Histogram<const N: usize> {
    bounds: &'static [f64; N],
    /// The same in nanoseconds, which need no division to compare.
    nanosecond_bounds: [u64; N],
    counts: [AtomicU64; N],
    above: AtomicU64,
    nanoseconds: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    /// `bounds` ascend.
    pub(crate) const fn new(bounds: &'static [f64; N]) -> Self {
        let mut nanosecond_bounds = [0; N];
        let mut place = 0;
        while place < N {
            nanosecond_bounds[place] = (bounds[place] * 1e9) as u64;
            place += 1;
        }
        Self {
            bounds,
            nanosecond_bounds,
            counts: [const { AtomicU64::new(0) }; N],
            above: AtomicU64::new(0),
            nanoseconds: AtomicU64::new(0),
        }
    }

    pub(crate) fn observe(&self, took: Duration) {
        let nanoseconds =
            took.as_secs().saturating_mul(1_000_000_000).saturating_add(took.subsec_nanos().into());
        let place = self.nanosecond_bounds.iter().position(|bound| nanoseconds <= *bound);
        place.and_then(|place| self.counts.get(place)).unwrap_or(&self.above).fetch_add(1, Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().chain([&self.above]).map(|count| count.load(Relaxed)).sum()
    }

    /// Writes its samples; a family that has a histogram for each of many labels leaves out those with no [`Self::count`].
    pub(crate) fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let mut buckets: Vec<(f64, u64)> = self
            .bounds
            .iter()
            .zip(&self.counts)
            .map(|(bound, count)| (*bound, count.load(Relaxed)))
            .collect();
        buckets.push((f64::INFINITY, self.above.load(Relaxed)));
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(self.nanoseconds.load(Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_counted_once_at_the_first_bound_that_is_not_below_it() {
        static BOUNDS: [f64; 3] = [0.001, 0.01, 0.1];
        let histogram = Histogram::new(&BOUNDS);
        for millis in [0, 1, 2, 10, 99, 101, 60_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let counts = histogram.counts.each_ref().map(|count| count.load(Relaxed));
        assert_eq!((counts, histogram.above.load(Relaxed), histogram.count()), ([2, 2, 1], 2, 7));
        assert_eq!(histogram.nanoseconds.load(Relaxed), 60_213_000_000);
    }
}
