//! The features that the heads read of a prompt and a response, and the rewards that they return.

use ndarray::{Array2, Axis};

use super::manifest::{Feature, Head, InputSection};
use crate::types::Encoded;

/// The columns of the heads' input.
#[derive(Debug, Clone)]
pub struct Features {
    blocks: Vec<Feature>,
    n_embedding: usize,
    /// Range of the log length: heads do not extrapolate.
    range: [f32; 2],
}

impl Features {
    /// Returns the columns that a manifest names, for embeddings of `n_embedding` numbers.
    #[must_use]
    pub fn new(input: &InputSection, n_embedding: usize) -> Self {
        let range = input.ranges.get(&Feature::LogLength).copied();
        let range = range.unwrap_or([f32::NEG_INFINITY, f32::INFINITY]);
        Self { blocks: input.features.clone(), n_embedding, range }
    }

    /// Returns the number of columns: D.
    #[must_use]
    pub fn n_columns(&self) -> usize {
        self.blocks.iter().map(|block| if *block == Feature::LogLength { 1 } else { self.n_embedding }).sum()
    }

    /// True if the prompt's embedding is among them.
    #[must_use]
    pub fn read_the_prompt(&self) -> bool {
        self.blocks.contains(&Feature::Prompt)
    }

    /// Appends one response's row to `rows`.
    ///
    /// `response` is the response, or the pair; `prompt` is read only if [`Self::read_the_prompt`].
    pub fn extend(&self, rows: &mut Vec<f32>, prompt: &[f32], response: &Encoded) {
        let [low, high] = self.range;
        for block in &self.blocks {
            match block {
                Feature::Response => rows.extend_from_slice(&response.embedding),
                Feature::Prompt => rows.extend_from_slice(prompt),
                Feature::LogLength => rows.push(response.kept.log_length().max(low).min(high)),
            }
        }
    }
}

/// Every head's raw reward of n responses, `[n, K]`, with the calibration that makes heads comparable.
#[derive(Debug, Clone)]
pub struct Rewards {
    raw: Array2<f32>,
    scales: Vec<Scale>,
}

/// One head's calibration.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    mean: f64,
    std: f64,
    beta: f64,
}

impl From<&Head> for Scale {
    fn from(head: &Head) -> Self {
        Self { mean: head.mean, std: head.std, beta: head.beta }
    }
}

impl Scale {
    /// Returns `beta (r - mean)`.
    pub(super) fn log_odds(self, r: f64) -> f64 {
        self.beta * (r - self.mean)
    }
}

impl Rewards {
    /// Pairs raw rewards `[n, K]` with K scales.
    #[must_use]
    pub fn new(raw: Array2<f32>, scales: Vec<Scale>) -> Self {
        debug_assert_eq!(raw.ncols(), scales.len(), "one scale per head");
        Self { raw, scales }
    }

    /// Stacks all rewards of one bundle, one after another; empty if there are none.
    #[must_use]
    pub fn stack(parts: Vec<Self>) -> Self {
        let views: Vec<_> = parts.iter().map(|part| part.raw.view()).collect();
        let raw = ndarray::concatenate(Axis(0), &views).unwrap_or_else(|_| Array2::zeros((0, 0)));
        Self { raw, scales: parts.into_iter().next().map_or_else(Vec::new, |part| part.scales) }
    }

    /// Returns `z_k = (r_k - mean_k) / std_k` of one response, shape `[K]`.
    #[must_use]
    pub fn calibrated(&self, row: usize) -> Vec<f64> {
        self.each(row, |r, scale| (r - scale.mean) / scale.std)
    }

    /// Returns `beta_k (r_k - mean_k)` of one response, shape `[K]`: log-odds of a thumb up, and of being chosen up
    /// to a constant.
    #[must_use]
    pub fn log_odds(&self, row: usize) -> Vec<f64> {
        self.each(row, |r, scale| scale.log_odds(r))
    }

    /// Returns `d_k = beta_k (r_k(a) - r_k(b))`, shape `[K]`.
    #[must_use]
    pub fn margins(&self, a: usize, b: usize) -> Vec<f64> {
        self.log_odds(a).iter().zip(self.log_odds(b)).map(|(a, b)| a - b).collect()
    }

    /// Returns every head's raw reward of one response, shape `[K]`.
    #[must_use]
    pub fn raw(&self, row: usize) -> Vec<f32> {
        self.raw.row(row).to_vec()
    }

    /// Returns the number of responses: n.
    #[must_use]
    pub fn n_responses(&self) -> usize {
        self.raw.nrows()
    }

    fn each(&self, row: usize, f: impl Fn(f64, &Scale) -> f64) -> Vec<f64> {
        self.raw.row(row).iter().zip(&self.scales).map(|(&r, scale)| f(f64::from(r), scale)).collect()
    }
}
