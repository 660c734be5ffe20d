//! Takes the events of erased users out of sealed segments.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::state::UserKey;
use crate::state::journal::OpenError;
use crate::state::journal::segment::{self, Frame, Segment};

/// Rewrites every segment before position `sealed` that holds something an erased user did before the erasure.
///
/// A rewritten segment takes the old one's place at once, so that a kill leaves either.
pub(super) fn compact(dir: &Path, sealed: u64, erased: &HashMap<UserKey, u64>) -> Result<(), OpenError> {
    for path in segment::list(dir)? {
        let is_sealed = segment::first_lsn(&path).is_some_and(|first| first < sealed);
        if is_sealed && has_any(&path, erased)? {
            rewrite(&path, erased)?;
        }
    }
    segment::sync_dir(dir).map_err(|source| OpenError::io(dir, source))
}

fn has_any(path: &Path, erased: &HashMap<UserKey, u64>) -> Result<bool, OpenError> {
    let Some(mut segment) = Segment::open(path)? else { return Ok(false) };
    while let Ok(frame) = segment.next()? {
        if is_erased(&frame, erased) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn rewrite(path: &Path, erased: &HashMap<UserKey, u64>) -> Result<(), OpenError> {
    let Some(mut segment) = Segment::open(path)? else { return Ok(()) };
    let part = path.with_extension("part");
    let io = |source| OpenError::io(&part, source);
    let mut file = BufWriter::new(File::create(&part).map_err(io)?);
    file.write_all(&segment::file_head(segment.heads)).map_err(io)?;
    let mut frames = Vec::new();
    while let Ok(frame) = segment.next()? {
        if !is_erased(&frame, erased) {
            frames.clear();
            segment::push_frame(&mut frames, frame.lsn, &frame.payload);
            file.write_all(&frames).map_err(io)?;
        }
    }
    let file = file.into_inner().map_err(|error| io(error.into_error()))?;
    // The age of a segment is that of its events.
    let modified = path.metadata().and_then(|old| old.modified());
    modified.and_then(|at| file.set_modified(at)).and_then(|()| file.sync_all()).map_err(io)?;
    std::fs::rename(&part, path).map_err(io)
}

/// Whether a frame is of a user who was erased after it. A change begins with its user's key.
fn is_erased(frame: &Frame, erased: &HashMap<UserKey, u64>) -> bool {
    let user = frame.payload.first_chunk::<16>().map(|key| UserKey::from(*key));
    user.and_then(|user| erased.get(&user)).is_some_and(|&lsn| frame.lsn < lsn)
}
