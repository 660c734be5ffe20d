//! The outbox: feedback that could not be sent, in a journal on this machine, until the store is back.
//!
//! Only feedback and retractions wait here. Both may be applied any number of times and in any order: increments
//! commute, the row remembers the ids of its events, and events before an erasure are refused as late. An erasure or an
//! import that waited could undo later events, so both are refused while the store is away.
//!
//! The law: a segment is removed once every change in it is applied, refused by the store for good, or safe behind the
//! others. After a kill in between, some of them are applied twice, and the second time changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::dead_letters::DeadLetters;
use crate::state::journal::segment::{self, End, Segment};
use crate::state::journal::{DataDir, Journal, LedgerId, OpenError};
use crate::state::{Change, ChangeKind, StoreError, UserKeys};
use crate::telemetry::metric;
use crate::types::Liveness;

/// An open outbox.
#[derive(Debug)]
pub(super) struct Outbox {
    dir: PathBuf,
    journal: Journal,
    is_sync: bool,
    /// Every change up to this position has left.
    drained: AtomicU64,
    pub(super) work: Notify,
    /// Reason that changes can't leave although the store is up.
    stuck: Mutex<Option<Arc<str>>>,
    /// Changes from here that can never be applied.
    pub(super) dead_letters: Arc<DeadLetters>,
    _lock: DataDir,
}

/// True if a change may wait here.
pub(super) fn takes(change: &Change) -> bool {
    matches!(change.kind, ChangeKind::Add(_) | ChangeKind::Retract(_))
}

impl Outbox {
    /// Opens the outbox of a data directory, with the changes that an earlier process left in it. Blocks.
    pub(super) fn open(
        dir: &Path,
        ledger_id: LedgerId,
        (is_sync, keys): (bool, UserKeys),
        liveness: &Liveness,
    ) -> Result<Self, OpenError> {
        let lock = DataDir::open(dir)?;
        lock.stamp()?;
        let dead_letters = Arc::new(DeadLetters::new(lock.dead_letters(), keys));
        let dir = lock.outbox();
        std::fs::create_dir_all(&dir).map_err(|source| OpenError::io(&dir, source))?;
        let (mut drained, mut last_lsn, mut n_left) = (None, 0, 0_u64);
        let mut paths = segment::list(&dir)?.into_iter().peekable();
        while let Some(path) = paths.next() {
            let first = segment::first_lsn(&path).unwrap_or_default();
            last_lsn = last_lsn.max(first.saturating_sub(1));
            let mut segment = Segment::open(&path)?;
            if segment.ledger_id != ledger_id {
                return Err(OpenError::OtherLedgerId { path, found: segment.ledger_id, expected: ledger_id });
            }
            loop {
                let frame = match segment.next()? {
                    Ok(frame) => frame,
                    Err(End::Whole) => break,
                    Err(End::Torn) if paths.peek().is_none() => break segment.cut()?,
                    Err(End::Torn) => return Err(segment.torn()),
                };
                drained.get_or_insert(frame.lsn - 1);
                last_lsn = frame.lsn;
                n_left += 1;
            }
        }
        if n_left > 0 {
            tracing::info!(changes = n_left, "the outbox holds what has not been sent");
        }
        Ok(Self {
            journal: Journal::open(&dir, ledger_id, last_lsn, (liveness, "the outbox's writer"))?,
            dir,
            is_sync,
            drained: AtomicU64::new(drained.unwrap_or(last_lsn)),
            work: Notify::new(),
            stuck: Mutex::default(),
            dead_letters,
            _lock: lock,
        })
    }

    /// Waits until there is room for more.
    pub(super) async fn room(&self) -> Result<(), StoreError> {
        self.journal.room().await
    }

    /// Adds a change and returns its position.
    pub(super) fn append(&self, change: &Change) -> u64 {
        self.journal.append(&postcard::to_allocvec(change).unwrap_or_default())
    }

    /// Waits until a position is as durable as an ack requires.
    pub(super) async fn kept(&self, position: u64) -> Result<(), StoreError> {
        self.work.notify_one();
        self.measure();
        if self.is_sync {
            self.journal.durable(position).await?;
        } else if let Some(failure) = self.journal.failure() {
            return Err(StoreError::Journal(failure));
        }
        Ok(())
    }

    /// True if no change waits.
    pub(super) fn is_empty(&self) -> bool {
        self.drained.load(Ordering::Acquire) >= self.journal.last_lsn()
    }

    /// Seals the open segment. Returns the sealed segments, oldest first, and the first position after them. Blocks.
    pub(super) fn seal(&self) -> Result<(Vec<PathBuf>, u64), StoreError> {
        let sealed = self.journal.seal()?;
        let paths = segment::list(&self.dir).map_err(broken)?;
        let is_whole = |path: &PathBuf| segment::first_lsn(path).is_some_and(|first| first < sealed);
        Ok((paths.into_iter().filter(is_whole).collect(), sealed))
    }

    /// Adds changes behind all others, durably.
    pub(super) async fn put_back(&self, changes: &[Change]) -> Result<(), StoreError> {
        let mut last = None;
        for change in changes {
            self.journal.room().await?;
            last = Some(self.append(change));
        }
        match last {
            Some(position) => self.journal.durable(position).await,
            None => Ok(()),
        }
    }

    /// Removes a segment whose changes have left.
    pub(super) fn remove(&self, path: &Path) {
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "a segment of the outbox can't be removed");
        }
    }

    /// Records that every change before this position has left, or the reason that it has not.
    pub(super) fn drained(&self, until: Result<u64, Arc<str>>) {
        let stuck = match until {
            Ok(until) => {
                self.drained.fetch_max(until.saturating_sub(1), Ordering::AcqRel);
                None
            }
            Err(why) => Some(why),
        };
        *self.stuck.lock() = stuck;
        self.measure();
    }

    /// Returns the reason that changes can't be written or can't leave, for operators.
    pub(super) fn trouble(&self) -> Option<Arc<str>> {
        let stuck = || self.stuck.lock().as_ref().map(|why| format!("the outbox is stuck: {why}").into());
        self.journal.failure().or_else(stuck)
    }

    /// Makes everything durable and ends the writer.
    pub(super) fn close(&self) {
        self.journal.close();
    }

    fn measure(&self) {
        let waiting = self.journal.last_lsn().saturating_sub(self.drained.load(Ordering::Acquire));
        metrics::gauge!(metric::OUTBOX_EVENTS).set(waiting as f64);
    }
}

pub(super) fn broken(error: OpenError) -> StoreError {
    StoreError::Journal(error.to_string().into())
}
