//! What makes heads comparable: mean, standard deviation, temperature, share of the population.

use ndarray::{Array2, Axis};

use super::mixture_loss::Parameters;
use super::train::{Examples, Pair};
use crate::mixture::{log_sigmoid, sigmoid};

/// A temperature outside of this says that the held-out pairs tell nothing about the head.
const BETA_RANGE: (f64, f64) = (0.05, 20.0);

/// One head's calibration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    /// Mean reward over the training responses.
    pub mean: f64,
    /// Standard deviation of the reward over the training responses.
    pub std: f64,
    /// Temperature: minimises the held-out log loss of `sigma(beta d)`, pairs weighted by the router.
    pub beta: f64,
    /// The router's mean weight over the training pairs, every file weighing the same.
    pub prior: f64,
}

/// Calibrates every head: moments and prior on `train`, temperature on `held_out` (indices of pairs).
#[must_use]
pub fn calibrate(
    examples: &Examples,
    parameters: &Parameters,
    train: &[usize],
    held_out: &[usize],
) -> Vec<Calibration> {
    let rewards = examples.features.dot(&parameters.heads).mapv(f64::from);
    let weights = parameters.log_weights(examples.prompts.view()).mapv(f64::exp);
    let mut responses: Vec<usize> =
        train.iter().flat_map(|&i| [examples.pairs[i].chosen, examples.pairs[i].rejected]).collect();
    responses.sort_unstable();
    responses.dedup();
    let train_rewards = rewards.select(Axis(0), &responses);
    let priors = priors(examples, &weights, train);
    let held_out: Vec<Pair> = held_out.iter().map(|&i| examples.pairs[i]).collect();
    (0..rewards.ncols())
        .map(|k| {
            let column = train_rewards.column(k);
            let margins = held_out.iter().map(|pair| rewards[[pair.chosen, k]] - rewards[[pair.rejected, k]]);
            let weighted: Vec<(f64, f64)> =
                margins.zip(held_out.iter().map(|pair| weights[[pair.prompt, k]])).collect();
            Calibration {
                mean: column.mean().unwrap_or_default(),
                std: column.std(0.0).max(1e-6),
                beta: temperature(&weighted),
                prior: priors[k],
            }
        })
        .collect()
}

fn priors(examples: &Examples, weights: &Array2<f64>, train: &[usize]) -> Vec<f64> {
    let n_files = examples.pairs.iter().map(|pair| pair.file + 1).max().unwrap_or_default();
    let mut sums = Array2::<f64>::zeros((n_files, weights.ncols()));
    for &idx in train {
        let Pair { file, prompt, .. } = examples.pairs[idx];
        let mut row = sums.row_mut(file);
        row += &weights.row(prompt);
    }
    let mut priors = vec![0.0; weights.ncols()];
    for row in sums.outer_iter().filter(|row| row.sum() > 0.0) {
        priors.iter_mut().zip(row).for_each(|(prior, share)| *prior += share / row.sum());
    }
    let total: f64 = priors.iter().sum();
    priors.iter().map(|prior| (prior / total).max(1e-6)).collect()
}

/// The minimiser of `- sum w log sigma(beta d)` over (margin, weight), which is convex, by bisection of its slope.
fn temperature(margins: &[(f64, f64)]) -> f64 {
    let slope = |beta: f64| margins.iter().map(|(d, w)| -w * d * sigmoid(-beta * d)).sum::<f64>();
    let loss = |beta: f64| -margins.iter().map(|(d, w)| w * log_sigmoid(beta * d)).sum::<f64>();
    let (mut low, mut high) = BETA_RANGE;
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if slope(middle) < 0.0 { low = middle } else { high = middle }
    }
    let found = 0.5 * (low + high);
    if loss(found) < loss(1.0) { found } else { 1.0 }
}
