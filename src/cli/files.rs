//! Files that commands write.

use std::fs;
use std::path::Path;

use super::Failure;

/// Copies a file of a bundle, unless the bundle is written where it comes from.
pub(super) fn bring(from: &Path, to: &Path) -> Result<(), Failure> {
    let is_same = fs::canonicalize(from).ok().is_some_and(|from| fs::canonicalize(to).ok() == Some(from));
    if is_same {
        return Ok(());
    }
    // A rename leaves the old file to whoever has it open, such as a server that reads the weights.
    let part = to.with_extension("part");
    fs::copy(from, &part).and_then(|_| fs::rename(&part, to)).map_err(|error| at(to, &error))
}

/// A failure with the file that is to blame.
pub(super) fn at(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}
