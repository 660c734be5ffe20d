//! The reasons why a request is refused, and the time until a retry.

use std::time::Duration;

/// The share of its time that a request may spend waiting: the estimate is rough, shorter texts that come later may
/// precede it, and the work takes time as well.
const WAIT_SHARE: f64 = 0.6;

/// The least and the greatest time until a retry.
const RETRY_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// The reason why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The queue has no room.
    #[error("{waiting} texts are waiting and {new} more do not fit into {max_texts}")]
    Full {
        /// Texts that wait.
        waiting: usize,
        /// Texts of the request.
        new: usize,
        /// Upper bound of the texts that wait.
        max_texts: usize,
    },
    /// The answer would come too late.
    #[error("a model thread would be free in about {wait:?}, and the caller stops waiting in {left:?}")]
    Late {
        /// Estimated time that the request would wait.
        wait: Duration,
        /// Time until its caller stops waiting.
        left: Duration,
    },
}

impl Refused {
    /// Checks whether a request that waits for `wait` can be answered within `left`.
    pub(super) fn check(wait: Duration, left: Duration) -> Result<(), Self> {
        let is_in_time = !left.is_zero() && wait <= left.mul_f64(WAIT_SHARE);
        if is_in_time { Ok(()) } else { Err(Self::Late { wait, left }) }
    }

    /// Returns the time after which a retry is worthwhile.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        let [least, most] = RETRY_AFTER;
        match self {
            Self::Full { .. } => least,
            Self::Late { wait, left } => wait.saturating_sub(left.mul_f64(WAIT_SHARE)).clamp(least, most),
        }
    }
}
