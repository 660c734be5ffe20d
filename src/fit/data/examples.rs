//! Pairs of feature rows to learn from, read from disk as they are needed.

use std::collections::BTreeSet;

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use super::embed::{EmbedError, EmbeddingCache};
use super::layout::Layout;

/// Rows read and processed at once.
const BLOCK: usize = 2048;

/// Preference pairs over embeddings.
#[derive(Debug)]
pub struct Examples {
    /// The columns of a feature row.
    pub layout: Layout,
    /// The embeddings on disk.
    pub cache: EmbeddingCache,
    /// Every response (with its prompt where the layout reads it) once.
    pub rows: Vec<FeatureRow>,
    /// Every text that the router reads, once: rows of the cache.
    pub prompts: Vec<u32>,
    /// Every choice.
    pub pairs: Vec<Pair>,
}

/// The parts of one feature row: rows of the cache.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FeatureRow {
    /// The prompt; none where the row does not depend on it.
    pub prompt: Option<u32>,
    /// The response, or the pair of prompt and response.
    pub response: u32,
    /// `ln(1 + characters of the response's tokens that are kept)`.
    pub log_length: f32,
}

/// One choice: positions in [`Examples`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// The file that it comes from.
    pub file: usize,
    /// The user who chose.
    pub user: Option<usize>,
    /// A position in `prompts`.
    pub prompt: usize,
    /// A position in `rows`.
    pub chosen: usize,
    /// A position in `rows`.
    pub rejected: usize,
}

/// Share of rows outside of a range, on either side.
const OUTSIDE: f64 = 0.001;

impl Examples {
    /// Returns the quantiles .001 and .999 of the log length over the responses of `pairs` (positions), each once.
    #[must_use]
    pub fn log_length_range(&self, pairs: &[usize]) -> [f32; 2] {
        let rows = pairs.iter().flat_map(|&idx| [self.pairs[idx].chosen, self.pairs[idx].rejected]);
        let rows: BTreeSet<usize> = rows.collect();
        let mut lengths: Vec<f32> = rows.into_iter().map(|row| self.rows[row].log_length).collect();
        lengths.sort_unstable_by(f32::total_cmp);
        let last = lengths.len().saturating_sub(1);
        let n_outside = (last as f64 * OUTSIDE).round() as usize;
        let at = |idx: usize| lengths.get(idx).copied().unwrap_or_default();
        [at(n_outside), at(last - n_outside)]
    }

    /// Clamps log lengths to a range, as a bundle does.
    pub fn clamp_log_lengths(&mut self, [low, high]: [f32; 2]) {
        for row in &mut self.rows {
            row.log_length = row.log_length.max(low).min(high);
        }
    }

    /// Returns feature rows, shape `[n, D]`.
    ///
    /// # Errors
    /// When the cache can't be read.
    pub fn features(&self, rows: &[usize]) -> Result<Array2<f32>, EmbedError> {
        let n_embedding = self.layout.n_embedding;
        let mut matrix = Array2::zeros((rows.len(), self.layout.n_columns()));
        let (mut prompt, mut response) = (vec![0.0; n_embedding], vec![0.0; n_embedding]);
        for (mut columns, &row) in matrix.outer_iter_mut().zip(rows) {
            let FeatureRow { prompt: prompt_row, response: response_row, log_length } = self.rows[row];
            self.cache.read(response_row, &mut response)?;
            if let Some(prompt_row) = prompt_row {
                self.cache.read(prompt_row, &mut prompt)?;
            }
            if let Some(columns) = columns.as_slice_mut() {
                self.layout.write(columns, &prompt, &response, log_length);
            }
        }
        Ok(matrix)
    }

    /// Returns the embeddings of texts that the router reads, shape `[n, H]`.
    ///
    /// # Errors
    /// When the cache can't be read.
    pub fn prompts(&self, prompts: &[usize]) -> Result<Array2<f32>, EmbedError> {
        let mut matrix = Array2::zeros((prompts.len(), self.layout.n_embedding));
        for (mut columns, &prompt) in matrix.outer_iter_mut().zip(prompts) {
            if let Some(columns) = columns.as_slice_mut() {
                self.cache.read(self.prompts[prompt], columns)?;
            }
        }
        Ok(matrix)
    }

    /// Applies `f` to all feature rows, block by block, and returns the results in order.
    ///
    /// # Errors
    /// When the cache can't be read.
    pub fn map_rows<T: Send>(
        &self,
        f: impl Fn(ArrayView2<'_, f32>) -> T + Sync,
    ) -> Result<Vec<T>, EmbedError> {
        blocks(self.rows.len()).map(|block| Ok(f(self.features(&block)?.view()))).collect()
    }

    /// Applies `f` to the embeddings of all texts that the router reads, block by block, and returns the results in
    /// order.
    ///
    /// # Errors
    /// When the cache can't be read.
    pub fn map_prompts<T: Send>(
        &self,
        f: impl Fn(ArrayView2<'_, f32>) -> T + Sync,
    ) -> Result<Vec<T>, EmbedError> {
        blocks(self.prompts.len()).map(|block| Ok(f(self.prompts(&block)?.view()))).collect()
    }

    /// Returns every row's reward by every head `[D, K]`, shape `[rows, K]`.
    ///
    /// # Errors
    /// When the cache can't be read.
    pub fn rewards(&self, heads: &Array2<f32>) -> Result<Array2<f64>, EmbedError> {
        let blocks = self.map_rows(|rows| rows.dot(heads).mapv(f64::from))?;
        Ok(stack(&blocks, heads.ncols()))
    }
}

/// Stacks blocks of rows one below the other, shape `[sum, n_columns]`.
pub(in crate::fit) fn stack(blocks: &[Array2<f64>], n_columns: usize) -> Array2<f64> {
    let views: Vec<_> = blocks.iter().map(|block| block.view()).collect();
    ndarray::concatenate(ndarray::Axis(0), &views).unwrap_or_else(|_| Array2::zeros((0, n_columns)))
}

fn blocks(n: usize) -> impl IndexedParallelIterator<Item = Vec<usize>> {
    (0..n.div_ceil(BLOCK))
        .into_par_iter()
        .map(move |block| (block * BLOCK..n.min((block + 1) * BLOCK)).collect())
}
