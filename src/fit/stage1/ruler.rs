//! Rulers: heads that a mixture has to beat, two of which read no embedding.

use ndarray::Array1;

use super::single::calibrated_single;
use crate::fit::data::{Block, Examples};
use crate::fit::differences::RowsError;

/// Ridge of the lexical ruler, which has as many columns as texts tell apart.
const LEXICAL_RIDGE: f64 = 30.0;

/// Ridge of the style ruler, whose columns are few.
const STYLE_RIDGE: f64 = 300.0;

/// One head for everybody, learned from the same pairs as the mixture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruler {
    /// The columns that the mixture reads: K = 1.
    Single,
    /// Style and length.
    Style,
    /// The lexical columns: TF-IDF.
    Lexical,
}

impl Ruler {
    /// Every ruler.
    pub const ALL: [Self; 3] = [Self::Single, Self::Style, Self::Lexical];

    /// Returns the name in tables.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Single => "single head",
            Self::Style => "style ruler",
            Self::Lexical => "lexical ruler",
        }
    }

    /// Returns every row's log-odds under the head that is learned from `pairs` (positions, not empty), up to a constant,
    /// shape `[rows]`. `ridge` is the single head's; rulers without an embedding have their own.
    ///
    /// # Errors
    /// As [`super::learn`].
    pub fn log_odds(
        self,
        examples: &mut Examples,
        pairs: &[usize],
        ridge: f64,
        scalar_scale: f64,
    ) -> Result<Array1<f64>, RowsError> {
        let (blocks, ridge) = match self {
            Self::Single => return measured(examples, pairs, ridge, scalar_scale),
            Self::Style => (vec![Block::Style, Block::LogLength], STYLE_RIDGE),
            Self::Lexical => (vec![Block::Lexical], LEXICAL_RIDGE),
        };
        if self == Self::Lexical && examples.layout.n_lexical == 0 {
            return Ok(Array1::zeros(examples.rows.len()));
        }
        let before = examples.set_blocks(blocks)?;
        let log_odds = measured(examples, pairs, ridge, scalar_scale);
        examples.set_blocks(before)?;
        log_odds
    }
}

fn measured(
    examples: &Examples,
    pairs: &[usize],
    ridge: f64,
    scalar_scale: f64,
) -> Result<Array1<f64>, RowsError> {
    let (head, beta) = calibrated_single(examples, pairs, ridge, scalar_scale)?;
    let rewards = examples.rewards(&head)?;
    Ok(rewards.column(0).mapv(|reward| beta * reward))
}
