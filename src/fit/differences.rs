//! Differences of the two responses of every pair, as a matrix that may be larger than memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use ndarray::{Array1, Array2, ArrayView2};
use rayon::prelude::*;

use super::data::{EmbedError, Examples};

/// Rows processed at once.
const BLOCK: usize = 2048;

/// Rows beyond this many bytes are written to a temporary file and read again in every pass.
const RESIDENT: usize = 256 << 20;

/// `phi(chosen) - phi(rejected)` of distinct pairs, scaled by column, shape `[n, D]`.
#[derive(Debug)]
pub(super) struct Differences {
    resident: Vec<Array2<f32>>,
    /// Blocks after the resident ones, all of `BLOCK` rows but the last.
    spilled: Option<File>,
    n_rows: usize,
    n_columns: usize,
}

/// The reason why rows can't be computed.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The embeddings can't be read.
    #[error(transparent)]
    Embed(#[from] EmbedError),
    /// Learning diverged.
    #[error(
        "learning gave numbers that are not finite; a smaller ridge, deviation ridge, rate or scale of scalars may help"
    )]
    NotFinite,
    /// The temporary file can't be written or read.
    #[error("the temporary file for feature rows: {0}")]
    Scratch(#[from] io::Error),
}

impl Differences {
    /// Computes the rows of `pairs` (chosen, rejected), multiplied by `scales` (shape `[D]`).
    pub(super) fn new(
        examples: &Examples,
        pairs: &[(usize, usize)],
        scales: &Array1<f32>,
    ) -> Result<Self, RowsError> {
        Self::within(examples, pairs, scales, RESIDENT)
    }

    fn within(
        examples: &Examples,
        pairs: &[(usize, usize)],
        scales: &Array1<f32>,
        resident: usize,
    ) -> Result<Self, RowsError> {
        let n_columns = scales.len();
        let n_resident = (resident / (BLOCK * n_columns * 4)).max(1);
        let mut rows = Self { resident: Vec::new(), spilled: None, n_rows: pairs.len(), n_columns };
        for (idx, block) in pairs.chunks(BLOCK).enumerate() {
            let (chosen, rejected): (Vec<usize>, Vec<usize>) = block.iter().copied().unzip();
            let block = (examples.features(&chosen)? - examples.features(&rejected)?) * scales;
            if idx < n_resident {
                rows.resident.push(block);
                continue;
            }
            let file = match &mut rows.spilled {
                Some(file) => file,
                none => none.insert(tempfile::tempfile()?),
            };
            let bytes: Vec<u8> = block.iter().flat_map(|x| x.to_le_bytes()).collect();
            file.write_all_at(&bytes, ((idx - n_resident) * BLOCK * n_columns * 4) as u64)?;
        }
        Ok(rows)
    }

    /// Returns the number of rows: n.
    pub(super) fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Returns the number of columns: D.
    pub(super) fn n_columns(&self) -> usize {
        self.n_columns
    }

    /// Applies `f` to every block and the number of its first row. The results are in order, so that sums over them
    /// do not depend on the number of threads.
    pub(super) fn map<T: Send>(
        &self,
        f: impl Fn(usize, ArrayView2<'_, f32>) -> T + Sync,
    ) -> Result<Vec<T>, RowsError> {
        (0..self.n_rows.div_ceil(BLOCK))
            .into_par_iter()
            .map(|idx| match self.resident.get(idx) {
                Some(block) => Ok(f(idx * BLOCK, block.view())),
                None => Ok(f(idx * BLOCK, self.read(idx)?.view())),
            })
            .collect()
    }

    fn read(&self, idx: usize) -> Result<Array2<f32>, RowsError> {
        let n_rows = BLOCK.min(self.n_rows - idx * BLOCK);
        let mut bytes = vec![0; n_rows * self.n_columns * 4];
        let offset = (idx - self.resident.len()) * BLOCK * self.n_columns * 4;
        let file = self.spilled.as_ref().ok_or_else(|| io::Error::other("it is gone"))?;
        file.read_exact_at(&mut bytes, offset as u64)?;
        let numbers = bytes.chunks_exact(4).map(|four| {
            let mut number = [0; 4];
            number.copy_from_slice(four);
            f32::from_le_bytes(number)
        });
        Array2::from_shape_vec((n_rows, self.n_columns), numbers.collect())
            .map_err(|error| io::Error::other(error).into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::data::{Block, EmbeddingCache, FeatureRow, Layout, Surfaces};
    use super::*;
    use crate::types::{Embedding, Encode, EncodeError, Kept, Tokens};

    /// Number of distinct embeddings, which have shape `[TEXTS, 3]`.
    const TEXTS: u32 = 40;

    /// An encoder that returns three sines of a text's only token.
    struct Sines;

    impl Encode for Sines {
        fn encode(&mut self, batch: &[&Tokens]) -> Result<Vec<Embedding>, EncodeError> {
            let of = |tokens: &&Tokens| (1..4).map(|k| (k as f32 * tokens.ids[0] as f32).sin()).collect();
            Ok(batch.iter().map(of).collect())
        }
    }

    fn examples() -> Examples {
        let dir = tempfile::tempdir().unwrap();
        let mut cache = EmbeddingCache::open(dir.path(), "sines", 3).unwrap();
        let tokens = |id| Tokens { ids: vec![id], type_ids: vec![0], kept: Kept::default() };
        let texts: Vec<Tokens> = (0..TEXTS).map(tokens).collect();
        let embeddings = cache.embed(&texts, &mut [Box::new(Sines)], |_| ()).unwrap();
        let row = |(idx, &response): (usize, &u32)| FeatureRow {
            prompt: None,
            response: Some(response),
            log_length: idx as f32,
            surface: 0,
        };
        Examples {
            layout: Layout { blocks: vec![Block::Response, Block::LogLength], n_embedding: 3, n_lexical: 0 },
            rows: embeddings.iter().enumerate().map(row).collect(),
            prompts: Vec::new(),
            pairs: Vec::new(),
            surfaces: Surfaces::new().unwrap(),
            averaged: Vec::new(),
            average: Vec::new(),
            cache,
        }
    }

    #[test]
    fn rows_on_disk_are_the_rows_in_memory() {
        let examples = examples();
        let n_texts = TEXTS as usize;
        // These sizes end in a whole block or in a partial one.
        for n_pairs in [1, BLOCK, 3 * BLOCK, 3 * BLOCK + 17] {
            let pairs: Vec<(usize, usize)> =
                (0..n_pairs).map(|i| (i % n_texts, (i / n_texts + 1) % n_texts)).collect();
            let scales = Array1::from(vec![1.0, 0.5, 2.0, 0.1]);
            let of = |resident: usize| {
                let rows = Differences::within(&examples, &pairs, &scales, resident).unwrap();
                assert_eq!((rows.n_rows(), rows.n_columns()), (n_pairs, 4));
                (rows.spilled.is_some(), rows.map(|first, block| (first, block.to_owned())).unwrap())
            };
            let (is_spilled, on_disk) = of(0);
            let (none_is_spilled, in_memory) = of(RESIDENT);
            assert_eq!((is_spilled, none_is_spilled), (n_pairs > BLOCK, false));
            assert_eq!(on_disk, in_memory);
            let (a, b) = pairs[n_pairs - 1];
            let last = (examples.features(&[a]).unwrap() - examples.features(&[b]).unwrap()) * &scales;
            let (first, block) = on_disk.last().unwrap();
            assert_eq!(first + block.nrows(), n_pairs);
            assert_eq!(block.row(block.nrows() - 1), last.row(0));
        }
    }
}
