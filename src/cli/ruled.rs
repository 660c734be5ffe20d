//! Learns the rulers that a mixture is compared with.

use ndarray::Array1;

use super::Failure;
use crate::fit::{Examples, Ruler};

/// Returns every row's log-odds under each of [`Ruler::ALL`], learned from `pairs` (positions, not empty).
pub(super) fn ruled(
    examples: &mut Examples,
    pairs: &[usize],
    ridge: f64,
    scalar_scale: f64,
) -> Result<[Array1<f64>; Ruler::ALL.len()], Failure> {
    let mut found = Ruler::ALL.map(|_| Array1::zeros(0));
    for (found, ruler) in found.iter_mut().zip(Ruler::ALL) {
        *found = ruler.log_odds(examples, pairs, ridge, scalar_scale).map_err(Failure::failed)?;
    }
    Ok(found)
}
