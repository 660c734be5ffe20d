//! Learns the rulers that a mixture is compared with.

use ndarray::Array1;

use super::Failure;
use crate::fit::{Examples, RowsError, Ruler, RulerLesson};

/// The rewards or log-odds of every row by each of [`Ruler::ALL`], shape `[rows]`.
pub(super) type Ruled = [Array1<f64>; Ruler::ALL.len()];

/// Returns `of` for every ruler: [`Ruler::rewards`] or [`Ruler::log_odds`], which takes several times as long.
pub(super) fn ruled(
    examples: &mut Examples,
    how: RulerLesson<'_>,
    of: impl Fn(Ruler, &mut Examples, RulerLesson<'_>) -> Result<Array1<f64>, RowsError>,
) -> Result<Ruled, Failure> {
    let mut found = Ruler::ALL.map(|_| Array1::zeros(0));
    for (found, ruler) in found.iter_mut().zip(Ruler::ALL) {
        *found = of(ruler, examples, how).map_err(Failure::failed)?;
    }
    Ok(found)
}
