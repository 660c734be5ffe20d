//! The memory engine: a sharded map in this process, gone with it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use dashmap::{DashMap, Entry};

use super::{LedgerEvent, Outcome, RouterStore, Row, StoreError};
use crate::mixture::Decay;
use crate::types::{UserId, key64};

/// Going through a million users takes half a second, shard by shard, and a feedback may have to wait for its own: 4 ms
/// at worst as measured, against 60 ms with 8 shards.
const SHARDS: usize = 256;

/// Rows in memory. No guard of the map leaves a method.
#[derive(Debug)]
pub struct MemoryStore {
    rows: Arc<DashMap<UserId, Row>>,
    /// Counted apart: `DashMap::len` takes every shard's lock.
    n_users: AtomicUsize,
    n_heads: usize,
    max_users: usize,
    decay: Decay,
}

impl MemoryStore {
    /// An empty store for ledgers of `n_heads` heads.
    #[must_use]
    pub fn new(n_heads: usize, max_users: NonZeroUsize, decay: Decay) -> Self {
        let max_users = max_users.get();
        Self {
            rows: Arc::new(DashMap::with_shard_amount(SHARDS)),
            n_users: AtomicUsize::new(0),
            n_heads,
            max_users,
            decay,
        }
    }

    fn apply_one(&self, event: LedgerEvent) -> Outcome {
        match self.rows.entry(event.user.clone()) {
            Entry::Occupied(mut row) => row.get_mut().apply(&event, self.decay),
            Entry::Vacant(slot) => {
                if !self.admit() {
                    return Outcome::Full { max_users: self.max_users };
                }
                slot.insert(Row::new(self.n_heads)).apply(&event, self.decay)
            }
        }
    }

    /// Takes a place for one more user, if there is one.
    fn admit(&self) -> bool {
        let one_more = |n: usize| (n < self.max_users).then_some(n + 1);
        self.n_users.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }
}

#[async_trait]
impl RouterStore for MemoryStore {
    async fn apply(&self, events: Vec<LedgerEvent>) -> Result<Vec<Outcome>, StoreError> {
        Ok(events.into_iter().map(|event| self.apply_one(event)).collect())
    }

    async fn get(&self, user: &UserId) -> Result<Option<Row>, StoreError> {
        Ok(self.rows.get(user).map(|row| row.clone()))
    }

    async fn erase(&self, user: &UserId) -> Result<Option<Row>, StoreError> {
        let row = self.rows.remove(user).map(|(_, row)| row);
        if row.is_some() {
            self.n_users.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(row)
    }

    async fn sample(&self, n: usize) -> Result<Vec<Row>, StoreError> {
        let rows = self.rows.clone();
        let sample = tokio::task::spawn_blocking(move || smallest(&rows, n));
        sample.await.map_err(|_| StoreError::Unreachable { engine: "memory" })
    }

    fn n_users(&self) -> usize {
        self.n_users.load(Ordering::Relaxed)
    }
}

/// The `n` rows with the smallest keys, of all that are there. Holds one shard's lock at a time, and n rows.
fn smallest(rows: &DashMap<UserId, Row>, n: usize) -> Vec<Row> {
    let mut kept: BTreeMap<(u64, UserId), Row> = BTreeMap::new();
    for entry in rows {
        let key = key64(entry.key().as_str().as_bytes());
        if kept.len() == n && kept.last_key_value().is_none_or(|((largest, _), _)| key > *largest) {
            continue;
        }
        kept.insert((key, entry.key().clone()), entry.value().clone());
        if kept.len() > n {
            kept.pop_last();
        }
    }
    kept.into_values().collect()
}
