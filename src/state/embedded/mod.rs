//! The embedded engine: rows in memory are the truth, a journal makes them durable, a file of rows makes restarts short.
//!
//! The law: a change is acked once its journal frame is durable, and a restart replays every frame that the file of rows
//! does not have. Each row carries the position of its last change, so a frame is replayed at most once per row.

mod events;
mod keeper;
mod recover;
mod rows;
mod survey;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::Deserialize;

pub use events::{EventLog, Logged};
pub use survey::Survey;

use self::keeper::{Keeper, Tasks};
use self::rows::Rows;
use super::journal::{DataDir, Heads, Journal, OpenError};
use super::resident::Resident;
use super::{
    CHANGES_AT_ONCE, Change, ChangeKind, Outcome, Reading, RouterStore, Row, Rules, StoreError, UserKey,
    readable,
};
use crate::types::Clock;

/// A longer tail of the journal would make a restart slow: about a second here.
const MAX_TAIL: u64 = 500_000;

/// How long to wait for rows to be spilled before looking again.
const SPILL_WAIT: Duration = Duration::from_millis(5);

/// Where and how an embedded store keeps things.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// The data directory.
    pub dir: PathBuf,
    /// The heads its ledgers are for.
    pub heads: Heads,
    /// What rows are kept by.
    pub rules: Rules,
    /// Users at most.
    pub max_users: usize,
    /// Rows in memory; more are spilled to the file of rows.
    pub resident_users: usize,
    /// Whether an ack waits for the disk.
    pub is_sync: bool,
    /// How often rows are written to the file of rows.
    pub checkpoint_every: Duration,
    /// How long the raw events are kept.
    pub retention: Duration,
    /// After an erasure, how long until no file has the user's events.
    pub erase_within: Duration,
}

/// The embedded engine.
#[derive(Debug)]
pub struct Embedded {
    core: Arc<Core>,
    keeper: Keeper,
}

/// What requests and the keeper share.
#[derive(Debug)]
struct Core {
    config: EmbeddedConfig,
    clock: Arc<dyn Clock>,
    dir: DataDir,
    resident: Resident,
    rows: Rows,
    journal: Journal,
    /// Every change up to this position is in the file of rows.
    checkpoint: AtomicU64,
    tasks: Tasks,
    /// When the open segment of the journal was begun.
    rotated: Mutex<tokio::time::Instant>,
    /// Why the last checkpoint failed.
    trouble: Mutex<Option<Arc<str>>>,
}

/// A change as it is journalled, its user's key first.
#[derive(Debug, Deserialize)]
struct Journalled {
    change: Change,
    /// `max_age_ms` of the rules by which it was made. A replay must forget what was forgotten then, and nothing else.
    max_age_ms: i64,
}

impl Embedded {
    /// Opens a data directory, or makes it, and replays what the file of rows does not have. Blocks.
    ///
    /// # Errors
    /// When another process has it, a file can't be read or is damaged, or its ledgers are of other heads.
    pub fn open(config: EmbeddedConfig, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let core = Arc::new(recover::open(config, clock)?);
        let keeper = Keeper::spawn(core.clone())?;
        Ok(Self { core, keeper })
    }
}

impl Core {
    fn change(&self, changes: &[Change]) -> Result<(Vec<Outcome>, u64), StoreError> {
        let mut last_lsn = 0;
        let change = |change: &Change| {
            let journalled = (change, self.config.rules.max_age_ms);
            let payload = postcard::to_allocvec(&journalled).unwrap_or_default();
            let keep = || {
                last_lsn = self.journal.append(&payload);
                last_lsn
            };
            let outcome = self.resident.change(change, || self.rows.get(change.user), keep)?;
            if matches!((&change.kind, outcome), (ChangeKind::Erase, Outcome::Applied(_))) {
                self.tasks.erase(change.user, last_lsn, self.config.erase_within);
            }
            // What was done before is acked when it is durable, and it may have come only just before.
            if matches!(outcome, Outcome::Duplicate(_)) {
                last_lsn = self.journal.last_lsn();
            }
            Ok(outcome)
        };
        let outcomes: Result<Vec<Outcome>, StoreError> = changes.iter().map(change).collect();
        if last_lsn.saturating_sub(self.checkpoint()) > MAX_TAIL || self.is_crowded() {
            self.tasks.nudge();
        }
        Ok((outcomes?, last_lsn))
    }

    fn load(&self, user: UserKey) -> Result<Option<Row>, StoreError> {
        let held = self.resident.get_or_load(user, || self.rows.get(user))?;
        if self.is_crowded() {
            self.tasks.nudge();
        }
        held.map(|held| self.resident.decode(user, &held.bytes)).transpose()
    }

    fn sample(&self, n: usize) -> Result<Vec<Row>, StoreError> {
        let mut rows = self.resident.smallest(n);
        for (user, held) in self.rows.first(n)? {
            // What is resident is newer, be it only a tombstone.
            if !self.resident.contains(user) {
                rows.extend(readable(self.resident.decode(user, &held.bytes))?.map(|row| (user, row)));
            }
        }
        Ok(rows.into_values().take(n).collect())
    }

    fn checkpoint(&self) -> u64 {
        self.checkpoint.load(Ordering::Acquire)
    }

    /// Whether more rows are resident than there should be.
    fn is_crowded(&self) -> bool {
        self.resident.len() > self.config.resident_users
    }

    /// Whether a row whose last change has this position is in the file of rows as it is.
    fn is_saved(&self, lsn: u64) -> bool {
        lsn <= self.checkpoint()
    }
}

#[async_trait]
impl RouterStore for Embedded {
    async fn change(&self, changes: Vec<Change>) -> Result<Vec<Outcome>, StoreError> {
        self.core.journal.room().await?;
        while self.core.resident.len() > self.core.config.resident_users.saturating_mul(2) {
            if let Some(trouble) = self.core.trouble.lock().clone() {
                return Err(StoreError::Journal(trouble));
            }
            self.core.tasks.nudge();
            tokio::time::sleep(SPILL_WAIT).await;
        }
        let is_resident = |change: &Change| self.core.resident.contains(change.user);
        let (outcomes, lsn) = if self.core.checkpoint() == 0 || changes.iter().all(is_resident) {
            let (mut outcomes, mut last_lsn) = (Vec::with_capacity(changes.len()), 0);
            for changes in changes.chunks(CHANGES_AT_ONCE) {
                let (made, lsn) = self.core.change(changes)?;
                outcomes.extend(made);
                last_lsn = last_lsn.max(lsn);
                tokio::task::yield_now().await;
            }
            (outcomes, last_lsn)
        } else {
            let core = self.core.clone();
            blocking(move || core.change(&changes)).await?
        };
        if self.core.config.is_sync {
            self.core.journal.durable(lsn).await?;
        }
        Ok(outcomes)
    }

    async fn get(&self, user: UserKey, _min_version: u64) -> Result<Reading, StoreError> {
        if let Some(held) = self.core.resident.get(user) {
            return Ok(Reading::current(Some(self.core.resident.decode(user, &held.bytes)?)));
        }
        if self.core.checkpoint() == 0 {
            return Ok(Reading::current(None));
        }
        let core = self.core.clone();
        Ok(Reading::current(blocking(move || core.load(user)).await?))
    }

    async fn sample(&self, n: usize) -> Result<Vec<Row>, StoreError> {
        let core = self.core.clone();
        blocking(move || core.sample(n)).await
    }

    fn n_users(&self) -> usize {
        self.core.resident.n_users()
    }

    fn trouble(&self) -> Option<Arc<str>> {
        self.core.journal.failure().or_else(|| self.core.trouble.lock().clone())
    }

    fn events(&self) -> Option<EventLog> {
        Some(EventLog::of(self.core.dir.journal()))
    }

    async fn close(&self) {
        self.keeper.stop();
        let core = self.core.clone();
        let close = blocking(move || {
            core.journal.close();
            core.save()
        });
        if let Err(error) = close.await {
            tracing::warn!(%error, "the last checkpoint failed; the next start will replay the journal");
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let ended = |error: tokio::task::JoinError| StoreError::Unreachable {
        engine: "embedded",
        source: Some(Box::new(error)),
    };
    tokio::task::spawn_blocking(work).await.map_err(ended)?
}
