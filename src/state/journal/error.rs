//! Errors of data directories.

use std::path::{Path, PathBuf};

use super::LedgerId;
use super::segment::Frame;
use crate::state::StoreError;

/// Reasons for which a data directory can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process owns it.
    #[error("{}: another process owns this data directory; one server can use it at a time", path.display())]
    Owned {
        /// The directory.
        path: PathBuf,
    },
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The directory's layout is another program version's.
    #[error("{}: found {found:?}, expected {expected:?}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Version in the file.
        found: String,
        /// Version that this program reads.
        expected: &'static str,
    },
    /// A file of another program version.
    #[error("{}: found format {found}, expected {expected}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Format in the file.
        found: u32,
        /// Format that this program reads.
        expected: u32,
    },
    /// The secret by which users are keyed is missing, or is another one.
    #[error(
        "{}: {what}. Nobody's rows are found without the secret that they were written with: restore the file from a backup",
        path.display()
    )]
    Secret {
        /// The file.
        path: PathBuf,
        /// Description of the problem.
        what: &'static str,
    },
    /// The evidence is of other heads.
    #[error(
        "{}: found ledgers of {} heads with the key {:016x}, expected {} with {:016x}: they were written with another \
         bundle or `posterior.half_life`. `micro-reward rebuild` makes new ones out of the raw events",
        path.display(), found.n_heads, found.key, expected.n_heads, expected.key
    )]
    OtherLedgerId {
        /// The file.
        path: PathBuf,
        /// Ledgers that the file holds.
        found: LedgerId,
        /// Ledgers that are served.
        expected: LedgerId,
    },
    /// A byte is not what was written.
    #[error(
        "{}: {what} at byte {offset}. Nothing of this file from there on is served: restore it from a backup, or give \
         up what follows with `truncate -s {offset}`", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Offset of the damage, in bytes.
        offset: u64,
        /// Description of the damage.
        what: String,
    },
    /// The file of rows can't be opened.
    #[error("{}: {source}", path.display())]
    Rows {
        /// The file.
        path: PathBuf,
        /// Error of its library.
        source: Box<redb::Error>,
    },
    /// The shared store can't be used as configured.
    #[error("the shared store can't be used: {0}")]
    Valkey(String),
    /// A row can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    /// Returns the error for a byte that is not what was written.
    pub(in crate::state) fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), offset, what: what.into() }
    }

    /// Returns the error for a frame that is whole but no change.
    pub(in crate::state) fn no_change(path: &Path, frame: &Frame, error: &postcard::Error) -> Self {
        Self::damaged(path, frame.offset, format!("a frame is no change ({error})"))
    }

    pub(in crate::state) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}
