//! The features that the heads read of a prompt and a response, and the rewards that they return.

use ndarray::{Array2, Axis};

use super::manifest::{Feature, Head, InputSection};
use crate::surface::N_STYLE;
use crate::types::Encoded;

/// The columns of the heads' input.
#[derive(Debug, Clone)]
pub struct Features {
    blocks: Vec<Feature>,
    n_embedding: usize,
    n_lexical: usize,
    /// Ranges of the log length and of style: heads do not extrapolate.
    ranges: [Vec<[f32; 2]>; 2],
}

impl Features {
    /// Returns the columns that a manifest names, for embeddings of `n_embedding` numbers and `n_lexical` lexical
    /// columns.
    #[must_use]
    pub fn new(input: &InputSection, n_embedding: usize, n_lexical: usize) -> Self {
        let ranges = |feature: Feature| {
            let given = input.ranges.get(&feature).map(|ranges| ranges.as_slice().to_vec());
            given.unwrap_or_else(|| vec![[f32::NEG_INFINITY, f32::INFINITY]; feature.n_ranges()])
        };
        let ranges = [Feature::LogLength, Feature::Style].map(ranges);
        Self { blocks: input.features.clone(), n_embedding, n_lexical, ranges }
    }

    /// Returns the number of columns: D.
    #[must_use]
    pub fn n_columns(&self) -> usize {
        let width = |block: &Feature| match block {
            Feature::Response | Feature::Prompt => self.n_embedding,
            Feature::LogLength => 1,
            Feature::Style => N_STYLE,
            Feature::Lexical => self.n_lexical,
        };
        self.blocks.iter().map(width).sum()
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
        let [length, style] = &self.ranges;
        let within = |x: f32, [low, high]: &[f32; 2]| x.max(*low).min(*high);
        let surface = &response.kept.surface;
        for block in &self.blocks {
            match block {
                Feature::Response => rows.extend_from_slice(&response.embedding),
                Feature::Prompt => rows.extend_from_slice(prompt),
                Feature::LogLength => {
                    rows.extend(length.iter().map(|range| within(response.kept.log_length(), range)));
                }
                Feature::Style => rows.extend(surface.iter().zip(style).map(|(&x, range)| within(x, range))),
                Feature::Lexical => rows.extend_from_slice(&surface[surface.len() - self.n_lexical..]),
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

    /// Makes a row that of the average response: every head's mean, which a thumb compares with.
    pub fn set_average(&mut self, row: usize) {
        for (r, scale) in self.raw.row_mut(row).iter_mut().zip(&self.scales) {
            *r = scale.mean as f32;
        }
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
