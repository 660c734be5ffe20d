//! Receipts on the disk, so that a click finds its answer after a restart.
//!
//! A convenience and no promise: nobody waits for the disk, what can't be written is skipped, and a damaged file is left
//! out. Files are dropped once they are older than any receipt counts.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Receipt;
use super::journal::segment::{self, Frame, Segment};
use super::journal::{DataDir, Heads, Journal, OpenError, drop_frames};
use crate::types::Liveness;

/// What happened to receipts.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Entry<R> {
    /// An answer was given.
    Remember { key: u128, owner: Option<u64>, receipt: R },
    /// A user was erased.
    Forget { owner: u64 },
}

/// The log of receipts.
#[derive(Debug)]
pub(super) struct ReceiptLog {
    dir: DataDir,
    journal: Journal,
    pub(super) liveness: Liveness,
    ttl: Duration,
    /// None before the first time.
    swept: Mutex<Option<Instant>>,
    /// Held while files are written anew or removed.
    work: Mutex<()>,
}

impl ReceiptLog {
    /// Opens the log and reads what it holds, oldest first.
    pub(super) fn open(
        dir: &Path,
        ttl: Duration,
        mut each: impl FnMut(Entry<Receipt>),
    ) -> Result<Self, OpenError> {
        let dir = DataDir::open(dir)?;
        let mut last_lsn = 0;
        for path in segment::list(&dir.journal())? {
            last_lsn = last_lsn.max(segment::first_lsn(&path).unwrap_or_default());
            let read = read(&path, |lsn, entry| {
                last_lsn = last_lsn.max(lsn);
                each(entry);
            });
            if let Err(error) = read {
                tracing::warn!(%error, "receipts that can't be read are left out");
            }
        }
        // Receipts say themselves whose heads they are of.
        let liveness = Liveness::default();
        let part = liveness.part("the writer of receipts");
        let journal = Journal::open(&dir.journal(), Heads { n_heads: 0, key: 0 }, last_lsn, part)?;
        Ok(Self { dir, journal, liveness, ttl, swept: Mutex::default(), work: Mutex::default() })
    }

    /// Adds an entry; an answer only unless the disk is behind.
    pub(super) fn append(&self, entry: &Entry<&Receipt>) {
        let may_be_skipped = matches!(entry, Entry::Remember { .. });
        if may_be_skipped && self.journal.is_behind() {
            return;
        }
        self.journal.append(&postcard::to_allocvec(entry).unwrap_or_default());
    }

    /// Takes what was answered to these users out of the files. Blocks.
    pub(super) fn forget(&self, owners: &HashSet<u64>) {
        let goes = |frame: &Frame| match postcard::from_bytes::<Entry<Receipt>>(&frame.payload) {
            Ok(Entry::Remember { owner, .. }) => owner.is_some_and(|owner| owners.contains(&owner)),
            _ => false,
        };
        let _working = self.work.lock();
        let sealed = self.journal.seal().map_err(|error| error.to_string());
        let gone = sealed.and_then(|sealed| {
            drop_frames(&self.dir.journal(), sealed, goes).map_err(|error| error.to_string())
        });
        if let Err(error) = gone {
            tracing::warn!(error, "receipts of erased users stay on the disk until they are too old");
        }
    }

    /// Whether files should be looked through now; says so once per quarter of the time that receipts count.
    pub(super) fn is_due(&self) -> bool {
        let mut swept = self.swept.lock();
        let is_due = swept.is_none_or(|swept| swept.elapsed() >= self.ttl / 4);
        if is_due {
            *swept = Some(Instant::now());
        }
        is_due
    }

    /// Drops files in which no receipt counts any more. Blocks.
    pub(super) fn sweep(&self) {
        let _working = self.work.lock();
        let Ok(open) = self.journal.seal() else { return };
        for path in segment::list(&self.dir.journal()).unwrap_or_default() {
            let modified = path.metadata().and_then(|file| file.modified()).ok();
            let age = modified.and_then(|at| SystemTime::now().duration_since(at).ok());
            let is_sealed = segment::first_lsn(&path).is_some_and(|first| first < open);
            if is_sealed
                && age.is_some_and(|age| age > self.ttl)
                && let Err(error) = std::fs::remove_file(&path)
            {
                tracing::warn!(path = %path.display(), %error, "old receipts can't be removed");
            }
        }
    }
}

fn read(path: &Path, mut each: impl FnMut(u64, Entry<Receipt>)) -> Result<(), OpenError> {
    let mut segment = Segment::open(path)?;
    while let Ok(frame) = segment.next()? {
        if let Ok(entry) = postcard::from_bytes(&frame.payload) {
            each(frame.lsn, entry);
        }
    }
    Ok(())
}
