//! The memory engine: rows in this process, lost when it ends.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::resident::{Counts, Resident};
use super::{
    CHANGES_AT_ONCE, Change, ChangeKind, Outcome, Row, RowRead, RowRules, StoreError, UserKey, UserKeys,
    UserStore, codec,
};

/// Changes that may leave a tombstone, between two sweeps for tombstones whose window is over.
const ERASURES_PER_SWEEP: usize = 10_000;

/// Rows in memory.
#[derive(Debug)]
pub struct MemoryStore {
    rows: Arc<Resident>,
    n_erasures: AtomicUsize,
    keys: UserKeys,
}

impl MemoryStore {
    /// Returns an empty store.
    #[must_use]
    pub fn new(rules: RowRules, max_users: NonZeroUsize) -> Self {
        let rows = Arc::new(Resident::new(rules, max_users.get(), Counts::default()));
        // Without random numbers, unkeyed hashes suffice, as no key leaves the process.
        let keys = UserKeys::random().unwrap_or_default();
        Self { rows, n_erasures: AtomicUsize::new(0), keys }
    }

    /// Drops tombstones whose window is over, off the async threads: every row is decoded.
    fn sweep(&self, now_ms: i64) {
        let rows = self.rows.clone();
        tokio::task::spawn_blocking(move || sweep(&rows, now_ms));
    }
}

fn sweep(rows: &Resident, now_ms: i64) {
    let rules = rows.rules;
    let is_spent =
        |bytes: &[u8]| codec::decode(bytes, rules.n_heads).is_ok_and(|row| row.is_spent(now_ms, &rules));
    let mut spent = Vec::new();
    rows.for_each(|user, _, bytes| spent.extend(is_spent(bytes).then_some(user)));
    let is_dropped = |user: &UserKey| rows.drop_if(*user, |_, bytes| is_spent(bytes));
    rows.forgot(spent.into_iter().filter(is_dropped).count());
}

#[async_trait]
impl UserStore for MemoryStore {
    async fn change(&self, changes: Vec<Change>) -> Result<Vec<Outcome>, StoreError> {
        let mut outcomes = Vec::with_capacity(changes.len());
        for (idx, change) in changes.iter().enumerate() {
            outcomes.push(self.rows.change(change, || Ok(None), |_| 0)?);
            let may_leave_a_tombstone = !matches!(change.kind, ChangeKind::Add(_) | ChangeKind::Import(_));
            let is_sweep = may_leave_a_tombstone
                && self.n_erasures.fetch_add(1, Ordering::Relaxed) % ERASURES_PER_SWEEP
                    == ERASURES_PER_SWEEP - 1;
            if is_sweep {
                self.sweep(change.now_ms);
            }
            if idx % CHANGES_AT_ONCE == CHANGES_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
        }
        Ok(outcomes)
    }

    async fn get(&self, user: UserKey, _min_version: u64) -> Result<RowRead, StoreError> {
        let row = self.rows.get(user).map(|held| self.rows.decode(user, &held.bytes)).transpose()?;
        Ok(RowRead::current(row))
    }

    async fn sample(&self, n: usize) -> Result<Vec<Row>, StoreError> {
        let rows = self.rows.clone();
        let sample = tokio::task::spawn_blocking(move || rows.smallest(n).into_values().collect());
        sample.await.map_err(|_| StoreError::Unreachable { engine: "memory", source: None })
    }

    fn keys(&self) -> UserKeys {
        self.keys.clone()
    }

    fn n_users(&self) -> usize {
        self.rows.n_users()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::Decay;

    #[test]
    fn a_sweep_is_waited_for_by_no_change() {
        let rules = RowRules { n_heads: 2, decay: Decay::NONE, max_age_ms: 10, max_events: 10 };
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let store = MemoryStore::new(rules, NonZeroUsize::new(2 * ERASURES_PER_SWEEP).unwrap());
            let erase = |n: usize, now_ms: i64| Change {
                user: UserKey::from((n as u128).to_le_bytes()),
                now_ms,
                kind: ChangeKind::Erase,
            };
            // The receiver occupies the only thread for blocking work.
            let (release, is_held) = std::sync::mpsc::channel::<()>();
            let held = tokio::task::spawn_blocking(move || is_held.recv());
            store.change((1..ERASURES_PER_SWEEP).map(|n| erase(n, 0)).collect()).await.unwrap();
            let last = store.change(vec![erase(ERASURES_PER_SWEEP, 1000)]).await.unwrap();
            assert_eq!((last, store.rows.len()), (vec![Outcome::Applied(1)], ERASURES_PER_SWEEP));
            release.send(()).unwrap();
            held.await.unwrap().unwrap();
            while store.rows.len() > 1 {
                tokio::task::yield_now().await;
            }
        });
    }
}
