//! The router: from embeddings of prompts and contexts to weights of the heads.

use ndarray::{Array2, ArrayView2, Axis, Zip};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::mixture::log_softmax;

/// Units of the hidden layer (paper, section 4).
const HIDDEN: usize = 128;

/// The router: `pi(x) = softmax(relu(e(x) V + a) U + b)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Router {
    /// `V [H, 128]`
    pub hidden: Array2<f32>,
    /// `a [1, 128]`
    pub hidden_bias: Array2<f32>,
    /// `U [128, K]`
    pub output: Array2<f32>,
    /// `b [1, K]`
    pub output_bias: Array2<f32>,
}

/// The values of a forward pass over a batch.
pub(super) struct Forward {
    /// Outputs of the hidden layer, `[B, 128]`.
    active: Array2<f32>,
    /// `ln pi`, `[B, K]`
    pub(super) log_weights: Array2<f64>,
}

impl Router {
    /// Returns a router with random parameters.
    pub(super) fn new(n_embedding: usize, n_heads: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut uniform = |shape: (usize, usize), width: f32| {
            Array2::from_shape_simple_fn(shape, || rng.random_range(-width..width))
        };
        Self {
            hidden: uniform((n_embedding, HIDDEN), 1.0),
            hidden_bias: Array2::zeros((1, HIDDEN)),
            output: uniform((HIDDEN, n_heads), 1.0 / (HIDDEN as f32).sqrt()),
            output_bias: Array2::zeros((1, n_heads)),
        }
    }

    /// Returns a router with these logits for every prompt, until it is taught.
    pub(super) fn constant(n_embedding: usize, logits: &[f64], seed: u64) -> Self {
        let mut router = Self::new(n_embedding, logits.len(), &mut ChaCha8Rng::seed_from_u64(seed));
        router.output.fill(0.0);
        router.output_bias.iter_mut().zip(logits).for_each(|(bias, &logit)| *bias = logit as f32);
        router
    }

    /// Returns the arrays, in a fixed order.
    pub(super) fn arrays(&mut self) -> [&mut Array2<f32>; 4] {
        [&mut self.hidden, &mut self.hidden_bias, &mut self.output, &mut self.output_bias]
    }

    /// Returns the log-weights of prompts `[B, H]`, shape `[B, K]`.
    #[must_use]
    pub fn log_weights(&self, prompts: ArrayView2<'_, f32>) -> Array2<f64> {
        self.forward(prompts).log_weights
    }

    pub(super) fn forward(&self, prompts: ArrayView2<'_, f32>) -> Forward {
        let active = (prompts.dot(&self.hidden) + &self.hidden_bias).mapv_into(|x| x.max(0.0));
        let mut log_weights = (active.dot(&self.output) + &self.output_bias).mapv(f64::from);
        for mut row in log_weights.outer_iter_mut() {
            let normalized = ndarray::Array1::from(log_softmax(&row.to_vec()));
            row.assign(&normalized);
        }
        Forward { active, log_weights }
    }

    /// Returns the gradient of a loss whose slope in the logits is `d_logits`, `[B, K]`.
    pub(super) fn backward(
        &self,
        prompts: ArrayView2<'_, f32>,
        forward: &Forward,
        d_logits: &Array2<f32>,
    ) -> Self {
        let mut d_active = d_logits.dot(&self.output.t());
        Zip::from(&mut d_active).and(&forward.active).for_each(|d, &a| *d = if a > 0.0 { *d } else { 0.0 });
        let column_sums = |matrix: &Array2<f32>| matrix.sum_axis(Axis(0)).insert_axis(Axis(0));
        Self {
            hidden: prompts.t().dot(&d_active),
            hidden_bias: column_sums(&d_active),
            output: forward.active.t().dot(d_logits),
            output_bias: column_sums(d_logits),
        }
    }
}
