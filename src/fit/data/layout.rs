//! The columns that heads learn from.

use crate::surface::N_STYLE;

/// The columns of the heads' input for a prompt and a response, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The blocks, in order.
    pub blocks: Vec<Block>,
    /// Number of components of an embedding: H.
    pub n_embedding: usize,
    /// Number of lexical columns: P.
    pub n_lexical: usize,
}

/// The numbers that one row is made of.
pub(super) struct Parts {
    pub(super) prompt: Vec<f32>,
    pub(super) response: Vec<f32>,
    pub(super) style: Vec<f32>,
    pub(super) lexical: Vec<f32>,
    pub(super) log_length: f32,
}

impl Parts {
    /// Returns zeros, for rows of `layout`.
    pub(super) fn of(layout: &Layout) -> Self {
        let zeros = |n: usize| vec![0.0; n];
        let [prompt, response] = [zeros(layout.n_embedding), zeros(layout.n_embedding)];
        Self { prompt, response, style: zeros(N_STYLE), lexical: zeros(layout.n_lexical), log_length: 0.0 }
    }
}

/// A block of columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Block {
    /// The embedding of the response, or of prompt and response as one pair: H columns.
    Response,
    /// The embedding of the prompt: H columns.
    Prompt,
    /// The elementwise product of the two: H columns.
    Product,
    /// Their scalar product, which is the cosine where embeddings have length 1: 1 column.
    Similarity,
    /// `ln(1 + characters of the response's tokens that are kept)`: 1 column.
    LogLength,
    /// The style of the response: `N_STYLE` columns.
    Style,
    /// The lexical columns of the response: P columns.
    Lexical,
}

impl Layout {
    /// Returns the number of columns: D.
    #[must_use]
    pub fn n_columns(&self) -> usize {
        self.blocks.iter().map(|&block| self.width(block)).sum()
    }

    /// Returns the number of columns of a block.
    #[must_use]
    pub fn width(&self, block: Block) -> usize {
        match block {
            Block::Similarity | Block::LogLength => 1,
            Block::Style => N_STYLE,
            Block::Lexical => self.n_lexical,
            Block::Response | Block::Prompt | Block::Product => self.n_embedding,
        }
    }

    /// True if a row depends on the prompt's own embedding.
    #[must_use]
    pub fn reads_the_prompt(&self) -> bool {
        self.blocks.iter().any(|block| matches!(block, Block::Prompt | Block::Product | Block::Similarity))
    }

    /// True if a row depends on the response's embedding.
    pub(super) fn reads_the_response(&self) -> bool {
        self.blocks.iter().any(|block| matches!(block, Block::Response | Block::Product | Block::Similarity))
    }

    /// Returns the columns that a bundle has to feed: products are made inside the heads' graph.
    #[must_use]
    pub fn inputs(&self) -> Vec<Block> {
        let mut inputs: Vec<Block> = Vec::new();
        for &block in &self.blocks {
            let parts: &[Block] = match block {
                Block::Product | Block::Similarity => &[Block::Response, Block::Prompt],
                _ => &[block],
            };
            for part in parts {
                if !inputs.contains(part) {
                    inputs.push(*part);
                }
            }
        }
        inputs
    }

    /// Returns the first column of the log length, if there is one.
    #[must_use]
    pub fn log_length(&self) -> Option<usize> {
        let position = self.blocks.iter().position(|&block| block == Block::LogLength)?;
        Some(self.blocks[..position].iter().map(|&block| self.width(block)).sum())
    }

    /// Writes one row of D columns; `prompt` is read only if [`Self::reads_the_prompt`].
    pub(super) fn write(&self, row: &mut [f32], parts: &Parts) {
        let Parts { prompt, response, style, lexical, log_length } = parts;
        let mut rest = row;
        for &block in &self.blocks {
            let (columns, after) = rest.split_at_mut(self.width(block));
            match block {
                Block::Response => columns.copy_from_slice(response),
                Block::Prompt => columns.copy_from_slice(prompt),
                Block::Product => {
                    for ((column, p), r) in columns.iter_mut().zip(prompt).zip(response) {
                        *column = p * r;
                    }
                }
                Block::Similarity => columns.fill(prompt.iter().zip(response).map(|(p, r)| p * r).sum()),
                Block::LogLength => columns.fill(*log_length),
                Block::Style => columns.copy_from_slice(style),
                Block::Lexical => columns.copy_from_slice(lexical),
            }
            rest = after;
        }
    }
}
