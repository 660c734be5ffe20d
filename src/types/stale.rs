//! The staleness of an answer's knowledge of a user.

use serde::Serialize;
use utoipa::ToSchema;

/// The staleness of an answer while the shared store can't be reached: it rests on the state that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Stale {
    /// The age of that state in milliseconds; more than `state.max_staleness`. Null: no state is known here, and the
    /// answer is that for an unknown user.
    pub age_ms: Option<u64>,
}
