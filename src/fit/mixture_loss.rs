//! The loss of stage 1 and its gradient, in closed form.
//!
//! ```text
//! P(y_w > y_l | x) = sum_k pi_k(x) sigma(d_k)                     d_k = w_k . (phi(y_w) - phi(y_l))
//! loss = - mean v log P  +  alpha mean sum_k pi_k log pi_k        (paper, equations 2 to 4; v: the pair's weight)
//!        + sparse mean H(pi)  -  balance H(mean pi)               (sparse local, balanced global)
//!        + l2/2 sum_k |w_k|^2
//! pi(x) = softmax(relu(e(x) V + a) U + b)
//! ```
//!
//! `alpha` keeps every head alive for every prompt; `sparse` and `balance` let heads specialize by prompt while
//! the batch as a whole uses them all.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::router::Router;
use crate::mixture::{log_sigmoid, log_sum_exp, sigmoid};

/// Heads and router.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// The heads, `[D, K]`.
    pub heads: Array2<f32>,
    /// The router, which gives their mixture weights.
    pub router: Router,
}

/// Coefficients of the terms of the loss; all >= 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Regularizers {
    /// The paper's alpha: reward for the entropy of every prompt's weights.
    pub entropy: f64,
    /// Penalty on the entropy of every prompt's weights.
    pub sparse: f64,
    /// Reward for the entropy of the batch's mean weights.
    pub balance: f64,
    /// Ridge that shrinks the heads.
    pub l2: f64,
}

/// A batch of pairs.
pub(super) struct Batch<'a> {
    /// `phi(chosen) - phi(rejected)`, `[B, D]`
    pub(super) differences: ArrayView2<'a, f32>,
    /// `e(x)`, `[B, H]`
    pub(super) prompts: ArrayView2<'a, f32>,
    /// Weights of the pairs, > 0, shape `[B]`.
    pub(super) weights: &'a [f64],
}

impl Parameters {
    /// Returns the arrays, in a fixed order.
    pub(super) fn arrays(&mut self) -> impl Iterator<Item = &mut Array2<f32>> {
        std::iter::once(&mut self.heads).chain(self.router.arrays())
    }

    /// Returns the loss of a batch and its gradient.
    pub(super) fn gradient(&self, batch: &Batch<'_>, regularizers: Regularizers) -> (f64, Self) {
        let n = batch.differences.nrows() as f64;
        let margins = batch.differences.dot(&self.heads).mapv(f64::from);
        let forward = self.router.forward(batch.prompts);
        let log_pi = &forward.log_weights;
        let pi = log_pi.mapv(f64::exp);
        let mean_pi = pi.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(pi.ncols()));
        let log_mean = mean_pi.mapv(|p| p.max(f64::MIN_POSITIVE).ln());

        let Regularizers { entropy, sparse, balance, l2 } = regularizers;
        let mut loss = balance * (&mean_pi * &log_mean).sum();
        let mut d_margins = Array2::<f32>::zeros(margins.raw_dim());
        let mut d_logits = Array2::<f32>::zeros(margins.raw_dim());
        for i in 0..margins.nrows() {
            let (d, log_pi, pi) = (margins.row(i), log_pi.row(i), pi.row(i));
            let joint: Vec<f64> = log_pi.iter().zip(d).map(|(log_pi, &d)| log_pi + log_sigmoid(d)).collect();
            let log_p = log_sum_exp(&joint);
            let negative_entropy = pi.dot(&log_pi);
            let spread = pi.dot(&log_mean);
            let weight = batch.weights[i];
            loss += (-weight * log_p + (entropy - sparse) * negative_entropy) / n;
            for k in 0..d.len() {
                let responsibility = (joint[k] - log_p).exp();
                d_margins[[i, k]] = (-weight * responsibility * sigmoid(-d[k]) / n) as f32;
                let own = weight * (pi[k] - responsibility);
                let local = (entropy - sparse) * pi[k] * (log_pi[k] - negative_entropy);
                let global = balance * pi[k] * (log_mean[k] - spread);
                d_logits[[i, k]] = ((own + local + global) / n) as f32;
            }
        }
        loss += 0.5 * l2 * self.heads.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>();

        let gradient = Self {
            heads: batch.differences.t().dot(&d_margins) + &self.heads * (l2 as f32),
            router: self.router.backward(batch.prompts, &forward, &d_logits),
        };
        (loss, gradient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, columns: usize, seed: u32) -> Array2<f32> {
        let mut state = seed;
        Array2::from_shape_simple_fn((rows, columns), || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let parameters = Parameters {
            heads: matrix(4, 3, 1),
            router: Router {
                hidden: matrix(5, 6, 2),
                hidden_bias: matrix(1, 6, 3),
                output: matrix(6, 3, 4),
                output_bias: matrix(1, 3, 5),
            },
        };
        let (differences, prompts) = (matrix(7, 4, 6), matrix(7, 5, 7));
        let weights = [1.0, 0.5, 2.0, 1.0, 0.1, 1.0, 1.0];
        let batch = Batch { differences: differences.view(), prompts: prompts.view(), weights: &weights };
        let regularizers = Regularizers { entropy: 0.5, sparse: 0.1, balance: 0.7, l2: 0.3 };
        let (_, mut gradient) = parameters.gradient(&batch, regularizers);
        for (part, slopes) in gradient.arrays().enumerate() {
            for (idx, &slope) in slopes.indexed_iter() {
                let at = |step: f32| {
                    let mut moved = parameters.clone();
                    if let Some(array) = moved.arrays().nth(part) {
                        array[idx] += step;
                    }
                    moved.gradient(&batch, regularizers).0
                };
                let measured = (at(1e-2) - at(-1e-2)) / 2e-2;
                assert!(
                    (measured - f64::from(slope)).abs() < 2e-4,
                    "part {part} {idx:?}: {measured} {slope}"
                );
            }
        }
    }
}
