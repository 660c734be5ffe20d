//! Stage 1 without users: the mixture of single pairs with the prompt router (the paper's).
//!
//! Batches are drawn file by file, so that a large file does not outweigh a small one.

use ndarray::{Array1, Array2, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::data::{EmbedError, Examples, Pair};
use super::mixture_loss::{Batch, Parameters, Regularizers};
use super::optimizer::AdamW;
use super::router::Router;

/// Options for learning from single pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PromptOptions {
    /// Passes over as many pairs as there are.
    pub epochs: usize,
    /// Pairs per step.
    pub batch: usize,
    /// Peak learning rate.
    pub rate: f64,
    /// Reward for the entropy of every prompt's weights (the paper's alpha).
    pub entropy: f64,
    /// Penalty on the entropy of every prompt's weights.
    pub sparse: f64,
    /// Reward for the entropy of the batch's mean weights.
    pub balance: f64,
}

/// Learns heads (for scaled columns) and router; `progress` is called at every step. `pairs` are the positions to
/// learn from, not empty.
pub(super) fn learn(
    examples: &Examples,
    pairs: &[usize],
    scales: &Array1<f32>,
    (n_heads, ridge, seed): (usize, f64, u64),
    options: PromptOptions,
    progress: &(impl Fn() + Sync),
) -> Result<Parameters, EmbedError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let heads = Array2::from_shape_simple_fn((scales.len(), n_heads), || rng.random_range(-0.035..0.035_f32));
    let router = Router::new(examples.layout.n_embedding, n_heads, &mut rng);
    let mut parameters = Parameters { heads, router };
    let by_file = examples.by_file(pairs);
    let n_steps = steps(pairs.len(), options);
    let shapes: Vec<(usize, usize)> = parameters.arrays().map(|array| array.dim()).collect();
    let mut optimizer = AdamW::new(&shapes, n_steps, options.rate, 0.01);
    let PromptOptions { entropy, sparse, balance, .. } = options;
    let regularizers = Regularizers { entropy, sparse, balance, l2: ridge / pairs.len() as f64 };
    for _ in 0..n_steps {
        let drawn: Vec<Pair> = (0..options.batch)
            .map(|_| {
                let file = &by_file[rng.random_range(0..by_file.len())];
                let pair = examples.pairs[file[rng.random_range(0..file.len())]];
                // A tie is learned in either direction as often.
                let is_turned = pair.is_tie && rng.random_bool(0.5);
                if is_turned { Pair { chosen: pair.rejected, rejected: pair.chosen, ..pair } } else { pair }
            })
            .collect();
        let weights: Vec<f64> = drawn.iter().map(|pair| pair.weight).collect();
        let rows = |row: fn(&Pair) -> usize| drawn.iter().map(row).collect::<Vec<_>>();
        let chosen = examples.features(&rows(|pair| pair.chosen))?;
        let differences = (chosen - examples.features(&rows(|pair| pair.rejected))?) * scales;
        let prompts = examples.prompts(&rows(|pair| pair.prompt))?;
        let batch = Batch { differences: differences.view(), prompts: prompts.view(), weights: &weights };
        let (_, mut gradient) = parameters.gradient(&batch, regularizers);
        optimizer.step(parameters.arrays(), gradient.arrays());
        progress();
    }
    Ok(parameters)
}

/// Returns the number of steps of [`learn`].
pub(super) fn steps(n_pairs: usize, options: PromptOptions) -> usize {
    (options.epochs * n_pairs).div_ceil(options.batch).max(1)
}

/// Returns the heads for unscaled columns.
pub(super) fn unscaled(heads: &Array2<f32>, scales: &Array1<f32>) -> Array2<f32> {
    heads * &scales.clone().insert_axis(Axis(1))
}
