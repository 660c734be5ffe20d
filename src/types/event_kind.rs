//! The kinds of feedback.

use serde::Deserialize;
use utoipa::ToSchema;

/// The kinds of feedback. Each counts as one event of weight 1, whatever the number of responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "String", rename_all = "snake_case")]
pub enum EventKind {
    /// One response is preferred to another.
    Pair,
    /// Two responses are equally good.
    Tie,
    /// One response is good or bad.
    Thumb,
    /// Responses in their order, best first.
    Ranking,
    /// Responses with a number each.
    Rating,
    /// A response was edited; the edited text is preferred.
    Correction,
}

impl EventKind {
    pub(super) const ALL: [Self; 6] =
        [Self::Pair, Self::Tie, Self::Thumb, Self::Ranking, Self::Rating, Self::Correction];

    /// Returns the kind as clients write it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Tie => "tie",
            Self::Thumb => "thumb",
            Self::Ranking => "ranking",
            Self::Rating => "rating",
            Self::Correction => "correction",
        }
    }
}
