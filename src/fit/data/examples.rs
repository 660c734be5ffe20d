//! Pairs of feature rows to learn from, read from disk as they are needed.

use std::collections::BTreeSet;

use ndarray::{Array1, Array2, ArrayView2, Axis};
use rayon::prelude::*;

use super::embed::{EmbedError, EmbeddingCache};
use super::layout::{Block, Layout, Parts};
use super::surfaces::Surfaces;
use crate::mixture::{log_either, log_sigmoid};
use crate::surface::N_STYLE;

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
    /// The surfaces of texts, on disk.
    pub surfaces: Surfaces,
    /// The rows that the average response stands for; empty before [`Self::average_over`].
    pub averaged: Vec<usize>,
    /// The columns of the average response in the present layout, shape `[D]`.
    pub average: Vec<f32>,
}

/// The parts of one feature row: rows of the cache.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FeatureRow {
    /// The prompt; none where the row does not depend on it.
    pub prompt: Option<u32>,
    /// The response, or the pair of prompt and response; none for the average response, of which there is one at most.
    pub response: Option<u32>,
    /// `ln(1 + characters of the response's tokens that are kept)`.
    pub log_length: f32,
    /// The response's surface: a number of `surfaces`.
    pub surface: u32,
}

/// One choice: positions in [`Examples`].
#[derive(Debug, Clone, Copy, PartialEq)]
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
    /// True if the two responses are equally good: the choice counts half in either direction.
    pub is_tie: bool,
    /// Its weight, > 0.
    pub weight: f64,
}

impl Pair {
    /// Returns the log-likelihood of the choice at margin `d`, as a ledger adds it up but for a constant.
    #[must_use]
    pub fn log_likelihood(&self, d: f64) -> f64 {
        let nats = if self.is_tie { log_either(d) } else { log_sigmoid(d) };
        self.weight * nats
    }
}

/// Share of rows outside of a range, on either side.
const OUTSIDE: f64 = 0.001;

impl Examples {
    /// Returns the quantiles .001 and .999 of the log length over the responses of `pairs` (positions), each once.
    #[must_use]
    pub fn log_length_range(&self, pairs: &[usize]) -> [f32; 2] {
        range(self.responses(pairs).into_iter().map(|row| self.rows[row].log_length).collect())
    }

    /// Returns the same of every style column, shape `[N_STYLE]`.
    ///
    /// # Errors
    /// When the temporary file of surfaces can't be read.
    pub fn style_ranges(&self, pairs: &[usize]) -> Result<Vec<[f32; 2]>, EmbedError> {
        let mut columns = vec![Vec::new(); N_STYLE];
        let mut style = [0.0; N_STYLE];
        for row in self.responses(pairs) {
            self.surfaces.read_style(self.rows[row].surface, &mut style)?;
            columns.iter_mut().zip(style).for_each(|(column, x)| column.push(x));
        }
        Ok(columns.into_iter().map(range).collect())
    }

    /// Returns the positions of pairs, file by file; files without a pair are left out.
    #[must_use]
    pub fn by_file(&self, pairs: &[usize]) -> Vec<Vec<usize>> {
        let n_files = self.pairs.iter().map(|pair| pair.file + 1).max().unwrap_or_default();
        let mut files = vec![Vec::new(); n_files];
        for &idx in pairs {
            files[self.pairs[idx].file].push(idx);
        }
        files.retain(|file| !file.is_empty());
        files
    }

    /// Returns the rows of all responses of `pairs` (positions), ascending, each once, without the average one.
    #[must_use]
    pub fn responses(&self, pairs: &[usize]) -> Vec<usize> {
        let rows = pairs.iter().flat_map(|&idx| [self.pairs[idx].chosen, self.pairs[idx].rejected]);
        let rows = rows.filter(|&row| self.rows[row].response.is_some());
        rows.collect::<BTreeSet<usize>>().into_iter().collect()
    }

    /// Makes the average response that of the responses of `pairs` (positions). A head's reward for it is its mean
    /// reward, as the heads are linear.
    ///
    /// # Errors
    /// When the cache can't be read.
    pub fn average_over(&mut self, pairs: &[usize]) -> Result<(), EmbedError> {
        let Some(average) = self.rows.iter().position(|row| row.response.is_none()) else { return Ok(()) };
        self.averaged = self.responses(pairs);
        let length: f64 = self.averaged.iter().map(|&row| f64::from(self.rows[row].log_length)).sum();
        self.rows[average].log_length = (length / self.averaged.len().max(1) as f64) as f32;
        self.set_blocks(self.layout.blocks.clone()).map(|_| ())
    }

    /// Changes the columns of feature rows to those of `blocks`; returns the blocks before.
    ///
    /// # Errors
    /// When the cache can't be read.
    pub fn set_blocks(&mut self, blocks: Vec<Block>) -> Result<Vec<Block>, EmbedError> {
        let before = std::mem::replace(&mut self.layout.blocks, blocks);
        let n = self.averaged.len().max(1) as f64;
        let mut sums = Array1::<f64>::zeros(self.layout.n_columns());
        for block in self.averaged.chunks(BLOCK) {
            sums += &self.features(block)?.mapv(f64::from).sum_axis(Axis(0));
        }
        self.average = sums.iter().map(|sum| (sum / n) as f32).collect();
        Ok(before)
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
        let mut matrix = Array2::zeros((rows.len(), self.layout.n_columns()));
        let mut parts = Parts::of(&self.layout);
        let has = |block: Block| self.layout.blocks.contains(&block);
        let [has_style, has_lexical] = [has(Block::Style), has(Block::Lexical)];
        for (mut columns, &row) in matrix.outer_iter_mut().zip(rows) {
            let FeatureRow { prompt, response, log_length, surface } = self.rows[row];
            let Some(response) = response else {
                columns.iter_mut().zip(&self.average).for_each(|(column, x)| *column = *x);
                continue;
            };
            if self.layout.reads_the_response() {
                self.cache.read(response, &mut parts.response)?;
            }
            if let Some(prompt) = prompt.filter(|_| self.layout.reads_the_prompt()) {
                self.cache.read(prompt, &mut parts.prompt)?;
            }
            if has_style {
                self.surfaces.read_style(surface, &mut parts.style)?;
            }
            if has_lexical {
                self.surfaces.read_lexical(surface, &mut parts.lexical)?;
            }
            parts.log_length = log_length;
            if let Some(columns) = columns.as_slice_mut() {
                self.layout.write(columns, &parts);
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

/// Returns the quantiles .001 and .999 of numbers; zeros if there are none.
fn range(mut numbers: Vec<f32>) -> [f32; 2] {
    numbers.sort_unstable_by(f32::total_cmp);
    let last = numbers.len().saturating_sub(1);
    let n_outside = (last as f64 * OUTSIDE).round() as usize;
    let at = |idx: usize| numbers.get(idx).copied().unwrap_or_default();
    [at(n_outside), at(last - n_outside)]
}

/// Stacks blocks of rows one below the other, shape `[sum, n_columns]`.
pub(in crate::fit) fn stack(blocks: &[Array2<f64>], n_columns: usize) -> Array2<f64> {
    let views: Vec<_> = blocks.iter().map(|block| block.view()).collect();
    ndarray::concatenate(Axis(0), &views).unwrap_or_else(|_| Array2::zeros((0, n_columns)))
}

fn blocks(n: usize) -> impl IndexedParallelIterator<Item = Vec<usize>> {
    (0..n.div_ceil(BLOCK))
        .into_par_iter()
        .map(move |block| (block * BLOCK..n.min((block + 1) * BLOCK)).collect())
}
