//! The embedded engine: authoritative rows in memory, a journal for durability, a file of rows for short restarts.
//!
//! The law: with `is_sync`, a change is acked once its journal frame is durable; a restart replays every frame that the
//! file of rows lacks. Each row carries the position of its last change, so that it replays a frame at most once.

mod checkpointer;
mod events;
mod recover;
mod rows;
mod search;
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

use self::checkpointer::{Checkpointer, Tasks};
use self::rows::Rows;
use self::search::{Found, Search};
use super::journal::segment::Frame;
use super::journal::{DataDir, Dates, Journal, LedgerId, OpenError};
use super::resident::Resident;
use super::{
    CHANGES_AT_ONCE, Change, ChangeKind, EventKey, Outcome, Row, RowRead, RowRules, StoreError, UserKey,
    UserKeys, UserStore, Withdrawal, codec, readable,
};
use crate::types::{Clock, Liveness};

/// Changes since the last checkpoint beyond which the next is requested: a restart replays so many in about a second.
const MAX_TAIL: u64 = 500_000;

/// Interval between checks for room in memory while a change waits for an eviction.
const EVICTION_WAIT: Duration = Duration::from_millis(5);

/// Outcome of a retraction that finds nothing.
const NOTHING_NEW: Outcome = Outcome::Unknown { is_news: false };

/// Location and settings of an embedded store.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// The data directory.
    pub dir: PathBuf,
    /// The heads that its ledgers belong to.
    pub ledger_id: LedgerId,
    /// Retention and decay rules of the rows.
    pub rules: RowRules,
    /// Upper bound on the number of users.
    pub max_users: usize,
    /// Bound on the rows in memory; rows beyond it are evicted, and read from the file of rows.
    pub resident_users: usize,
    /// True if an ack waits for the disk.
    pub is_sync: bool,
    /// Interval between writes of changed rows to the file of rows.
    pub checkpoint_every: Duration,
    /// Time for which the raw events are kept.
    pub retention: Duration,
    /// Time after an erasure within which the user's events leave every file.
    pub erase_within: Duration,
}

/// The embedded engine.
#[derive(Debug)]
pub struct Embedded {
    core: Arc<Core>,
    checkpointer: Checkpointer,
}

/// State that requests and the checkpointer share.
#[derive(Debug)]
struct Core {
    config: EmbeddedConfig,
    clock: Arc<dyn Clock>,
    keys: UserKeys,
    dir: DataDir,
    resident: Resident,
    rows: Rows,
    journal: Journal,
    /// Every change up to this position is in the file of rows.
    checkpoint: AtomicU64,
    tasks: Tasks,
    /// Ages of the journal's old segments.
    dates: Dates,
    search: Search,
    /// Time at which the journal's open segment began.
    rotated: Mutex<tokio::time::Instant>,
    /// Error of the checkpointer's last pass, if it failed.
    trouble: Mutex<Option<Arc<str>>>,
    /// Liveness of the journal's writer and of the checkpointer.
    liveness: Liveness,
}

/// A change as the journal stores it, beginning with its user's key.
#[derive(Debug, Deserialize)]
struct JournaledChange {
    change: Change,
    /// `max_age_ms` of the rules that applied to it. A replay must forget what that change forgot, and no more.
    max_age_ms: i64,
}

/// Returns the user of a frame: a change begins with its user's key.
fn user_of(frame: &Frame) -> Option<UserKey> {
    frame.payload.first_chunk::<16>().map(|key| UserKey::from(*key))
}

impl Embedded {
    /// Opens or creates a data directory and replays the frames that the file of rows lacks. Blocks.
    ///
    /// # Errors
    /// When another process has it, a file can't be read or is damaged, or the ledgers belong to other heads.
    pub fn open(config: EmbeddedConfig, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let core = Arc::new(recover::open(config, clock)?);
        let checkpointer = Checkpointer::spawn(core.clone())?;
        Ok(Self { core, checkpointer })
    }
}

impl Core {
    fn change(&self, changes: &[Change]) -> Result<(Vec<Outcome>, u64), StoreError> {
        let mut last_lsn = 0;
        let change = |change: &Change| {
            let max_age_ms = self.config.rules.max_age_ms;
            let bytes = |change: &Change| postcard::to_allocvec(&(change, max_age_ms)).unwrap_or_default();
            let payload = bytes(change);
            let keep = |outcome| {
                let remainder = change.remainder(outcome).as_ref().map(bytes);
                last_lsn = self.journal.append(remainder.as_ref().unwrap_or(&payload));
                last_lsn
            };
            let outcome = self.resident.change(change, || self.rows.get(change.user), keep)?;
            if matches!((&change.kind, outcome), (ChangeKind::Erase, Outcome::Applied(_))) {
                self.tasks.erase(change.user, last_lsn, self.config.erase_within);
            }
            // The outcome rests on an earlier change that may not be durable yet, so the ack waits for it.
            if outcome.rests_on_another() && !outcome.changes_the_row() {
                last_lsn = self.journal.last_lsn();
            }
            Ok(outcome)
        };
        let outcomes: Result<Vec<Outcome>, StoreError> = changes.iter().map(change).collect();
        if last_lsn.saturating_sub(self.checkpoint()) > MAX_TAIL || self.is_crowded() {
            self.tasks.request_checkpoint();
        }
        Ok((outcomes?, last_lsn))
    }

    /// Applies changes and waits until they are as durable as an ack requires.
    async fn make(self: &Arc<Self>, changes: Vec<Change>) -> Result<Vec<Outcome>, StoreError> {
        self.journal.room().await?;
        while self.resident.len() > self.config.resident_users.saturating_mul(2) {
            if let Some(trouble) = self.trouble() {
                return Err(StoreError::Journal(trouble));
            }
            self.tasks.request_checkpoint();
            tokio::time::sleep(EVICTION_WAIT).await;
        }
        let is_resident = |change: &Change| self.resident.contains(change.user);
        let (outcomes, lsn) = if self.checkpoint() == 0 || changes.iter().all(is_resident) {
            let (mut outcomes, mut last_lsn) = (Vec::with_capacity(changes.len()), 0);
            for changes in changes.chunks(CHANGES_AT_ONCE) {
                let (made, lsn) = self.change(changes)?;
                outcomes.extend(made);
                last_lsn = last_lsn.max(lsn);
                tokio::task::yield_now().await;
            }
            (outcomes, last_lsn)
        } else {
            let core = self.clone();
            blocking(move || core.change(&changes)).await?
        };
        if self.config.is_sync {
            self.journal.durable(lsn).await?;
        }
        Ok(outcomes)
    }

    async fn make_one(
        self: &Arc<Self>,
        user: UserKey,
        now_ms: i64,
        kind: ChangeKind,
    ) -> Result<Outcome, StoreError> {
        let outcomes = self.make(vec![Change { user, now_ms, kind }]).await?;
        Ok(outcomes.first().copied().unwrap_or(NOTHING_NEW))
    }

    /// Subtracts an event whose retraction has marked the row, by the increments that the journal holds.
    async fn withdraw(
        self: Arc<Self>,
        users: Vec<UserKey>,
        key: EventKey,
        now_ms: i64,
    ) -> Result<Outcome, StoreError> {
        let Some(&user) = users.first() else { return Ok(NOTHING_NEW) };
        // The search reads the journal's files, which lack the frames that are not written yet.
        self.journal.durable(self.journal.last_lsn()).await?;
        let found = self.search.find(EventLog::of(self.dir.journal()), users, key).await?;
        match found {
            Found::Standing(events) => {
                let withdrawal = ChangeKind::Withdraw(Withdrawal { key, events });
                self.make_one(user, now_ms, withdrawal).await
            }
            Found::TakenBack => {
                let core = self.clone();
                let row = blocking(move || core.load(user)).await?;
                Ok(Outcome::Duplicate(row.map_or(0, |row| row.version)))
            }
            Found::Nothing => Ok(NOTHING_NEW),
        }
    }

    fn load(&self, user: UserKey) -> Result<Option<Row>, StoreError> {
        let held = self.resident.get_or_load(user, || self.rows.get(user))?;
        if self.is_crowded() {
            self.tasks.request_checkpoint();
        }
        held.map(|held| self.resident.decode(user, &held.bytes)).transpose()
    }

    fn sample(&self, n: usize) -> Result<Vec<Row>, StoreError> {
        let mut rows = self.resident.smallest(n);
        for (user, held) in self.rows.first(n)? {
            // A resident row is newer, even if it is a tombstone.
            if !self.resident.contains(user) {
                rows.extend(readable(self.resident.decode(user, &held.bytes))?.map(|row| (user, row)));
            }
        }
        Ok(rows.into_values().take(n).collect())
    }

    /// Returns the users whose rows redirect to an account.
    fn ids_of(&self, account: UserKey) -> Result<Vec<UserKey>, StoreError> {
        let leads = |bytes: &[u8]| {
            let row = codec::decode(bytes, self.config.rules.n_heads).ok();
            row.and_then(|row| row.merges.moved().map(|moved| moved.into)) == Some(account)
        };
        let mut users = Vec::new();
        self.resident.for_each(|user, _, bytes| users.extend(leads(bytes).then_some(user)));
        for (user, held) in self.rows.redirects()? {
            // A resident row is newer.
            users.extend((!self.resident.contains(user) && leads(&held.bytes)).then_some(user));
        }
        Ok(users)
    }

    fn checkpoint(&self) -> u64 {
        self.checkpoint.load(Ordering::Acquire)
    }

    /// True if more rows are resident than `resident_users`.
    fn is_crowded(&self) -> bool {
        self.resident.len() > self.config.resident_users
    }

    /// Returns the reason that rows are not saved or evicted, if there is one.
    fn trouble(&self) -> Option<Arc<str>> {
        self.trouble.lock().clone().or_else(|| self.liveness.trouble())
    }

    /// True if the file of rows has the current state of a row whose last change has this position.
    fn is_saved(&self, lsn: u64) -> bool {
        lsn <= self.checkpoint()
    }
}

#[async_trait]
impl UserStore for Embedded {
    async fn change(&self, changes: Vec<Change>) -> Result<Vec<Outcome>, StoreError> {
        self.core.make(changes).await
    }

    async fn retract(&self, user: UserKey, key: EventKey, now_ms: i64) -> Result<Outcome, StoreError> {
        let outcome = self.core.make_one(user, now_ms, ChangeKind::Retract(key)).await?;
        if !matches!(outcome, Outcome::Unknown { .. }) {
            return Ok(outcome);
        }
        // No event ever counted for a user at version 0, so a search would find none.
        let row = self.get(user, 0).await?.row;
        let Some(row) = row.filter(|row| row.version > 0) else { return Ok(outcome) };
        if row.has_taken_back(key) {
            // The search of another retraction has completed meanwhile.
            return Ok(Outcome::Duplicate(row.version));
        }
        if !row.seeks(key) {
            return Ok(outcome);
        }
        let absorbed = row.merges.absorbed.iter().map(|(user, _)| *user);
        let users = std::iter::once(user).chain(absorbed).collect();
        // The search outlives its request: a large journal takes longer than a request may, and a retry finds it done.
        tokio::spawn(self.core.clone().withdraw(users, key, now_ms)).await.map_err(ended)?
    }

    async fn get(&self, user: UserKey, _min_version: u64) -> Result<RowRead, StoreError> {
        if let Some(held) = self.core.resident.get(user) {
            return Ok(RowRead::current(Some(self.core.resident.decode(user, &held.bytes)?)));
        }
        if self.core.checkpoint() == 0 {
            return Ok(RowRead::current(None));
        }
        let core = self.core.clone();
        Ok(RowRead::current(blocking(move || core.load(user)).await?))
    }

    async fn sample(&self, n: usize) -> Result<Vec<Row>, StoreError> {
        let core = self.core.clone();
        blocking(move || core.sample(n)).await
    }

    async fn ids_of(&self, account: UserKey) -> Result<Vec<UserKey>, StoreError> {
        let core = self.core.clone();
        blocking(move || core.ids_of(account)).await
    }

    async fn durable(&self) -> Result<(), StoreError> {
        match self.core.config.is_sync {
            true => self.core.journal.durable(self.core.journal.last_lsn()).await,
            false => Ok(()),
        }
    }

    fn keys(&self) -> UserKeys {
        self.core.keys.clone()
    }

    fn n_users(&self) -> usize {
        self.core.resident.n_users()
    }

    fn trouble(&self) -> Option<Arc<str>> {
        self.core.journal.failure().or_else(|| self.core.trouble())
    }

    fn liveness(&self) -> Liveness {
        self.core.liveness.clone()
    }

    fn events(&self) -> Option<EventLog> {
        Some(EventLog::of(self.core.dir.journal()))
    }

    async fn close(&self) {
        self.checkpointer.stop();
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
    tokio::task::spawn_blocking(work).await.map_err(ended)?
}

fn ended(error: tokio::task::JoinError) -> StoreError {
    StoreError::Unreachable { engine: "embedded", source: Some(Box::new(error)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::{Decay, pair};
    use crate::state::journal::tests::dying;
    use crate::state::{EventKey, LedgerEvent};
    use crate::types::SystemClock;

    fn config(dir: &std::path::Path) -> EmbeddedConfig {
        EmbeddedConfig {
            dir: dir.to_owned(),
            ledger_id: LedgerId { n_heads: 2, key: 7 },
            rules: RowRules { n_heads: 2, decay: Decay::NONE, max_age_ms: 10_000, max_events: 10 },
            max_users: 10,
            resident_users: 10,
            is_sync: true,
            checkpoint_every: Duration::from_secs(3600),
            retention: Duration::from_secs(3600),
            erase_within: Duration::from_secs(3600),
        }
    }

    fn add(n: u8) -> Change {
        let event = LedgerEvent {
            key: EventKey(1),
            at_ms: 0,
            context: None,
            question: None,
            increment: pair(&[1.0, -1.0]),
            content: None,
            replaces: None,
            resolved: None,
        };
        Change { user: UserKey::from([n; 16]), now_ms: 0, kind: ChangeKind::Add(event) }
    }

    #[tokio::test]
    async fn feedback_is_refused_at_once_when_the_journals_writer_has_died() {
        let dir = tempfile::tempdir().unwrap();
        let mut core = recover::open(config(dir.path()), Arc::new(SystemClock)).unwrap();
        core.journal = dying(&core.dir.journal(), core.config.ledger_id, 1, &core.liveness);
        let core = Arc::new(core);
        let store = Embedded { checkpointer: Checkpointer::spawn(core.clone()).unwrap(), core };
        for n in 0..3 {
            let error = store.change(vec![add(n)]).await.unwrap_err().to_string();
            assert!(error.contains("its writer has died"), "{error}");
        }
        // The thread ends a moment after it reports its failure.
        while store.liveness().dead().is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(store.liveness().dead().as_deref(), Some("the journal's writer"));
        assert!(store.trouble().unwrap().contains("its writer has died"));
    }

    #[tokio::test]
    async fn what_can_be_read_is_not_durable_while_the_journal_does_not_have_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut core = recover::open(config(dir.path()), Arc::new(SystemClock)).unwrap();
        core.journal = dying(&core.dir.journal(), core.config.ledger_id, 1, &core.liveness);
        let core = Arc::new(core);
        let store = Embedded { checkpointer: Checkpointer::spawn(core.clone()).unwrap(), core };
        assert!(store.durable().await.is_ok());
        assert!(store.change(vec![add(1)]).await.is_err());
        assert!(store.get(UserKey::from([1; 16]), 0).await.unwrap().row.is_some());
        assert!(store.durable().await.is_err());
    }

    #[tokio::test]
    async fn a_dead_checkpointer_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let core =
            recover::open(EmbeddedConfig { resident_users: 1, ..config(dir.path()) }, Arc::new(SystemClock));
        let core = Arc::new(core.unwrap());
        drop(core.liveness.part("the checkpointer"));
        core.tasks.expedite_erasures();
        let checkpointer = Checkpointer::spawn(core.clone()).unwrap();
        checkpointer.stop();
        let store = Embedded { checkpointer, core };
        // No thread evicts rows, so a change that waited for room in memory would wait forever.
        store.change((0..3).map(add).collect()).await.unwrap();
        let refused = store.change(vec![add(4)]).await.unwrap_err().to_string();
        assert!(refused.contains("the checkpointer has died"), "{refused}");
    }
}
