//! Rulers: heads that a mixture has to beat, two of which read no embedding.

use ndarray::Array1;

use super::single::{calibrated_single, single};
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

    /// Returns every row's reward by the head that is learned from `pairs` (positions, not empty), shape `[rows]`.
    /// `ridge` is the single head's; rulers without an embedding have their own.
    ///
    /// # Errors
    /// As [`super::learn`].
    pub fn rewards(
        self,
        examples: &mut Examples,
        pairs: &[usize],
        ridge: f64,
        scalar_scale: f64,
    ) -> Result<Array1<f64>, RowsError> {
        self.measure(examples, ridge, |examples, ridge| {
            let head = single(examples, pairs, ridge, scalar_scale)?;
            Ok(examples.rewards(&head)?.column(0).to_owned())
        })
    }

    /// Returns the same in log-odds of a choice, by an inverse temperature from people whom the head was not learned
    /// from.
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
        self.measure(examples, ridge, |examples, ridge| {
            let (head, beta) = calibrated_single(examples, pairs, ridge, scalar_scale)?;
            Ok(examples.rewards(&head)?.column(0).mapv(|reward| beta * reward))
        })
    }

    /// Applies `of` to the examples in the ruler's columns, with its ridge; zeros where it has no column.
    fn measure(
        self,
        examples: &mut Examples,
        ridge: f64,
        of: impl FnOnce(&Examples, f64) -> Result<Array1<f64>, RowsError>,
    ) -> Result<Array1<f64>, RowsError> {
        let (blocks, ridge) = match self {
            Self::Single => return of(examples, ridge),
            Self::Style => (vec![Block::Style, Block::LogLength], STYLE_RIDGE),
            Self::Lexical if examples.layout.n_lexical == 0 => return Ok(Array1::zeros(examples.rows.len())),
            Self::Lexical => (vec![Block::Lexical], LEXICAL_RIDGE),
        };
        let before = examples.set_blocks(blocks)?;
        let measured = of(examples, ridge);
        examples.set_blocks(before)?;
        measured
    }
}
