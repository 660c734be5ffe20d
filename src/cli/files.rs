//! Writes the files of bundles and reports.

use std::fs;
use std::path::{Path, PathBuf};

use super::Failure;

/// Copies a file of a bundle, unless source and destination are the same file.
pub(super) fn bring(from: &Path, to: &Path) -> Result<(), Failure> {
    let is_same = fs::canonicalize(from).ok().is_some_and(|from| fs::canonicalize(to).ok() == Some(from));
    if is_same {
        return Ok(());
    }
    // A rename leaves the old file to processes that have it open, such as a server that reads the weights.
    let part = to.with_extension("part");
    fs::copy(from, &part).and_then(|_| fs::rename(&part, to)).map_err(|error| at(to, &error))
}

/// Returns an I/O error as a failure that names the file.
pub(super) fn at(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}

/// Writes a file of a bundle or a report whole or not at all.
pub(super) fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
    let part = path.with_extension("part");
    fs::write(&part, bytes).and_then(|()| fs::rename(&part, path)).map_err(|error| at(path, &error))
}

/// Refuses a report's path whose directory does not exist, before hours of work are done for it.
pub(super) fn check_place(flag: &str, path: Option<&PathBuf>) -> Result<(), Failure> {
    let Some(parent) = path.and_then(|path| path.parent()).filter(|parent| !parent.as_os_str().is_empty())
    else {
        return Ok(());
    };
    if parent.is_dir() {
        return Ok(());
    }
    Err(Failure::refused(format!("{flag}: found no directory {}, expected it to be there", parent.display())))
}
