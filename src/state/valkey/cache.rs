//! Rows as they were read last, so that most scores ask nobody.
//!
//! The laws: a row that is younger than `max_staleness` is taken as it is, and an older one only while the store can't be
//! reached; an answer that was asked for before a write is never put over what the write left. No guard of the map leaves a
//! method.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::{DashMap, Entry};
use tokio::time::Instant;

use super::value::Value;
use crate::state::UserKey;

/// After making room, this share of the rows is left, so that there is room for a while.
const LEAVE: f64 = 0.9;

/// What was known at a moment.
#[derive(Debug, Clone)]
pub(super) struct CachedRow {
    /// None for somebody who has no row.
    pub(super) value: Option<Value>,
    /// When it was asked for: what was written later may be missing.
    pub(super) as_of: Instant,
}

impl CachedRow {
    pub(super) fn age(&self) -> Duration {
        self.as_of.elapsed()
    }
}

#[derive(Debug)]
struct Place {
    cached: CachedRow,
    put_at: Instant,
    /// Whether it was used since it was last passed over.
    is_used: AtomicBool,
}

/// A bounded map of rows.
#[derive(Debug)]
pub(super) struct Cache {
    places: DashMap<UserKey, Place>,
    max_rows: usize,
    /// Counted apart: `DashMap::len` takes every shard's lock.
    n_rows: AtomicUsize,
    is_making_room: AtomicBool,
}

impl Cache {
    pub(super) fn new(max_rows: usize) -> Self {
        Self {
            places: DashMap::new(),
            max_rows,
            n_rows: AtomicUsize::new(0),
            is_making_room: AtomicBool::new(false),
        }
    }

    pub(super) fn get(&self, user: UserKey) -> Option<CachedRow> {
        self.places.get(&user).map(|place| {
            place.is_used.store(true, Ordering::Relaxed);
            place.cached.clone()
        })
    }

    /// Keeps what this process has written.
    pub(super) fn written(&self, user: UserKey, cached: CachedRow) {
        self.put(user, cached, |_| true);
    }

    /// Keeps what was read, unless something has been put there since it was asked for.
    pub(super) fn read(&self, user: UserKey, cached: CachedRow) {
        let as_of = cached.as_of;
        self.put(user, cached, |place| place.put_at < as_of);
    }

    fn put(&self, user: UserKey, cached: CachedRow, may_replace: impl FnOnce(&Place) -> bool) {
        let place = Place { cached, put_at: Instant::now(), is_used: AtomicBool::new(true) };
        match self.places.entry(user) {
            Entry::Occupied(mut there) => {
                if may_replace(there.get()) {
                    there.insert(place);
                }
            }
            Entry::Vacant(slot) => {
                slot.insert(place);
                self.n_rows.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Whether there are too many rows and nobody makes room yet; the caller is then to do it.
    pub(super) fn is_crowded(&self) -> bool {
        self.n_rows.load(Ordering::Relaxed) > self.max_rows
            && !self.is_making_room.swap(true, Ordering::Relaxed)
    }

    /// Drops rows: first those that nobody used since the last time, then any. It may take long.
    pub(super) fn make_room(&self) {
        let left = (self.max_rows as f64 * LEAVE) as usize;
        for spare_used in [true, false] {
            let surplus = self.n_rows.load(Ordering::Relaxed).saturating_sub(left);
            let mut n_left = surplus;
            self.places.retain(|_, place| {
                let is_used = place.is_used.swap(false, Ordering::Relaxed) && spare_used;
                let goes = n_left > 0 && !is_used;
                n_left -= usize::from(goes);
                !goes
            });
            self.n_rows.fetch_sub(surplus - n_left, Ordering::Relaxed);
        }
        self.is_making_room.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cached(byte: u8, as_of: Instant) -> CachedRow {
        CachedRow { value: Some(Value::from(vec![byte; 9])), as_of }
    }

    #[test]
    fn an_answer_that_was_asked_for_before_a_write_is_dropped() {
        let (cache, user) = (Cache::new(10), UserKey::from([1; 16]));
        let asked = Instant::now();
        cache.written(user, cached(2, Instant::now()));
        cache.read(user, cached(1, asked));
        assert_eq!(cache.get(user).unwrap().value, cached(2, asked).value);
        let later = Instant::now() + Duration::from_secs(1);
        cache.read(user, cached(3, later));
        assert_eq!(cache.get(user).unwrap().value, cached(3, asked).value);
    }

    #[test]
    fn the_rows_are_bounded_and_used_ones_stay() {
        let cache = Cache::new(100);
        let user = |n: u8| UserKey::from([n; 16]);
        (0..101).for_each(|n| cache.written(user(n), cached(n, Instant::now())));
        assert!(cache.is_crowded() && !cache.is_crowded());
        cache.make_room();
        assert_eq!(cache.places.len(), 90);
        let used: Vec<u8> = (0..101).filter(|n| cache.get(user(*n)).is_some()).take(20).collect();
        cache.places.iter().filter(|place| !used.contains(&place.key().as_bytes()[0])).for_each(|place| {
            place.is_used.store(false, Ordering::Relaxed);
        });
        (101..130).for_each(|n| cache.written(user(n), cached(n, Instant::now())));
        assert!(cache.is_crowded());
        cache.make_room();
        assert!(used.iter().all(|n| cache.get(user(*n)).is_some()));
        assert_eq!(cache.n_rows.load(Ordering::Relaxed), cache.places.len());
    }
}
