//! Scales columns so that one penalty fits all of them.

use ndarray::{Array1, Axis};

use super::data::{Block, EmbedError, Examples};

/// Rows read at once.
const BLOCK: usize = 2048;

/// Returns the factor of every column while learning, shape `[D]`, from the feature rows `rows`.
///
/// The columns of a block share one scale, one over the root of their mean variance, so that rare directions of an
/// embedding are not amplified. Scalars, such as the columns of style, have a scale each, and are `scalar_scale` times
/// as large as the others: the larger, the less a ridge draws their weights to 0.
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
        // A column that does not vary has no information; scaled up, its rounding would become huge weights.
        let scale =
            |variance: f64, size: f64| if variance > 1e-12 { (size / variance.sqrt()) as f32 } else { 0.0 };
        let of_block: Vec<f64> = variances.iter().skip(first).take(width).copied().collect();
        match block {
            Block::Style | Block::Similarity | Block::LogLength => {
                scales.extend(of_block.into_iter().map(|variance| scale(variance, scalar_scale)));
            }
            Block::Response | Block::Prompt | Block::Product | Block::Lexical => {
                let mean = of_block.iter().sum::<f64>() / width as f64;
                scales.extend(std::iter::repeat_n(scale(mean, 1.0), width));
            }
        }
    }
    Ok(scales.into())
}
