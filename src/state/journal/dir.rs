//! The data directory: who owns it, and what is in it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::OpenError;
use super::rewrite::PART;
use super::segment;

/// The layout below; it changes whenever an older program could not read the directory.
const VERSION: &str = "micro-reward data 2\n";

/// Has no event that says more than its texts, and is read as it is.
const OLDER: &str = "micro-reward data 1\n";

/// A data directory that this process owns until this is dropped.
#[derive(Debug)]
pub(in crate::state) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Takes a directory, and makes it if there is none.
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

    /// Says that what is written from now on takes a program of this version to read.
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

    /// Removes what a kill left of files that were being written anew: the old ones still stand.
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

    /// Whether the directory is still where it was: files that nobody can find again are no promise.
    pub(in crate::state) fn is_there(&self) -> bool {
        self.path.join("LOCK").exists()
    }

    /// Where the journal's segments are.
    pub(in crate::state) fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Where the segments of the shared engine's outbox are: changes that were not made, unlike those of the journal.
    pub(in crate::state) fn outbox(&self) -> PathBuf {
        self.path.join("outbox")
    }

    /// The secret by which users are known.
    pub(in crate::state) fn secret(&self) -> PathBuf {
        secret_of(&self.path)
    }

    /// Where what was in the outbox is kept that can never be made.
    pub(in crate::state) fn dead_letters(&self) -> PathBuf {
        self.path.join("dead_letters")
    }

    /// The file of rows.
    pub(in crate::state) fn rows(&self) -> PathBuf {
        self.path.join("rows.redb")
    }
}

/// Where the secret of a directory is.
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
