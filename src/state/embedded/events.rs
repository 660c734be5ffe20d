//! What was said: the raw events that the journal still holds.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};

use crate::state::journal::segment::{self, Segment};
use crate::state::journal::{DataDir, OpenError};
use crate::state::{Change, ChangeKind, EventKey, UserKey};

/// The raw events of a data directory.
#[derive(Debug)]
pub struct EventLog {
    journal: PathBuf,
    /// Held where no server holds it.
    _dir: Option<DataDir>,
}

/// A change as the journal has it.
#[derive(Debug)]
pub struct Logged {
    /// Its position.
    pub lsn: u64,
    /// The change.
    pub change: Change,
}

impl EventLog {
    /// The events of a directory that no server uses, which is taken as long as this lives.
    ///
    /// # Errors
    /// When another process has it.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let dir = DataDir::open(dir)?;
        Ok(Self { journal: dir.journal(), _dir: Some(dir) })
    }

    pub(super) fn of(journal: PathBuf) -> Self {
        Self { journal, _dir: None }
    }

    /// The feedback that stands, in order: neither taken back nor of a user who was erased later. Reads everything twice.
    ///
    /// # Errors
    /// When a file can't be read or is damaged; the iterator ends with such an error too.
    pub fn standing(&self) -> Result<impl Iterator<Item = Result<Logged, OpenError>> + use<>, OpenError> {
        let mut retracted: HashSet<(UserKey, EventKey)> = HashSet::new();
        let mut erased: HashMap<UserKey, u64> = HashMap::new();
        for logged in self.changes()? {
            let Logged { lsn, change } = logged?;
            match change.kind {
                ChangeKind::Retract(key) => _ = retracted.insert((change.user, key)),
                ChangeKind::Erase => _ = erased.insert(change.user, lsn),
                ChangeKind::Add(_) | ChangeKind::Import(_) => {}
            }
        }
        let stands = move |Logged { lsn, change }: &Logged| {
            let is_erased = erased.get(&change.user).is_some_and(|erasure| lsn < erasure);
            let is_retracted = match &change.kind {
                ChangeKind::Add(event) => retracted.contains(&(change.user, event.key)),
                _ => true,
            };
            !is_erased && !is_retracted
        };
        Ok(self.changes()?.filter(move |logged| logged.as_ref().map_or(true, &stands)))
    }

    /// All changes, in order.
    fn changes(&self) -> Result<Changes, OpenError> {
        Ok(Changes { paths: segment::list(&self.journal)?.into(), segment: None })
    }
}

/// Reads one segment after another.
struct Changes {
    paths: VecDeque<PathBuf>,
    segment: Option<Segment>,
}

impl Changes {
    fn next_change(&mut self) -> Result<Option<Logged>, OpenError> {
        loop {
            let Some(segment) = &mut self.segment else {
                let Some(path) = self.paths.pop_front() else { return Ok(None) };
                self.segment = match Segment::open(&path) {
                    // It was too old to be kept any longer.
                    Err(OpenError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                        None
                    }
                    opened => opened?,
                };
                continue;
            };
            // A torn end is where the server is writing now.
            let Ok(frame) = segment.next()? else {
                self.segment = None;
                continue;
            };
            let change = postcard::from_bytes(&frame.payload).map_err(|error| OpenError::Damaged {
                path: segment.path().to_owned(),
                offset: frame.offset,
                what: format!("a frame is no change ({error})"),
            })?;
            return Ok(Some(Logged { lsn: frame.lsn, change }));
        }
    }
}

impl Iterator for Changes {
    type Item = Result<Logged, OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_change().transpose();
        if matches!(next, Some(Err(_))) {
            self.paths.clear();
            self.segment = None;
        }
        next
    }
}
