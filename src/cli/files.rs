//! Writes the files of bundles and reports.

use std::fs;
use std::path::{Path, PathBuf};

use super::Failure;

/// Returns an I/O error as a failure that names the file.
pub(super) fn at(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}

/// Writes a file of a bundle or a report whole or not at all.
pub(super) fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
    let part = path.with_extension("part");
    let written = fs::write(&part, bytes).and_then(|()| fs::rename(&part, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&part);
        at(path, &error)
    })
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
