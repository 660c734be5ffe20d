//! Recovery of a store from its directory: the file of rows, then every frame of the journal that it lacks.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use super::checkpointer::Tasks;
use super::rows::Rows;
use super::search::Search;
use super::{Core, EmbeddedConfig, JournaledChange, user_of};
use crate::state::journal::secret;
use crate::state::journal::segment::{self, End, Frame, Segment};
use crate::state::journal::{DataDir, Dates, Journal, LedgerId, OpenError};
use crate::state::resident::Resident;
use crate::state::{ChangeKind, UserKeys};
use crate::types::{Clock, Liveness};

/// Opens and recovers a store; the errors are those of [`super::Embedded::open`].
pub(super) fn open(config: EmbeddedConfig, clock: Arc<dyn Clock>) -> Result<Core, OpenError> {
    let dir = DataDir::open(&config.dir)?;
    dir.stamp()?;
    let (rows, checkpoint) = Rows::open(&dir.rows(), config.ledger_id)?;
    let mut resident = Resident::new(config.rules, usize::MAX, checkpoint.counts);
    let tasks = Tasks::new(rows.erased()?);
    let paths = segment::list(&dir.journal())?;
    if let Some(first) = paths.first().and_then(|path| segment::first_lsn(path))
        && first > checkpoint.lsn + 1
    {
        let what =
            format!("the journal begins at change {first}, and this file ends at change {}", checkpoint.lsn);
        return Err(OpenError::damaged(&dir.rows(), 0, what));
    }
    for pair in paths.windows(2) {
        // A segment whose header can't be read fails once its frames are needed.
        if let [before, path] = pair
            && let Ok(segment) = Segment::open(path)
        {
            segment.follows(before)?;
        }
    }
    let keys = keys(&dir, &rows, checkpoint.lsn == 0 && paths.iter().all(|path| is_blank(path)))?;
    let mut users = Vec::new();
    let torn = tail(&paths, config.ledger_id, checkpoint.lsn, |_, frame| {
        users.extend(user_of(&frame));
        Ok(())
    })?;
    // The reads follow the order of the file, in which neighbors share a page.
    users.sort_unstable();
    users.dedup();
    let mut unreadable = HashMap::new();
    for user in users {
        match resident.get_or_load(user, || rows.get(user)) {
            Err(error) if error.is_of_one_row() => _ = unreadable.insert(user, error),
            loaded => _ = loaded?,
        }
    }
    let mut last_lsn = checkpoint.lsn;
    let mut n_replayed = 0_u64;
    tail(&paths, config.ledger_id, checkpoint.lsn, |path, frame| {
        let JournaledChange { change, max_age_ms } = postcard::from_bytes(&frame.payload)
            .map_err(|error| OpenError::no_change(path, &frame, &error))?;
        resident.rule(config.rules.of_replay(max_age_ms), usize::MAX);
        // An erasure applies to an unreadable row, and the changes before it are of no use without a readable one.
        let is_erasure = matches!(change.kind, ChangeKind::Erase);
        if !unreadable.contains_key(&change.user) || is_erasure {
            resident.replay(&change, frame.lsn, unreadable.remove(&change.user))?;
        }
        if is_erasure {
            tasks.erase(change.user, frame.lsn, config.erase_within);
        }
        last_lsn = frame.lsn;
        n_replayed += 1;
        Ok(())
    })?;
    // The changes after the last save of an unreadable row would be lost silently.
    if let Some(error) = unreadable.into_values().next() {
        return Err(error.into());
    }
    if let Some(segment) = torn {
        segment.cut()?;
    }
    // Erasures that a kill interrupted may be overdue.
    tasks.expedite_erasures();
    resident.rule(config.rules, config.max_users);
    let liveness = Liveness::default();
    let part = (&liveness, "the journal's writer");
    let journal = Journal::open(&dir.journal(), config.ledger_id, last_lsn, part)?;
    tracing::info!(dir = %config.dir.display(), users = resident.n_users(), replayed = n_replayed, "recovered");
    Ok(Core {
        config,
        clock,
        keys,
        dir,
        resident,
        rows,
        journal,
        checkpoint: AtomicU64::new(checkpoint.lsn),
        tasks,
        dates: Dates::default(),
        search: Search::default(),
        rotated: Mutex::new(tokio::time::Instant::now()),
        trouble: Mutex::default(),
        liveness,
    })
}

/// Returns the user keys of a directory: by its secret, which a new directory gets. A directory that has rows and no
/// secret has unkeyed hashes, and keeps them.
fn keys(dir: &DataDir, rows: &Rows, is_new: bool) -> Result<UserKeys, OpenError> {
    let noted = rows.secret()?;
    let keys = match agreed(&dir.secret(), noted)? {
        Some(keys) => keys,
        None if is_new && noted.is_none() => secret::make(&dir.secret())?,
        None => {
            tracing::warn!(
                "users are known by unkeyed hashes here, which show whether somebody is among them to who can guess ids; \
                 `micro-reward rebuild` makes a directory with a secret"
            );
            UserKeys::default()
        }
    };
    if noted.is_none() {
        rows.note_secret(keys.fingerprint())?;
    }
    Ok(keys)
}

/// Reads the secret in a file and checks it against the fingerprint that the rows beside it carry, if they carry one.
pub(super) fn agreed(path: &Path, noted: Option<u64>) -> Result<Option<UserKeys>, OpenError> {
    let found = secret::read(path)?;
    let fingerprint = found.clone().unwrap_or_default().fingerprint();
    let what = match found {
        _ if noted.is_none_or(|noted| noted == fingerprint) => return Ok(found),
        Some(_) => "found another secret than the rows beside it were written with",
        None => "found nothing",
    };
    Err(OpenError::Secret { path: path.to_owned(), what })
}

/// True if a segment has no frame; false for one that can't be inspected, which fails once it is read.
fn is_blank(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.len() <= segment::FILE_HEAD as u64)
}

/// Calls `each` with every frame after a position, in order. Returns the newest segment if it is torn.
fn tail(
    paths: &[PathBuf],
    ledger_id: LedgerId,
    after: u64,
    mut each: impl FnMut(&Path, Frame) -> Result<(), OpenError>,
) -> Result<Option<Segment>, OpenError> {
    for (idx, path) in paths.iter().enumerate() {
        let next = paths.get(idx + 1);
        let is_saved = next.and_then(|next| segment::first_lsn(next)).is_some_and(|next| next <= after + 1);
        if is_saved {
            continue;
        }
        let mut segment = Segment::open(path)?;
        loop {
            let frame = match segment.next()? {
                Ok(frame) => frame,
                Err(End::Whole) => break,
                Err(End::Torn) if next.is_none() => return Ok(Some(segment)),
                Err(End::Torn) => return Err(segment.torn()),
            };
            if segment.ledger_id != ledger_id {
                let (found, expected) = (segment.ledger_id, ledger_id);
                return Err(OpenError::OtherLedgerId { path: path.clone(), found, expected });
            }
            if frame.lsn > after {
                each(path, frame)?;
            }
        }
    }
    Ok(None)
}
