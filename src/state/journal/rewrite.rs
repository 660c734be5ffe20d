//! Takes frames out of sealed segments.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::OpenError;
use super::segment::{self, Frame, Segment};

/// Extension of a file while it is rewritten.
pub(super) const PART: &str = "part";

/// Rewrites every segment before position `sealed` that holds a frame which `is_dropped`.
///
/// All of them are tried before the first error is returned. A rewritten segment replaces the old one atomically, so
/// that a kill leaves either of them.
pub(in crate::state) fn drop_frames(
    dir: &Path,
    sealed: u64,
    is_dropped: impl Fn(&Frame) -> bool,
) -> Result<(), OpenError> {
    let mut done = Ok(());
    for path in segment::list(dir)? {
        let is_sealed = segment::first_lsn(&path).is_some_and(|first| first < sealed);
        if !is_sealed {
            continue;
        }
        let rewritten = has_any(&path, &is_dropped).and_then(|has_any| match has_any {
            true => rewrite(&path, &is_dropped),
            false => Ok(()),
        });
        // A segment that can't be read must not keep frames in the others.
        done = done.and(rewritten);
    }
    let synced = segment::sync_dir(dir).map_err(|source| OpenError::io(dir, source));
    done.and(synced)
}

fn has_any(path: &Path, is_dropped: impl Fn(&Frame) -> bool) -> Result<bool, OpenError> {
    let mut segment = Segment::open(path)?;
    while let Some(frame) = segment.next_whole()? {
        if is_dropped(&frame) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn rewrite(path: &Path, is_dropped: impl Fn(&Frame) -> bool) -> Result<(), OpenError> {
    let mut segment = Segment::open(path)?;
    let part = path.with_extension(PART);
    let io = |source| OpenError::io(&part, source);
    let mut file = BufWriter::new(File::create(&part).map_err(io)?);
    file.write_all(&segment::file_head(segment.ledger_id, segment.after)).map_err(io)?;
    let mut frames = Vec::new();
    while let Some(frame) = segment.next_whole()? {
        if !is_dropped(&frame) {
            frames.clear();
            segment::push_frame(&mut frames, frame.lsn, &frame.payload);
            file.write_all(&frames).map_err(io)?;
        }
    }
    let file = file.into_inner().map_err(|error| io(error.into_error()))?;
    file.sync_all().map_err(io)?;
    std::fs::rename(&part, path).map_err(io)
}
