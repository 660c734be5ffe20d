//! Receipts on disk, so that feedback finds its response after a restart.
//!
//! The log is a convenience and no promise: no caller waits for the disk, an entry that can't be written is skipped,
//! and a damaged file is removed, as its entries that are too old or of an erased user can't be distinguished. Files
//! are dropped once they are older than the time for which receipts count.

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

/// An entry of the log.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Entry<R> {
    /// A response was scored.
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
    /// Times at which the log was opened: the service's, in milliseconds since the Unix epoch, and the machine's.
    opened: (i64, Instant),
    dates: Dates,
    /// Time of the last sweep; none before the first.
    swept: Mutex<Option<Instant>>,
    /// Lock that is held while files are rewritten or removed.
    work: Mutex<()>,
}

impl ReceiptLog {
    /// Opens the log and reads its entries, oldest first.
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
        // Each receipt holds the fingerprint of its heads, so the journal needs no ledger id.
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

    /// Appends an entry; a receipt is skipped while the disk is behind.
    pub(super) fn append(&self, entry: &Entry<&Receipt>) {
        let may_be_skipped = matches!(entry, Entry::Remember { .. });
        if may_be_skipped && self.journal.is_behind() {
            return;
        }
        self.journal.append(&postcard::to_allocvec(entry).unwrap_or_default());
    }

    /// Removes the receipts of these users from the files. Blocks.
    pub(super) fn forget(&self, owners: &HashSet<u64>) {
        let is_dropped = |frame: &Frame| match postcard::from_bytes::<Entry<Receipt>>(&frame.payload) {
            Ok(Entry::Remember { owner, .. }) => owner.is_some_and(|owner| owners.contains(&owner)),
            _ => false,
        };
        let _working = self.work.lock();
        let sealed = self.journal.seal().map_err(|error| error.to_string());
        let gone = sealed.and_then(|sealed| {
            while let Err(error) = drop_frames(&self.dir.journal(), sealed, is_dropped) {
                drop_damaged(error).map_err(|error| error.to_string())?;
            }
            Ok(())
        });
        self.dates.forget();
        if let Err(error) = gone {
            tracing::warn!(error, "receipts of erased users stay on the disk until they are too old");
        }
    }

    /// Reports whether a sweep is due, and records it: true once per quarter of the time for which receipts count.
    pub(super) fn is_due(&self) -> bool {
        let mut swept = self.swept.lock();
        let is_due = swept.is_none_or(|swept| swept.elapsed() >= self.ttl / 4);
        if is_due {
            *swept = Some(Instant::now());
        }
        is_due
    }

    /// Drops files in which no receipt counts any longer, from the oldest on: the entry of an erasure outlives the
    /// receipts that it is about. Blocks.
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
                // A file whose age can't be read would keep all that follow it.
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

/// Removes receipts that were kept without a secret: they could not be found again, nor erased with their users.
fn drop_unkeyed(dir: &DataDir) -> Result<(), OpenError> {
    for path in segment::list(&dir.journal())? {
        tracing::warn!(path = %path.display(), "removes receipts that were kept under unkeyed hashes of users");
        std::fs::remove_file(&path).map_err(|source| OpenError::io(&path, source))?;
    }
    Ok(())
}

/// Removes the file that an error is about, if it is damaged; returns any other error.
fn drop_damaged(error: OpenError) -> Result<(), OpenError> {
    let OpenError::Damaged { path, .. } = &error else { return Err(error) };
    tracing::warn!(%error, "removes receipts that can't be read");
    std::fs::remove_file(path).map_err(|source| OpenError::io(path, source))
}

/// Returns the time of a receipt; none for other entries.
fn answered_at(frame: &Frame) -> Option<i64> {
    match postcard::from_bytes(&frame.payload) {
        Ok(Entry::<Receipt>::Remember { receipt, .. }) => Some(receipt.at_ms),
        _ => None,
    }
}

/// Checks that every frame of a file is whole, except for a torn end.
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
