//! Dead letters: feedback that was acked as `queued` and can never be applied, in lines for an operator to resend.
//!
//! The lines are events as POST /feedback reads them, so that one command sends them again once their rows can be read,
//! or are erased. A retraction holds only hashes and leaves no line; the log has its keys.
//!
//! The laws: a line is durable before its change leaves the outbox; it stays for as long as it could count and its user
//! is not erased, unless newer lines need the room.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;

use crate::state::journal::{OpenError, segment};
use crate::state::{Change, ChangeKind, StoreError, UserKey, UserKeys};
use crate::types::{Resent, UserId};

/// File of events of users whose row can't be read.
const FILE: &str = "unreadable_row.ndjson";

/// The previous file, which is full.
const FULL: &str = "unreadable_row.full.ndjson";

/// Bytes beyond which the file replaces the previous one.
const MAX_BYTES: u64 = 64 << 20;

/// The dead letters of one data directory.
#[derive(Debug)]
pub(super) struct DeadLetters {
    dir: PathBuf,
    /// Derivation of the store's user keys.
    keys: UserKeys,
    /// Lock that is held while a file is written.
    turn: Mutex<()>,
}

/// The fields of a line that are read here.
#[derive(Deserialize)]
struct Named {
    user: UserId,
    at: Timestamp,
}

impl DeadLetters {
    pub(super) fn new(dir: PathBuf, keys: UserKeys) -> Self {
        Self { dir, keys, turn: Mutex::default() }
    }

    /// Adds lines, durably. Blocks.
    pub(super) fn keep(&self, changes: &[Change]) -> Result<(), StoreError> {
        let _turn = self.turn.lock();
        let path = self.dir.join(FILE);
        let io = |source| failed(&path, source);
        fs::create_dir_all(&self.dir).map_err(io)?;
        if path.metadata().is_ok_and(|file| file.len() > MAX_BYTES) {
            tracing::warn!(path = %path.display(), "the dead letters before these make room");
            fs::rename(&path, self.dir.join(FULL)).map_err(io)?;
        }
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&path).map_err(io)?;
        let is_torn = ends_within_a_line(&mut file).map_err(io)?;
        let mut lines = BufWriter::new(file);
        if is_torn {
            // The next line must not become part of the torn one.
            lines.write_all(b"\n").map_err(io)?;
        }
        for Change { user, kind, .. } in changes {
            let resolved = match kind {
                ChangeKind::Add(event) => event.resolved.as_deref(),
                _ => None,
            };
            let Some(resolved) = resolved else {
                tracing::error!(%user, ?kind, "a change of a row that can't be read is dropped");
                continue;
            };
            tracing::error!(%user, event_id = %resolved.event_id, path = %path.display(), "feedback is a dead letter");
            serde_json::to_writer(&mut lines, &Resent::from(resolved)).map_err(|error| io(error.into()))?;
            lines.write_all(b"\n").map_err(io)?;
        }
        let file = lines.into_inner().map_err(|error| io(error.into_error()))?;
        file.sync_all().and_then(|()| segment::sync_dir(&self.dir)).map_err(io)
    }

    /// Returns the users that have lines. Blocks.
    pub(super) fn users(&self) -> Result<Vec<UserKey>, StoreError> {
        let mut users = Vec::new();
        self.each_file(|path| {
            let lines = self.lines(path)?;
            users.extend(lines.iter().filter_map(|line| Some(self.keys.of(&named(line)?.user))));
            Ok(())
        })?;
        users.sort_unstable();
        users.dedup();
        Ok(users)
    }

    /// Drops the lines for whose user and time `is_dropped` is true. Blocks.
    pub(super) fn forget(&self, is_dropped: impl Fn(UserKey, i64) -> bool) -> Result<(), StoreError> {
        let _turn = self.turn.lock();
        self.each_file(|path| {
            let lines = self.lines(path)?;
            // A line that a kill tore is dropped as well: its change is still in the outbox.
            let stays = |line: &&Vec<u8>| {
                named(line)
                    .is_some_and(|Named { user, at }| !is_dropped(self.keys.of(&user), at.as_millisecond()))
            };
            let kept: Vec<&Vec<u8>> = lines.iter().filter(stays).collect();
            match kept.len() {
                n if n == lines.len() => Ok(()),
                0 => fs::remove_file(path).map_err(|source| failed(path, source)),
                _ => rewrite(path, &kept).map_err(|source| failed(path, source)),
            }
        })
    }

    fn each_file(&self, mut each: impl FnMut(&Path) -> Result<(), StoreError>) -> Result<(), StoreError> {
        for path in [FULL, FILE].map(|name| self.dir.join(name)) {
            if path.exists() {
                each(&path)?;
            }
        }
        Ok(())
    }

    fn lines(&self, path: &Path) -> Result<Vec<Vec<u8>>, StoreError> {
        let lines = File::open(path).and_then(|file| BufReader::new(file).split(b'\n').collect());
        lines.map_err(|source| failed(path, source))
    }
}

fn named(line: &[u8]) -> Option<Named> {
    serde_json::from_slice(line).ok()
}

fn rewrite(path: &Path, lines: &[&Vec<u8>]) -> std::io::Result<()> {
    let part = path.with_extension("part");
    let mut file = BufWriter::new(File::create(&part)?);
    for line in lines {
        file.write_all(line)?;
        file.write_all(b"\n")?;
    }
    file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    fs::rename(&part, path)
}

/// Reports whether a kill has torn the last line.
fn ends_within_a_line(file: &mut File) -> std::io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn failed(path: &Path, source: std::io::Error) -> StoreError {
    super::outbox::broken(OpenError::io(path, source))
}
