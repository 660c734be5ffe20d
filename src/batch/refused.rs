//! Why a request is not let in, and when it is worth trying again.

use std::time::Duration;

/// The part of its time that a request may spend waiting: the estimate is rough, shorter texts that come later may go first,
/// and the work takes time as well.
const WAIT_SHARE: f64 = 0.6;

/// How long to stay away at least, and at most.
const RETRY_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no room.
    #[error("{waiting} texts are waiting and {new} more do not fit into {max_texts}")]
    Full {
        /// How many texts wait.
        waiting: usize,
        /// How many were to be added.
        new: usize,
        /// How many may wait.
        max_texts: usize,
    },
    /// It would not be answered in time.
    #[error("a model thread would be free in about {wait:?}, and the caller stops waiting in {left:?}")]
    Late {
        /// How long it would wait.
        wait: Duration,
        /// How long its caller does.
        left: Duration,
    },
}

impl Refused {
    /// Whether a request that waits for `wait` can be answered within `left`.
    pub(super) fn check(wait: Duration, left: Duration) -> Result<(), Self> {
        let is_in_time = !left.is_zero() && wait <= left.mul_f64(WAIT_SHARE);
        if is_in_time { Ok(()) } else { Err(Self::Late { wait, left }) }
    }

    /// When it is worth trying again.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        let [least, most] = RETRY_AFTER;
        match self {
            Self::Full { .. } => least,
            Self::Late { wait, left } => wait.saturating_sub(left.mul_f64(WAIT_SHARE)).clamp(least, most),
        }
    }
}
