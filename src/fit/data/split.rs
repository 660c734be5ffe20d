//! The use of a row: to learn from, or to report on.

use serde::Deserialize;

/// The use of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Rows to learn from.
    #[default]
    Train,
    /// Rows to report on.
    Test,
    /// Rows to choose questions from, which are no user's choices.
    #[serde(skip)]
    #[value(skip)]
    Candidate,
}

impl Split {
    /// Returns the name in data files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
            Self::Candidate => "candidate",
        }
    }
}
