//! The reasons why data can't be used.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::split::Split;

/// The reason why data can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file can't be read or unpacked.
    #[error("{path}: can't be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system, or of the format that it is packed in.
        source: io::Error,
    },
    /// The file is of a kind that is not read.
    #[error("{path}: {detail}")]
    Kind {
        /// The file.
        path: PathBuf,
        /// The kinds found and expected.
        detail: String,
    },
    /// The file has lines that are no valid rows.
    #[error("{}", named(.path, .rows, *.more))]
    Rows {
        /// The file.
        path: PathBuf,
        /// The first of these rows, each with what was found and what was expected; at least one.
        rows: Vec<(At, String)>,
        /// Number of the other rows.
        more: usize,
    },
    /// A column that `--map` names is in no row of any file.
    #[error("--map: found no row with the column `{0}`")]
    NoColumn(String),
    /// The temporary file that keeps texts while they are needed failed.
    #[error("the temporary file for texts: {0}")]
    Texts(#[from] io::Error),
    /// A label has the name of another field of every row.
    #[error("found the field name \"{0}\", which means something else in every row; expected another")]
    Reserved(String),
    /// Two files have one name up to the first dot, by which users and the report are kept apart.
    #[error("{0}: another file of the same name up to the first dot was given before")]
    SameName(PathBuf),
    /// The split has no row.
    #[error("found no row of the {} split in {}", split.name(), listed(.files))]
    Empty {
        /// The split that was looked for.
        split: Split,
        /// The files that were searched.
        files: Vec<PathBuf>,
    },
}

/// The place of a row in its file; at least one of the two is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// Its first line, from 1; none in a file without lines.
    pub line: Option<usize>,
    /// Its number, from 1; none where each line is a row.
    pub row: Option<usize>,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.row) {
            (Some(line), Some(row)) => write!(f, "line {line} (row {row})"),
            (Some(line), None) => write!(f, "line {line}"),
            (None, row) => write!(f, "row {}", row.unwrap_or_default()),
        }
    }
}

/// Bad rows of a file that an error lists; it counts the others.
const NAMED: usize = 20;

/// The bad rows of a file so far.
#[derive(Debug, Default)]
pub(super) struct BadRows {
    rows: Vec<(At, String)>,
    more: usize,
}

impl BadRows {
    pub(super) fn add(&mut self, at: At, detail: String) {
        match self.rows.len() < NAMED {
            true => self.rows.push((at, detail)),
            false => self.more += 1,
        }
    }

    /// Returns the error for a file with bad rows.
    pub(super) fn into_result(self, path: &Path) -> Result<(), DataError> {
        let Self { rows, more } = self;
        if rows.is_empty() { Ok(()) } else { Err(DataError::Rows { path: path.to_owned(), rows, more }) }
    }
}

fn listed(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn named(path: &Path, rows: &[(At, String)], more: usize) -> String {
    let path = path.display();
    let row = |(at, detail): &(At, String)| match (at.line, at.row) {
        (Some(line), Some(row)) => format!("{path}:{line}: row {row}: {detail}"),
        (Some(line), None) => format!("{path}:{line}: {detail}"),
        (None, _) => format!("{path}: {at}: {detail}"),
    };
    let more = (more > 0).then(|| format!("{path}: {more} more rows can't be used"));
    rows.iter().map(row).chain(more).collect::<Vec<_>>().join("\n")
}
