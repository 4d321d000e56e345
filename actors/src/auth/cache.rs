//! A bounded map that forgets what is not used.
//!
//! Each shard has two generations. New and used entries are young; when the young are full, or at each
//! [`Cache::age`], the old are dropped and the young become the old. So nothing is swept, each operation costs the same,
//! and an entry survives until it has not been used for a whole generation.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher, Hash},
    mem,
};

use parking_lot::Mutex;

/// Enough that two cores seldom meet at one.
const SHARDS: usize = 16;

pub(super) struct Cache<K, V> {
    shards: [Mutex<Shard<K, V>>; SHARDS],
    /// Entries of one generation of one shard.
    capacity: usize,
    spread: RandomState,
}

struct Shard<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V> Default for Shard<K, V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<K, V> Shard<K, V> {
    fn age(&mut self) {
        self.old = mem::take(&mut self.young);
    }
}

impl<K: Hash + Eq, V: Clone> Cache<K, V> {
    /// Makes a cache that never holds more than `entries`, and at least half as many if they are wanted.
    pub(super) fn new(entries: usize) -> Self {
        Self {
            shards: Default::default(),
            capacity: (entries / SHARDS / 2).max(1),
            spread: RandomState::new(),
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<V>
    where
        K: Copy,
    {
        let mut shard = self.shard(key).lock();
        if let Some(value) = shard.young.get(key) {
            return Some(value.clone());
        }
        let value = shard.old.remove(key)?;
        self.keep(&mut shard, *key, value.clone());
        Some(value)
    }

    /// Puts `value` there unless `stays` says that what is there should stay; returns what is there then.
    pub(super) fn insert_unless(&self, key: K, value: V, stays: impl FnOnce(&V) -> bool) -> V {
        let mut shard = self.shard(&key).lock();
        let known = shard.young.get(&key).or_else(|| shard.old.get(&key)).cloned();
        let value = known.filter(stays).unwrap_or(value);
        self.keep(&mut shard, key, value.clone());
        value
    }

    /// Forgets what has not been used since the last time.
    pub(super) fn age(&self) {
        for shard in &self.shards {
            shard.lock().age();
        }
    }

    pub(super) fn clear(&self) {
        for shard in &self.shards {
            *shard.lock() = Shard::default();
        }
    }

    fn keep(&self, shard: &mut Shard<K, V>, key: K, value: V) {
        if shard.young.len() >= self.capacity && !shard.young.contains_key(&key) {
            shard.age();
        }
        // Else a later `get` would promote an outdated twin.
        shard.old.remove(&key);
        shard.young.insert(key, value);
    }

    fn shard(&self, key: &K) -> &Mutex<Shard<K, V>> {
        &self.shards[self.spread.hash_one(key) as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl<K, V> Cache<K, V> {
        fn len(&self) -> usize {
            self.shards
                .iter()
                .map(|shard| {
                    let s = shard.lock();
                    s.young.len() + s.old.len()
                })
                .sum()
        }
    }

    fn put(cache: &Cache<u32, u32>, key: u32, value: u32) -> u32 {
        cache.insert_unless(key, value, |_| false)
    }

    #[test]
    fn a_cache_never_holds_more_than_its_bound() {
        let cache = Cache::new(640);
        for key in 0..100_000 {
            put(&cache, key, key);
            assert!(cache.len() <= 640, "{} after {key}", cache.len());
        }
        assert!(cache.len() >= 320);
    }

    #[test]
    fn what_is_used_survives_a_flood_of_what_is_not() {
        let cache = Cache::new(640);
        put(&cache, 0, 7);
        for key in 1..50_000 {
            put(&cache, key, key);
            assert_eq!(cache.get(&0), Some(7), "lost after {key}");
        }
    }

    #[test]
    fn what_is_not_used_for_two_ages_is_forgotten() {
        let cache = Cache::new(640);
        put(&cache, 1, 1);
        put(&cache, 2, 2);
        cache.age();
        assert_eq!(cache.get(&1), Some(1));
        cache.age();
        assert_eq!(cache.get(&1), Some(1));
        assert_eq!(cache.get(&2), None);
        cache.clear();
        assert_eq!(cache.get(&1), None);
    }

    #[test]
    fn an_entry_that_should_stay_stays_even_when_it_is_old() {
        let cache = Cache::new(640);
        put(&cache, 1, 5);
        cache.age();
        assert_eq!(cache.insert_unless(1, 3, |known| *known > 3), 5);
        assert_eq!(cache.get(&1), Some(5));
        assert_eq!(cache.insert_unless(1, 9, |known| *known > 9), 9);
        cache.age();
        assert_eq!(cache.get(&1), Some(9), "the outdated twin came back");
    }
}
