//! The embedded engine: rows in memory are the truth, a journal makes them durable, a file of rows makes restarts short.
//!
//! The law: a change is acked once its journal frame is durable, and a restart replays every frame that the file of rows
//! does not have. Each row carries the position of its last change, so a frame is replayed at most once per row.

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

/// A longer tail of the journal would make a restart slow: about a second here.
const MAX_TAIL: u64 = 500_000;

/// How long to wait for rows to be spilled before looking again.
const EVICTION_WAIT: Duration = Duration::from_millis(5);

/// Of a retraction that finds nothing.
const NOTHING_NEW: Outcome = Outcome::Unknown { is_news: false };

/// Where and how an embedded store keeps things.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// The data directory.
    pub dir: PathBuf,
    /// The heads its ledgers are for.
    pub ledger_id: LedgerId,
    /// What rows are kept by.
    pub rules: RowRules,
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
    checkpointer: Checkpointer,
}

/// What requests and the keeper share.
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
    /// How old segments of the journal are.
    dates: Dates,
    search: Search,
    /// When the open segment of the journal was begun.
    rotated: Mutex<tokio::time::Instant>,
    /// Why the last checkpoint failed.
    trouble: Mutex<Option<Arc<str>>>,
    /// Of the journal's writer and the keeper.
    liveness: Liveness,
}

/// A change as it is journalled, its user's key first.
#[derive(Debug, Deserialize)]
struct Journalled {
    change: Change,
    /// `max_age_ms` of the rules by which it was made. A replay must forget what was forgotten then, and nothing else.
    max_age_ms: i64,
}

/// Whose change a frame is: a change begins with its user's key.
fn user_of(frame: &Frame) -> Option<UserKey> {
    frame.payload.first_chunk::<16>().map(|key| UserKey::from(*key))
}

impl Embedded {
    /// Opens a data directory, or makes it, and replays what the file of rows does not have. Blocks.
    ///
    /// # Errors
    /// When another process has it, a file can't be read or is damaged, or its ledgers are of other heads.
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
            // What was done before is acked when it is durable, and it may have come only just before.
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

    /// Makes changes, and waits until they are as durable as acks are.
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

    /// Takes an event back whose retraction has marked the row, by what the journal says that it added.
    async fn withdraw(
        self: Arc<Self>,
        users: Vec<UserKey>,
        key: EventKey,
        now_ms: i64,
    ) -> Result<Outcome, StoreError> {
        let Some(&user) = users.first() else { return Ok(NOTHING_NEW) };
        // What is not written yet can't be read.
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
            // What is resident is newer, be it only a tombstone.
            if !self.resident.contains(user) {
                rows.extend(readable(self.resident.decode(user, &held.bytes))?.map(|row| (user, row)));
            }
        }
        Ok(rows.into_values().take(n).collect())
    }

    /// The users whose rows lead to an account.
    fn ids_of(&self, account: UserKey) -> Result<Vec<UserKey>, StoreError> {
        let leads = |bytes: &[u8]| {
            let row = codec::decode(bytes, self.config.rules.n_heads).ok();
            row.and_then(|row| row.merges.moved().map(|moved| moved.into)) == Some(account)
        };
        let mut users = Vec::new();
        self.resident.for_each(|user, _, bytes| users.extend(leads(bytes).then_some(user)));
        for (user, held) in self.rows.redirects()? {
            // What is resident is newer.
            users.extend((!self.resident.contains(user) && leads(&held.bytes)).then_some(user));
        }
        Ok(users)
    }

    fn checkpoint(&self) -> u64 {
        self.checkpoint.load(Ordering::Acquire)
    }

    /// Whether more rows are resident than there should be.
    fn is_crowded(&self) -> bool {
        self.resident.len() > self.config.resident_users
    }

    /// Why rows are not saved or spilled now.
    fn trouble(&self) -> Option<Arc<str>> {
        self.trouble.lock().clone().or_else(|| self.liveness.trouble())
    }

    /// Whether a row whose last change has this position is in the file of rows as it is.
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
        // Of somebody of whom nothing ever counted, nothing can be found.
        let row = self.get(user, 0).await?.row;
        let Some(row) = row.filter(|row| row.version > 0) else { return Ok(outcome) };
        if row.has_taken_back(key) {
            // Another retraction's search has come to its end meanwhile.
            return Ok(Outcome::Duplicate(row.version));
        }
        if !row.seeks(key) {
            return Ok(outcome);
        }
        let absorbed = row.merges.absorbed.iter().map(|(user, _)| *user);
        let users = std::iter::once(user).chain(absorbed).collect();
        // On a task of its own: a large journal takes longer than a request may, and a retry then finds it done.
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
        // The thread is gone a moment after its last word.
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
    async fn a_dead_keeper_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let core =
            recover::open(EmbeddedConfig { resident_users: 1, ..config(dir.path()) }, Arc::new(SystemClock));
        let core = Arc::new(core.unwrap());
        drop(core.liveness.part("the keeper of the rows"));
        core.tasks.expedite_erasures();
        let checkpointer = Checkpointer::spawn(core.clone()).unwrap();
        checkpointer.stop();
        let store = Embedded { checkpointer, core };
        // Nobody spills rows any more: what waited for room in memory would wait for ever.
        store.change((0..3).map(add).collect()).await.unwrap();
        let refused = store.change(vec![add(4)]).await.unwrap_err().to_string();
        assert!(refused.contains("the keeper of the rows has died"), "{refused}");
    }
}
