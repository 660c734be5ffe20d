//! From a directory to a store: the file of rows, then every frame of the journal that it does not have.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use super::keeper::Tasks;
use super::rows::Rows;
use super::{Core, EmbeddedConfig, Journalled};
use crate::state::journal::segment::{self, End, Frame, Segment};
use crate::state::journal::{DataDir, Heads, Journal, OpenError};
use crate::state::resident::Resident;
use crate::state::{ChangeKind, UserKey};
use crate::types::Clock;

/// Opens everything; see the module above for its errors.
pub(super) fn open(config: EmbeddedConfig, clock: Arc<dyn Clock>) -> Result<Core, OpenError> {
    let dir = DataDir::open(&config.dir)?;
    let (rows, checkpoint) = Rows::open(&dir.rows(), config.heads)?;
    let mut resident = Resident::new(config.rules, usize::MAX, checkpoint.n_users);
    let tasks = Tasks::new(rows.erased()?);
    let paths = segment::list(&dir.journal())?;
    if let Some(first) = paths.first().and_then(|path| segment::first_lsn(path))
        && first > checkpoint.lsn + 1
    {
        let what =
            format!("the journal begins at change {first}, and this file ends at change {}", checkpoint.lsn);
        return Err(damaged(&dir.rows(), 0, &what));
    }
    let mut users = Vec::new();
    let torn = tail(&paths, config.heads, checkpoint.lsn, |_, frame| {
        // A change begins with its user's key.
        users.extend(frame.payload.first_chunk::<16>().map(|key| UserKey::from(*key)));
        Ok(())
    })?;
    // In the order of the file, in which neighbours share a page.
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
    tail(&paths, config.heads, checkpoint.lsn, |path, frame| {
        let Journalled { change, max_age_ms } = postcard::from_bytes(&frame.payload)
            .map_err(|error| damaged(path, frame.offset, &format!("a frame is no change ({error})")))?;
        resident.rule(config.rules.of_replay(max_age_ms), usize::MAX);
        // An erasure needs no row that can be read, and what came before it is of no use without one.
        let is_erasure = matches!(change.kind, ChangeKind::Erase);
        if !unreadable.contains_key(&change.user) || is_erasure {
            unreadable.remove(&change.user);
            resident.replay(&change, frame.lsn)?;
        }
        if is_erasure {
            tasks.erase(change.user, frame.lsn, config.erase_within);
        }
        last_lsn = frame.lsn;
        n_replayed += 1;
        Ok(())
    })?;
    // What was said after the row was saved would be lost without a word.
    if let Some(error) = unreadable.into_values().next() {
        return Err(error.into());
    }
    if let Some((path, length)) = torn {
        cut(&path, length)?;
    }
    // What a kill interrupted may be overdue.
    tasks.hurry();
    resident.rule(config.rules, config.max_users);
    let journal = Journal::open(&dir.journal(), config.heads, last_lsn)?;
    tracing::info!(dir = %config.dir.display(), users = resident.n_users(), replayed = n_replayed, "recovered");
    Ok(Core {
        config,
        clock,
        dir,
        resident,
        rows,
        journal,
        checkpoint: AtomicU64::new(checkpoint.lsn),
        tasks,
        rotated: Mutex::new(tokio::time::Instant::now()),
        trouble: Mutex::default(),
    })
}

/// Calls `each` with every frame after a position, in order. If the newest segment is torn, where its last whole frame ends.
fn tail(
    paths: &[PathBuf],
    heads: Heads,
    after: u64,
    mut each: impl FnMut(&Path, Frame) -> Result<(), OpenError>,
) -> Result<Option<(PathBuf, u64)>, OpenError> {
    for (idx, path) in paths.iter().enumerate() {
        let next = paths.get(idx + 1);
        let is_saved = next.and_then(|next| segment::first_lsn(next)).is_some_and(|next| next <= after + 1);
        if is_saved {
            continue;
        }
        let mut segment = Segment::open(path)?;
        let end = loop {
            let frame = match segment.next()? {
                Ok(frame) => frame,
                Err(end) => break end,
            };
            if segment.heads != heads {
                let (found, expected) = (segment.heads, heads);
                return Err(OpenError::OtherHeads { path: path.clone(), found, expected });
            }
            if frame.lsn > after {
                each(path, frame)?;
            }
        };
        match (end, next) {
            (End::Whole, _) => {}
            (End::Torn, None) => return Ok(Some((path.clone(), segment.whole_length()))),
            (End::Torn, Some(_)) => {
                return Err(damaged(path, segment.whole_length(), "a frame is not whole"));
            }
        }
    }
    Ok(None)
}

/// Cuts a torn tail: what was never written to its end was never acked.
fn cut(path: &Path, length: u64) -> Result<(), OpenError> {
    let io = |source| OpenError::io(path, source);
    let file = std::fs::OpenOptions::new().write(true).open(path).map_err(io)?;
    let found = file.metadata().map_err(io)?.len();
    tracing::warn!(path = %path.display(), offset = length, bytes = found - length, "cut the journal's torn tail");
    file.set_len(length).and_then(|()| file.sync_all()).map_err(io)
}

fn damaged(path: &Path, offset: u64, what: &str) -> OpenError {
    OpenError::Damaged { path: path.to_owned(), offset, what: what.to_owned() }
}
