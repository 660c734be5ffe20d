//! Ages of segments by their frames: the times of files change when a directory is copied or restored.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::OpenError;
use super::segment::{Frame, Segment};

/// Known times of sealed segments, so that each is read through once.
#[derive(Debug, Default)]
pub(in crate::state) struct Dates(Mutex<HashMap<PathBuf, Latest>>);

/// Time of the latest frame of a segment, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
enum Latest {
    /// Lower bound: the time of the first frame.
    NotBefore(i64),
    /// Exact time. A segment without frames is older than everything.
    At(i64),
}

impl Dates {
    /// Reports whether all frames of a segment were made before `cutoff_ms`, by `at_ms`; a frame without a time is
    /// older than everything. False for a segment that can't be read, so that it stays for inspection.
    pub(in crate::state) fn are_before(
        &self,
        path: &Path,
        cutoff_ms: i64,
        at_ms: impl Fn(&Frame) -> Option<i64>,
    ) -> bool {
        let known = self.0.lock().get(path).copied();
        let latest = match known {
            Some(Latest::NotBefore(first_ms)) if first_ms < cutoff_ms => latest(path, false, at_ms),
            Some(latest) => Ok(latest),
            None => latest(path, true, &at_ms).and_then(|first| match first {
                Latest::NotBefore(first_ms) if first_ms < cutoff_ms => latest(path, false, at_ms),
                latest => Ok(latest),
            }),
        };
        let latest = latest.unwrap_or_else(|error| {
            tracing::warn!(%error, "a segment is kept, as its age can't be read");
            Latest::At(i64::MAX)
        });
        let is_before = matches!(latest, Latest::At(at_ms) if at_ms < cutoff_ms);
        if is_before {
            // The caller is about to remove the segment.
            self.0.lock().remove(path);
        } else {
            self.0.lock().insert(path.to_owned(), latest);
        }
        is_before
    }

    /// Forgets all times, after segments were rewritten.
    pub(in crate::state) fn forget(&self) {
        self.0.lock().clear();
    }
}

fn latest(
    path: &Path,
    is_first_enough: bool,
    at_ms: impl Fn(&Frame) -> Option<i64>,
) -> Result<Latest, OpenError> {
    let mut segment = Segment::open(path)?;
    let mut latest_ms = i64::MIN;
    while let Some(frame) = segment.next_whole()? {
        latest_ms = latest_ms.max(at_ms(&frame).unwrap_or(i64::MIN));
        if is_first_enough {
            return Ok(Latest::NotBefore(latest_ms));
        }
    }
    Ok(Latest::At(latest_ms))
}
