//! The data directory: its owner and its contents.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::OpenError;
use super::rewrite::PART;
use super::segment;

/// Version of the layout below; it changes whenever an older program could not read the directory.
const VERSION: &str = "micro-reward data 2\n";

/// An older version, whose events have no metadata, comment or replaced event, and which is read as it is.
const OLDER: &str = "micro-reward data 1\n";

/// A data directory that this process owns until the value is dropped.
#[derive(Debug)]
pub(in crate::state) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Takes ownership of a directory, and creates it if there is none.
    pub(in crate::state) fn open(path: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::io(path, source);
        let dir = Self { path: path.to_owned(), _lock: lock(path)? };
        std::fs::create_dir_all(dir.journal()).map_err(io)?;
        dir.remove_parts().map_err(io)?;
        let version = path.join("VERSION");
        match std::fs::read_to_string(&version) {
            Ok(found) if found == VERSION || found == OLDER => {}
            Ok(found) => return Err(OpenError::Version { path: version, found, expected: VERSION }),
            Err(error) if error.kind() == ErrorKind::NotFound => dir.stamp()?,
            Err(error) => return Err(OpenError::io(&version, error)),
        }
        Ok(dir)
    }

    /// Marks the directory as readable only by programs of this version.
    pub(in crate::state) fn stamp(&self) -> Result<(), OpenError> {
        let io = |source| OpenError::io(&self.path, source);
        let version = self.path.join("VERSION");
        if std::fs::read_to_string(&version).is_ok_and(|found| found == VERSION) {
            return Ok(());
        }
        let part = self.path.join(format!("VERSION.{PART}"));
        let mut file = File::create(&part).map_err(io)?;
        file.write_all(VERSION.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
        std::fs::rename(part, version).map_err(io)?;
        segment::sync_dir(&self.path).map_err(io)
    }

    /// Removes the parts of files whose rewrite a kill interrupted: the old files are whole.
    fn remove_parts(&self) -> std::io::Result<()> {
        for dir in [self.path.clone(), self.journal(), self.outbox(), self.dead_letters()] {
            let entries = match std::fs::read_dir(dir) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == PART) {
                    std::fs::remove_file(path)?;
                }
            }
        }
        Ok(())
    }

    /// Reports whether the directory still exists: a change must not be acked if its file can't be found again.
    pub(in crate::state) fn is_there(&self) -> bool {
        self.path.join("LOCK").exists()
    }

    /// Returns the directory of the journal's segments.
    pub(in crate::state) fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Returns the directory of the shared engine's outbox: segments of changes that were not made, unlike the
    /// journal's.
    pub(in crate::state) fn outbox(&self) -> PathBuf {
        self.path.join("outbox")
    }

    /// Returns the path of the secret by which users are keyed.
    pub(in crate::state) fn secret(&self) -> PathBuf {
        secret_of(&self.path)
    }

    /// Returns the directory of changes from the outbox that can never be made.
    pub(in crate::state) fn dead_letters(&self) -> PathBuf {
        self.path.join("dead_letters")
    }

    /// Returns the path of the file of rows.
    pub(in crate::state) fn rows(&self) -> PathBuf {
        self.path.join("rows.redb")
    }
}

/// Returns the path of a directory's secret.
pub(in crate::state) fn secret_of(dir: &Path) -> PathBuf {
    dir.join("secret")
}

fn lock(path: &Path) -> Result<File, OpenError> {
    std::fs::create_dir_all(path).map_err(|source| OpenError::io(path, source))?;
    let file = path.join("LOCK");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&file);
    let lock = lock.map_err(|source| OpenError::io(&file, source))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Owned { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(OpenError::io(&file, source)),
    }
}
