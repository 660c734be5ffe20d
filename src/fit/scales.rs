//! Scales that let one penalty fit all columns.

use ndarray::{Array1, Axis};

use super::data::{EmbedError, Examples};

/// Rows that are read at once.
const BLOCK: usize = 2048;

/// What every column is multiplied by while learning, shape `[D]`, from the feature rows `rows`.
///
/// The columns of a block share one scale, one over the root of their mean variance: rare directions of an embedding are
/// not blown up. Blocks of one column are `scalar_scale` times as large as the others: the larger, the less a ridge draws
/// their weights to 0.
pub(super) fn scales(
    examples: &Examples,
    rows: &[usize],
    scalar_scale: f64,
) -> Result<Array1<f32>, EmbedError> {
    let layout = &examples.layout;
    let mut sums = Array1::<f64>::zeros(layout.n_columns());
    let mut squares = sums.clone();
    for block in rows.chunks(BLOCK) {
        let block = examples.features(block)?.mapv(f64::from);
        sums += &block.sum_axis(Axis(0));
        squares += &block.mapv(|x| x * x).sum_axis(Axis(0));
    }
    let n = rows.len().max(1) as f64;
    let variances = &squares / n - (&sums / n).mapv(|mean| mean * mean);
    let mut scales = Vec::with_capacity(layout.n_columns());
    for &block in &layout.blocks {
        let width = layout.width(block);
        let first = scales.len();
        let mean = variances.iter().skip(first).take(width).sum::<f64>() / width as f64;
        let size = if width == 1 { scalar_scale } else { 1.0 };
        // A column that does not vary tells nothing; scaled up, it would make huge weights of rounding.
        let scale = if mean > 1e-12 { size / mean.sqrt() } else { 0.0 };
        scales.extend(std::iter::repeat_n(scale as f32, width));
    }
    Ok(scales.into())
}
