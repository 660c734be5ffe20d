//! How old an answer's knowledge of a user is, where that is worth saying.

use serde::Serialize;
use utoipa::ToSchema;

/// The shared store can't be reached, and the answer rests on what is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Stale {
    /// How old that is, in milliseconds; more than `state.max_staleness`. Null: nothing is known here, and the answer is
    /// that for a stranger.
    pub age_ms: Option<u64>,
}
