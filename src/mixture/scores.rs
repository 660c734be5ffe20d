//! The scores of an answer, from per-head rewards and mixture weights.

use super::evidence::sigmoid;
use super::weights::{Weights, log_softmax};

/// Returns the weighted standard deviation of the heads' calibrated rewards `z`, the disagreement of the heads, >=
/// 0.
#[must_use]
pub fn disagreement(weights: &Weights, z: &[f64]) -> f64 {
    let mean = weights.mean_of(z);
    let spread: Vec<f64> = z.iter().map(|v| (v - mean).powi(2)).collect();
    weights.mean_of(&spread).sqrt()
}

/// Returns `P(a > b) = sum_k w_k sigma(d_k)` with `d_k = beta_k (r_k(a) - r_k(b))` (paper, equation 1), in [0, 1].
#[must_use]
pub fn preference(weights: &Weights, margins: &[f64]) -> f64 {
    weights.mean_of(&margins.iter().map(|&d| sigmoid(d)).collect::<Vec<_>>()).clamp(0.0, 1.0)
}

/// Returns 1 for a margin that is won, 0 for one that is lost, or one half for a tie, which rounding of a mixture
/// does not decide.
#[must_use]
pub fn win(margin: f64) -> f64 {
    if margin.abs() < 1e-12 { 0.5 } else { f64::from(u8::from(margin > 0.0)) }
}

/// Returns the probability that each of n responses is the best; they sum to 1.
///
/// `scaled[i][k]` is `beta_k r_k(y_i)`. Each head chooses by a softmax over the responses (Plackett-Luce's first
/// place), so two responses give exactly [`preference`].
#[must_use]
pub fn best_probabilities(weights: &Weights, scaled: &[Vec<f64>]) -> Vec<f64> {
    let mut probabilities = vec![0.0; scaled.len()];
    for (k, w) in weights.as_slice().iter().enumerate() {
        let column: Vec<f64> = scaled.iter().map(|row| row[k]).collect();
        for (p, log_p) in probabilities.iter_mut().zip(log_softmax(&column)) {
            *p += w * log_p.exp();
        }
    }
    probabilities
}
