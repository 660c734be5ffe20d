//! Forgetting by forward decay, which keeps a ledger a sum.
//!
//! An event at time `t` enters with weight `2^((t - t0) / half_life)`; a read at `now` divides by
//! `2^((now - t0) / half_life)`. The origin `t0` is the start of the row's epoch of 8 half-lives, so rows of
//! one epoch share it, and moving to a later epoch divides the sums by a power of two. Backward decay
//! (`L <- gamma L + x`) would depend on the order of events; this does not (Cormode et al., ICDE 2009).

use std::num::NonZeroU64;

/// Half-lives per epoch, which keep `2^((t - t0) / half_life)` within one row below 2^8, far from overflow.
const HALF_LIVES_PER_EPOCH: u32 = 8;

/// The half-life of evidence, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decay {
    half_life_ms: Option<NonZeroU64>,
}

impl Decay {
    /// No forgetting: ledgers are exact sums.
    pub const NONE: Self = Self { half_life_ms: None };

    /// Halves the weight of evidence after every `half_life_ms` milliseconds.
    #[must_use]
    pub fn with_half_life(half_life_ms: NonZeroU64) -> Self {
        Self { half_life_ms: Some(half_life_ms) }
    }

    /// Returns the epoch that holds `at_ms`; 0 without forgetting.
    #[must_use]
    pub fn epoch_of(self, at_ms: i64) -> i64 {
        self.half_life_ms.map_or(0, |half_life| at_ms.div_euclid(epoch_ms(half_life)))
    }

    /// Returns `2^((at_ms - t0) / half_life)`, with `t0` the start of `epoch`.
    pub(super) fn weight(self, at_ms: i64, epoch: i64) -> f64 {
        self.half_life_ms.map_or(1.0, |half_life| {
            let since_origin = at_ms as f64 - epoch as f64 * epoch_ms(half_life) as f64;
            (since_origin / half_life.get() as f64).exp2()
        })
    }

    /// Returns a sum of an earlier epoch as it counts `epochs` later: divided by `2^(8 epochs)`, rounded to nearest.
    pub(super) fn rebase(self, sum: i64, epochs: u64) -> i64 {
        let shift = epochs.saturating_mul(u64::from(HALF_LIVES_PER_EPOCH));
        if shift == 0 {
            return sum;
        }
        if shift > 62 {
            return 0;
        }
        let half = 1_i128 << (shift - 1);
        ((i128::from(sum) + half) >> shift) as i64
    }
}

fn epoch_ms(half_life: NonZeroU64) -> i64 {
    i64::try_from(half_life.get().saturating_mul(u64::from(HALF_LIVES_PER_EPOCH))).unwrap_or(i64::MAX)
}
