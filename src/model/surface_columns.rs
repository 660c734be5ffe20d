//! The surface columns that a bundle's heads read: computed where a text is tokenized, and kept beside its embedding.

use std::collections::HashMap;
use std::sync::Arc;

use crate::surface::{Lexical, N_STYLE, PieceStyle, buckets, style};

/// The pieces of a vocabulary, and the blocks of columns to compute.
#[derive(Debug)]
pub(super) struct SurfaceColumns {
    /// The style of every piece, by its id.
    pieces: HashMap<u32, PieceStyle>,
    has_style: bool,
    lexical: Option<Lexical>,
}

impl SurfaceColumns {
    /// Creates columns of no block.
    pub(super) fn new(pieces: HashMap<u32, PieceStyle>) -> Self {
        Self { pieces, has_style: false, lexical: None }
    }

    pub(super) fn turn_on(&mut self, has_style: bool, lexical: Option<Lexical>) {
        self.has_style = has_style;
        self.lexical = lexical;
    }

    /// Returns the columns of a text from the ids of its tokens.
    pub(super) fn of(&self, ids: &[u32]) -> Arc<[f32]> {
        let style = self.has_style.then(|| self.style(ids));
        let lexical = self.lexical.as_ref().map(|lexical| lexical.columns(&buckets(ids)));
        style.into_iter().flatten().chain(lexical.into_iter().flatten()).collect()
    }

    /// Returns the style of a text, shape `[N_STYLE]`.
    pub(super) fn style(&self, ids: &[u32]) -> [f32; N_STYLE] {
        style(ids.iter().filter_map(|&id| self.pieces.get(&id)))
    }

    pub(super) fn lexical(&self) -> Option<&Lexical> {
        self.lexical.as_ref()
    }
}
