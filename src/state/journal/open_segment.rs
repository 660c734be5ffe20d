//! The segment that is being written, whose bytes are durable once a write returns.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::rewrite;
use super::segment::{self, LedgerId};

/// The segment that is being written.
pub(super) struct OpenSegment {
    pub(super) path: PathBuf,
    file: File,
    pub(super) first_lsn: u64,
    /// Bytes that are durable.
    pub(super) length: u64,
    is_clean: bool,
}

impl OpenSegment {
    pub(super) fn create(
        dir: &Path,
        ledger_id: LedgerId,
        (first_lsn, after): (u64, u64),
    ) -> std::io::Result<Self> {
        let path = segment::path(dir, first_lsn);
        let part = path.with_extension(rewrite::PART);
        let file = OpenOptions::new().create(true).write(true).truncate(true).open(&part)?;
        let mut open = Self { path, file, first_lsn, length: 0, is_clean: true };
        let made = open
            .write(&segment::file_head(ledger_id, after))
            .and_then(|()| std::fs::rename(&part, &open.path))
            .and_then(|()| segment::sync_dir(dir));
        // A segment refers to the name of the one before it, so one that is not used must not exist.
        if let Err(error) = made {
            for path in [&part, &open.path] {
                let _ = std::fs::remove_file(path);
            }
            return Err(error);
        }
        Ok(open)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if !self.is_clean {
            // Bytes that a failed write left must not stand before what follows.
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
        }
        self.is_clean = false;
        self.file.write_all(bytes)?;
        self.file.sync_data()?;
        self.is_clean = true;
        self.length += bytes.len() as u64;
        Ok(())
    }
}
