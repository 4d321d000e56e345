//! A map of never more than a number of entries.
//!
//! When the table is full, entries that are not in use make room: those first whose loss is [`Worth::Nothing`], and only if
//! that is not enough those worth [`Worth::Little`]. While every entry is in use, keys that have none share overflow entries:
//! those of one *lane* are limited together, which is harsh to the newcomers of that moment and bounds both memory and what
//! they can all spend.

use std::{collections::HashMap, hash::Hash, time::Duration};

use domain::quota::Micros;

use crate::rate_limit::metrics::TableMetrics;

/// A full table looks for entries to forget at most this often: one look costs some microseconds per thousand keys.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

/// What it costs to forget an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// It limits no more than a new one would, or hardly.
    Nothing,
    /// Nobody waits for it now, but later failures would weigh more with it than without.
    Little,
    InUse,
}

pub(super) struct Table<K, V> {
    capacity: usize,
    /// Hashed with a seed of its own, so that nobody can choose keys that collide.
    entries: HashMap<K, V>,
    /// Of the keys that found no room, one entry for each lane.
    overflow: Box<[V]>,
    next_sweep: Micros,
    metrics: TableMetrics,
}

/// Where a key is counted.
pub(super) enum Place<'a, V> {
    Own(&'a mut V),
    Shared(&'a mut V),
}

impl<K: Eq + Hash, V: Clone> Table<K, V> {
    pub(super) fn new(capacity: usize, overflow: V, lanes: usize, metrics: TableMetrics) -> Self {
        let overflow = vec![overflow; lanes.max(1)].into();
        // Also after a restart, whose memory is empty.
        metrics.keys.set(0);
        Self { capacity, entries: HashMap::new(), overflow, next_sweep: Micros(0), metrics }
    }

    /// The entry of `key`, made if there is room for another, else the one that is shared in its lane.
    pub(super) fn place(
        &mut self,
        now: Micros,
        key: K,
        lane: usize,
        make: impl FnOnce() -> V,
        worth: impl Fn(&V) -> Worth,
    ) -> Place<'_, V> {
        let is_new = !self.entries.contains_key(&key);
        if is_new {
            if self.entries.len() >= self.capacity {
                self.sweep(now, worth);
            }
            if self.entries.len() >= self.capacity {
                self.metrics.overflow.inc();
                return Place::Shared(self.shared(lane));
            }
        }
        let size = self.entries.len() + usize::from(is_new);
        self.metrics.keys.set(i64::try_from(size).unwrap_or(i64::MAX));
        Place::Own(self.entries.entry(key).or_insert_with(make))
    }

    /// The entry of `key` alone, if it has one.
    pub(super) fn own(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// The entry of those of this lane that found no room; lanes beyond the last are the first ones again.
    pub(super) fn shared(&mut self, lane: usize) -> &mut V {
        &mut self.overflow[lane % self.overflow.len()]
    }

    fn sweep(&mut self, now: Micros, worth: impl Fn(&V) -> Worth) {
        if now < self.next_sweep {
            return;
        }
        let pause = u64::try_from(SWEEP_INTERVAL.as_micros()).unwrap_or(u64::MAX);
        self.next_sweep = Micros(now.0.saturating_add(pause));
        self.entries.retain(|_, entry| worth(entry) != Worth::Nothing);
        if self.entries.len() >= self.capacity {
            self.entries.retain(|_, entry| worth(entry) == Worth::InUse);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What the map has allocated: hashbrown fills seven of eight places and keeps a byte beside each.
    #[cfg(test)]
    pub(super) fn size_bytes(&self) -> usize {
        self.entries.capacity() * 8 / 7 * (size_of::<(K, V)>() + 1) + size_of_val(&*self.overflow)
    }

    #[cfg(test)]
    pub(super) fn holds(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }
}
