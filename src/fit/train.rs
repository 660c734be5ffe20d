//! The training loop: batches drawn file by file, so that a large file does not drown a small one.

use ndarray::{Array2, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::mixture_loss::{Batch, Parameters, Regularisers};
use super::optimizer::AdamW;

/// Units of the router's hidden layer (paper, section 4).
const HIDDEN: usize = 128;

/// What there is to learn from, as numbers.
#[derive(Debug)]
pub struct Examples {
    /// Feature rows of every response, `[E, D]`.
    pub features: Array2<f32>,
    /// Embeddings of what the router reads, `[P, H]`.
    pub prompts: Array2<f32>,
    /// Every choice.
    pub pairs: Vec<Pair>,
}

/// One choice: rows of [`Examples`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// Which file it comes from: every file weighs the same.
    pub file: usize,
    /// A row of `prompts`.
    pub prompt: usize,
    /// A row of `features`.
    pub chosen: usize,
    /// A row of `features`.
    pub rejected: usize,
}

/// How to learn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// How many heads: K.
    pub n_heads: usize,
    /// Passes over as many pairs as there are.
    pub epochs: usize,
    /// Pairs per step.
    pub batch: usize,
    /// Peak learning rate.
    pub rate: f64,
    /// The terms beside the likelihood.
    pub regularisers: Regularisers,
    /// The same seed gives the same heads.
    pub seed: u64,
}

/// Learns heads and router; `progress` gets (step, of, loss). `pairs` are the indices to learn from, not empty.
///
/// Features are scaled while learning; the scale is folded back into the heads.
pub fn train(
    examples: &Examples,
    pairs: &[usize],
    options: Options,
    progress: impl Fn(usize, usize, f64),
) -> Parameters {
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let scales = column_scales(&examples.features);
    let features = &examples.features * &scales;
    let mut parameters = initial(features.ncols(), examples.prompts.ncols(), options.n_heads, &mut rng);
    let by_file = by_file(examples, pairs);
    let n_steps = (options.epochs * pairs.len()).div_ceil(options.batch).max(1);
    let shapes: Vec<(usize, usize)> = parameters.arrays().iter().map(|array| array.dim()).collect();
    let mut optimizer = AdamW::new(&shapes, n_steps, options.rate, 0.01);
    for step in 0..n_steps {
        let drawn: Vec<Pair> = (0..options.batch)
            .map(|_| {
                let file = &by_file[rng.random_range(0..by_file.len())];
                examples.pairs[file[rng.random_range(0..file.len())]]
            })
            .collect();
        let rows = |matrix: &Array2<f32>, row: fn(&Pair) -> usize| {
            matrix.select(Axis(0), &drawn.iter().map(row).collect::<Vec<_>>())
        };
        let differences = rows(&features, |pair| pair.chosen) - rows(&features, |pair| pair.rejected);
        let prompts = rows(&examples.prompts, |pair| pair.prompt);
        let batch = Batch { differences: differences.view(), prompts: prompts.view() };
        let (loss, mut gradient) = parameters.gradient(&batch, options.regularisers);
        optimizer.step(parameters.arrays(), gradient.arrays());
        progress(step + 1, n_steps, loss);
    }
    parameters.heads = &scales.insert_axis(Axis(1)) * &parameters.heads;
    parameters
}

fn by_file(examples: &Examples, pairs: &[usize]) -> Vec<Vec<usize>> {
    let n_files = examples.pairs.iter().map(|pair| pair.file + 1).max().unwrap_or_default();
    let mut files = vec![Vec::new(); n_files];
    for &idx in pairs {
        files[examples.pairs[idx].file].push(idx);
    }
    files.retain(|file| !file.is_empty());
    files
}

/// Embedding columns share one scale, so that rare directions are not blown up; a column whose variance is far
/// from theirs, such as the length, has its own.
fn column_scales(features: &Array2<f32>) -> ndarray::Array1<f32> {
    let variances = features.var_axis(Axis(0), 0.0);
    let mut sorted = variances.to_vec();
    sorted.sort_by(f32::total_cmp);
    let median = sorted[sorted.len() / 2];
    let alike: Vec<f32> = sorted.iter().copied().filter(|v| *v <= 100.0 * median).collect();
    let shared = alike.iter().sum::<f32>() / alike.len().max(1) as f32;
    variances.mapv(|v| 1.0 / if v > 100.0 * median { v } else { shared }.max(1e-12).sqrt())
}

fn initial(n_features: usize, n_embedding: usize, n_heads: usize, rng: &mut ChaCha8Rng) -> Parameters {
    let mut uniform = |shape: (usize, usize), width: f32| {
        Array2::from_shape_simple_fn(shape, || rng.random_range(-width..width))
    };
    Parameters {
        heads: uniform((n_features, n_heads), 0.035),
        hidden: uniform((n_embedding, HIDDEN), 1.0),
        hidden_bias: Array2::zeros((1, HIDDEN)),
        output: uniform((HIDDEN, n_heads), 1.0 / (HIDDEN as f32).sqrt()),
        output_bias: Array2::zeros((1, n_heads)),
    }
}
