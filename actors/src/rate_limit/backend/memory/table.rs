//! The buckets of one scope, never more than a number of them.
//!
//! A full bucket is like one that was never used, so forgetting it changes no decision: those make room when the table
//! is full. While every bucket is in use, keys that have none share the overflow bucket; they are limited together,
//! which is harsh to the newcomers of that moment and bounds both memory and what they can all spend.

use std::{collections::HashMap, time::Duration};

use domain::quota::{Bucket, Micros, Quota, Verdict};

use crate::rate_limit::{key::Key, metrics::TableMetrics};

/// A full table looks for idle buckets at most this often: one look costs some microseconds per thousand keys.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

pub(super) struct Table {
    quota: Quota,
    capacity: usize,
    /// Hashed with a seed of its own, so that nobody can choose keys that collide.
    buckets: HashMap<Key, Bucket>,
    /// Of all keys that found no room.
    overflow: Bucket,
    next_sweep: Micros,
    metrics: TableMetrics,
}

impl Table {
    pub(super) fn new(quota: Quota, capacity: usize, metrics: TableMetrics) -> Self {
        // Also after a restart, whose memory is empty.
        metrics.keys.set(0);
        Self {
            quota,
            capacity,
            buckets: HashMap::new(),
            overflow: Bucket::default(),
            next_sweep: Micros(0),
            metrics,
        }
    }

    /// Spends `cost` from the bucket of `key`, or nothing; from the shared one if there is no room for another.
    pub(super) fn take(&mut self, now: Micros, key: Key, cost: u32) -> Verdict {
        let quota = self.quota;
        if let Some(bucket) = self.buckets.get_mut(&key) {
            return quota.take(bucket, now, cost);
        }
        if self.buckets.len() >= self.capacity {
            self.sweep(now);
        }
        if self.buckets.len() >= self.capacity {
            self.metrics.overflow.inc();
            return quota.take(&mut self.overflow, now, cost);
        }
        let verdict = quota.take(self.buckets.entry(key).or_default(), now, cost);
        self.show_size();
        verdict
    }

    fn sweep(&mut self, now: Micros) {
        if now < self.next_sweep {
            return;
        }
        let pause = u64::try_from(SWEEP_INTERVAL.as_micros()).unwrap_or(u64::MAX);
        self.next_sweep = Micros(now.0.saturating_add(pause));
        let quota = self.quota;
        self.buckets.retain(|_, bucket| !quota.is_full(bucket, now));
        self.show_size();
    }

    fn show_size(&self) {
        self.metrics.keys.set(i64::try_from(self.buckets.len()).unwrap_or(i64::MAX));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }

    /// What the map has allocated: hashbrown fills seven of eight places and keeps a byte beside each.
    #[cfg(test)]
    pub(super) fn size_bytes(&self) -> usize {
        self.buckets.capacity() * 8 / 7 * (size_of::<(Key, Bucket)>() + 1)
    }

    #[cfg(test)]
    pub(super) fn holds(&self, key: Key) -> bool {
        self.buckets.contains_key(&key)
    }
}
