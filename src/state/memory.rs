//! The memory engine: rows in this process, gone with it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::resident::Resident;
use super::{Change, Outcome, Reading, RouterStore, Row, Rules, StoreError, UserKey, UserKeys, codec};

/// Erasures after which tombstones whose window is over are looked for.
const ERASURES_PER_SWEEP: usize = 10_000;

/// Rows in memory.
#[derive(Debug)]
pub struct MemoryStore {
    rows: Arc<Resident>,
    n_erasures: AtomicUsize,
    keys: UserKeys,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(rules: Rules, max_users: NonZeroUsize) -> Self {
        let rows = Arc::new(Resident::new(rules, max_users.get(), (0, 0)));
        // Without random numbers unkeyed ones do: nothing of this leaves the process.
        let keys = UserKeys::random().unwrap_or_default();
        Self { rows, n_erasures: AtomicUsize::new(0), keys }
    }

    fn sweep(&self, now_ms: i64) {
        let rules = self.rows.rules;
        let is_spent =
            |bytes: &[u8]| codec::decode(bytes, rules.n_heads).is_ok_and(|row| row.is_spent(now_ms, &rules));
        let mut spent = Vec::new();
        self.rows.for_each(|user, _, bytes| spent.extend(is_spent(bytes).then_some(user)));
        let goes = |user: &UserKey| self.rows.drop_if(*user, |_, bytes| is_spent(bytes));
        self.rows.forgot(spent.into_iter().filter(goes).count());
    }
}

#[async_trait]
impl RouterStore for MemoryStore {
    async fn change(&self, changes: Vec<Change>) -> Result<Vec<Outcome>, StoreError> {
        let change = |change: &Change| {
            let outcome = self.rows.change(change, || Ok(None), |_| 0)?;
            let is_sweep = !change.brings_a_user()
                && self.n_erasures.fetch_add(1, Ordering::Relaxed) % ERASURES_PER_SWEEP
                    == ERASURES_PER_SWEEP - 1;
            if is_sweep {
                self.sweep(change.now_ms);
            }
            Ok(outcome)
        };
        changes.iter().map(change).collect()
    }

    async fn get(&self, user: UserKey, _min_version: u64) -> Result<Reading, StoreError> {
        let row = self.rows.get(user).map(|held| self.rows.decode(user, &held.bytes)).transpose()?;
        Ok(Reading::current(row))
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
