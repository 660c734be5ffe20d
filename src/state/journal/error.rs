//! Why a data directory can't be used.

use std::path::{Path, PathBuf};

use super::LedgerId;
use super::segment::Frame;
use crate::state::StoreError;

/// Why a data directory can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
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
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The directory's layout is another program version's.
    #[error("{}: found {found:?}, expected {expected:?}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What this program reads.
        expected: &'static str,
    },
    /// A file of another program version.
    #[error("{}: found format {found}, expected {expected}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u32,
        /// What this program reads.
        expected: u32,
    },
    /// The secret by which users are known is not there, or is another one.
    #[error(
        "{}: {what}. Nobody's rows are found without the secret that they were written with: restore the file from a backup",
        path.display()
    )]
    Secret {
        /// The file.
        path: PathBuf,
        /// What was found.
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
        /// Whose ledgers it holds.
        found: LedgerId,
        /// Whose are served.
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
        /// Where.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The file of rows can't be opened.
    #[error("{}: {source}", path.display())]
    Rows {
        /// The file.
        path: PathBuf,
        /// What its library says.
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
    /// A byte that is not what was written.
    pub(in crate::state) fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), offset, what: what.into() }
    }

    /// A frame that is whole and makes no sense.
    pub(in crate::state) fn no_change(path: &Path, frame: &Frame, error: &postcard::Error) -> Self {
        Self::damaged(path, frame.offset, format!("a frame is no change ({error})"))
    }

    pub(in crate::state) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}
