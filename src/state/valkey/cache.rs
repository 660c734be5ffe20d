//! Rows as they were read last, so that most scores need no round trip to the store.
//!
//! The laws: a row younger than `max_staleness` is served as it is, and an older one only while the store can't be
//! reached; an answer that was requested before a write never replaces the row that the write left.

use std::time::Duration;

use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::time::Instant;

use super::value::Value;
use crate::state::UserKey;

/// A row as of a moment.
#[derive(Debug, Clone)]
pub(super) struct CachedRow {
    /// None for a user without a row.
    pub(super) value: Option<Value>,
    /// Time of the request to the store: later writes may be missing.
    pub(super) as_of: Instant,
}

impl CachedRow {
    pub(super) fn age(&self) -> Duration {
        self.as_of.elapsed()
    }
}

#[derive(Debug, Clone)]
struct Entry {
    row: CachedRow,
    put_at: Instant,
}

/// A bounded map of rows; the least recently used are evicted first, so that a row just written stays.
#[derive(Debug)]
pub(super) struct RowCache(Cache<UserKey, Entry>);

impl RowCache {
    pub(super) fn new(max_rows: usize) -> Self {
        let policy = EvictionPolicy::lru();
        Self(Cache::builder().max_capacity(max_rows as u64).eviction_policy(policy).build())
    }

    pub(super) fn get(&self, user: UserKey) -> Option<CachedRow> {
        self.0.get(&user).map(|entry| entry.row)
    }

    /// Keeps a row that this process has written.
    pub(super) fn written(&self, user: UserKey, row: CachedRow) {
        self.0.insert(user, Entry { row, put_at: Instant::now() });
    }

    /// Keeps a row that was read, unless the entry is younger than the request for it.
    pub(super) fn read(&self, user: UserKey, row: CachedRow) {
        let entry = Entry { put_at: Instant::now(), row };
        self.0.entry(user).and_compute_with(|there| match there {
            Some(there) if there.value().put_at >= entry.row.as_of => Op::Nop,
            _ => Op::Put(entry),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(byte: u8, as_of: Instant) -> CachedRow {
        CachedRow { value: Some(Value::from(vec![byte; 9])), as_of }
    }

    #[test]
    fn an_answer_that_was_asked_for_before_a_write_is_dropped() {
        let (cache, user) = (RowCache::new(10), UserKey::from([1; 16]));
        let asked = Instant::now();
        cache.written(user, row(2, Instant::now()));
        cache.read(user, row(1, asked));
        assert_eq!(cache.get(user).unwrap().value, row(2, asked).value);
        let later = Instant::now() + Duration::from_secs(1);
        cache.read(user, row(3, later));
        assert_eq!(cache.get(user).unwrap().value, row(3, asked).value);
    }

    #[test]
    fn the_rows_are_bounded_and_used_ones_stay() {
        let cache = RowCache::new(100);
        let user = |n: u8| UserKey::from([n; 16]);
        let put = |n: u8| {
            cache.written(user(n), row(n, Instant::now()));
            cache.0.run_pending_tasks();
        };
        (0..100).for_each(put);
        (0..20).for_each(|n| assert!(cache.get(user(n)).is_some()));
        (100..130).for_each(put);
        assert_eq!(cache.0.entry_count(), 100);
        assert!((0..20).chain(100..130).all(|n| cache.get(user(n)).is_some()));
        assert!((20..50).all(|n| cache.get(user(n)).is_none()));
    }
}
