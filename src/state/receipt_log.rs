//! Receipts on the disk, so that a click finds its answer after a restart.
//!
//! A convenience and no promise: nobody waits for the disk, what can't be written is skipped, and a damaged file is removed, as
//! nobody could tell what in it is too old, or of a user who was erased. Files are dropped once they are older than any receipt
//! counts.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::journal::secret;
use super::journal::segment::{self, End, Frame, Segment};
use super::journal::{DataDir, Dates, Journal, LedgerId, OpenError, drop_frames};
use super::{Receipt, UserKeys};
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
    pub(super) keys: UserKeys,
    ttl: Duration,
    /// The service's time when the log was opened, in milliseconds since the Unix epoch, and the machine's.
    opened: (i64, Instant),
    dates: Dates,
    /// None before the first time.
    swept: Mutex<Option<Instant>>,
    /// Held while files are written anew or removed.
    work: Mutex<()>,
}

impl ReceiptLog {
    /// Opens the log and reads what it holds, oldest first.
    pub(super) fn open(
        dir: &Path,
        (ttl, now_ms): (Duration, i64),
        mut each: impl FnMut(Entry<Receipt>),
    ) -> Result<Self, OpenError> {
        let dir = DataDir::open(dir)?;
        dir.stamp()?;
        let keys = match secret::read(&dir.secret())? {
            Some(keys) => keys,
            None => {
                drop_unkeyed(&dir)?;
                secret::make(&dir.secret())?
            }
        };
        let mut last_lsn = 0;
        for path in segment::list(&dir.journal())? {
            last_lsn = last_lsn.max(segment::first_lsn(&path).unwrap_or_default());
            let read = check(&path).and_then(|()| {
                read(&path, |lsn, entry| {
                    last_lsn = last_lsn.max(lsn);
                    each(entry);
                })
            });
            if let Err(error) = read.or_else(drop_damaged) {
                tracing::warn!(%error, "receipts that can't be read are left out");
            }
        }
        // Receipts say themselves whose heads they are of.
        let liveness = Liveness::default();
        let part = (&liveness, "the writer of receipts");
        let journal = Journal::open(&dir.journal(), LedgerId { n_heads: 0, key: 0 }, last_lsn, part)?;
        let (opened, dates) = ((now_ms, Instant::now()), Dates::default());
        Ok(Self {
            dir,
            journal,
            liveness,
            keys,
            ttl,
            opened,
            dates,
            swept: Mutex::default(),
            work: Mutex::default(),
        })
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
            while let Err(error) = drop_frames(&self.dir.journal(), sealed, goes) {
                drop_damaged(error).map_err(|error| error.to_string())?;
            }
            Ok(())
        });
        self.dates.forget();
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

    /// Drops files in which no receipt counts any more, from the oldest on: what says that a user was erased goes after what
    /// it is about. Blocks.
    pub(super) fn sweep(&self) {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let (opened_ms, opened) = self.opened;
        let now_ms = opened_ms.saturating_add(millis(opened.elapsed()));
        let cutoff_ms = now_ms.saturating_sub(millis(self.ttl));
        let _working = self.work.lock();
        let Ok(open) = self.journal.seal() else { return };
        for path in segment::list(&self.dir.journal()).unwrap_or_default() {
            let is_sealed = segment::first_lsn(&path).is_some_and(|first| first < open);
            if !is_sealed {
                break;
            }
            if !self.dates.are_before(&path, cutoff_ms, answered_at) {
                // One of which nobody can tell how old it is would keep all that follow it.
                match check(&path).map_err(drop_damaged) {
                    Err(Ok(())) => continue,
                    _ => break,
                }
            }
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "old receipts can't be removed");
            }
        }
    }
}

/// Removes receipts from before there was a secret: nobody could find them again, nor forget whose they are.
fn drop_unkeyed(dir: &DataDir) -> Result<(), OpenError> {
    for path in segment::list(&dir.journal())? {
        tracing::warn!(path = %path.display(), "removes receipts that were kept under unkeyed hashes of users");
        std::fs::remove_file(&path).map_err(|source| OpenError::io(&path, source))?;
    }
    Ok(())
}

/// Removes the file that an error is about, if it is damaged; otherwise that is the error.
fn drop_damaged(error: OpenError) -> Result<(), OpenError> {
    let OpenError::Damaged { path, .. } = &error else { return Err(error) };
    tracing::warn!(%error, "removes receipts that can't be read");
    std::fs::remove_file(path).map_err(|source| OpenError::io(path, source))
}

/// When an answer was given.
fn answered_at(frame: &Frame) -> Option<i64> {
    match postcard::from_bytes(&frame.payload) {
        Ok(Entry::<Receipt>::Remember { receipt, .. }) => Some(receipt.at_ms),
        _ => None,
    }
}

/// Whether every frame of a file is whole, but for a torn end.
fn check(path: &Path) -> Result<(), OpenError> {
    let mut segment = Segment::open(path)?;
    while segment.next()?.is_ok() {}
    Ok(())
}

fn read(path: &Path, mut each: impl FnMut(u64, Entry<Receipt>)) -> Result<(), OpenError> {
    let mut segment = Segment::open(path)?;
    loop {
        let frame = match segment.next()? {
            Ok(frame) => frame,
            Err(End::Whole) => return Ok(()),
            Err(End::Torn) => return segment.cut(),
        };
        if let Ok(entry) = postcard::from_bytes(&frame.payload) {
            each(frame.lsn, entry);
        }
    }
}
