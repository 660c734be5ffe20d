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

/// The pairs that a ruler is learned from, and the options of learning.
#[derive(Debug, Clone, Copy)]
pub struct RulerLesson<'a> {
    /// The positions of pairs, not empty.
    pub pairs: &'a [usize],
    /// Ridge of the single head; rulers without an embedding have their own.
    pub ridge: f64,
    /// Scale of scalars relative to the columns of embeddings.
    pub scalar_scale: f64,
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

    /// Returns every row's reward by the head that is learned as `how` says, shape `[rows]`.
    ///
    /// # Errors
    /// As [`super::learn`].
    pub fn rewards(self, examples: &mut Examples, how: RulerLesson<'_>) -> Result<Array1<f64>, RowsError> {
        self.measure(examples, how, |examples, RulerLesson { pairs, ridge, scalar_scale }| {
            let head = single(examples, pairs, ridge, scalar_scale)?;
            Ok(examples.rewards(&head)?.column(0).to_owned())
        })
    }

    /// Returns the same in log-odds of a choice, by an inverse temperature from people whom the head was not learned
    /// from.
    ///
    /// # Errors
    /// As [`super::learn`].
    pub fn log_odds(self, examples: &mut Examples, how: RulerLesson<'_>) -> Result<Array1<f64>, RowsError> {
        self.measure(examples, how, |examples, RulerLesson { pairs, ridge, scalar_scale }| {
            let (head, beta) = calibrated_single(examples, pairs, ridge, scalar_scale)?;
            Ok(examples.rewards(&head)?.column(0).mapv(|reward| beta * reward))
        })
    }

    /// Applies `of` to the examples in the ruler's columns, with its ridge; zeros where it has no column.
    fn measure(
        self,
        examples: &mut Examples,
        how: RulerLesson<'_>,
        of: impl FnOnce(&Examples, RulerLesson<'_>) -> Result<Array1<f64>, RowsError>,
    ) -> Result<Array1<f64>, RowsError> {
        let (blocks, ridge) = match self {
            Self::Single => return of(examples, how),
            Self::Style => (vec![Block::Style, Block::LogLength], STYLE_RIDGE),
            Self::Lexical if examples.layout.n_lexical == 0 => return Ok(Array1::zeros(examples.rows.len())),
            Self::Lexical => (vec![Block::Lexical], LEXICAL_RIDGE),
        };
        let before = examples.set_blocks(blocks)?;
        let measured = of(examples, RulerLesson { ridge, ..how });
        examples.set_blocks(before)?;
        measured
    }
}
